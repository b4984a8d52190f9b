"""Checks of the machine and the working folder before anything runs."""

import fcntl
import math
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.io.files import NO_LOCKS
from pipeline.planning.full_supervision import unmasked_images
from pipeline.planning.inputs import (
    downloaded_files,
    given_files,
    made_files,
    missing,
    named_paths,
)
from pipeline.planning.plan import Plan
from pipeline.planning.region_check import region_problems

#: Seconds by which the clock of a file server may be ahead of this machine's clock.
CLOCK_TOLERANCE = 1.0
#: Snakemake's folder in the working folder, and its folder of locks.
STATE = Path(".snakemake")
LOCKS = STATE / "locks"


def problems(plan: Plan, paths: Sequence[Path | str]) -> list[str]:
    """Return problems that would otherwise end a run late or with an unclear message.

    Parameters
    ----------
    plan : Plan
    paths : sequence of Path or str
        Paths of Python, the checkout and the working folder.

    Returns
    -------
    list of str
        One line for each problem. Files are checked only if names have no problem, and the data
        set is read only if no file is missing.
    """
    given = named_paths(plan.config)
    braces = [*path_problems(paths), *named_path_problems(given)]
    names = [*braces, *locale_problems(plan.config, paths)]
    inputs = [*given_files(plan), *downloaded_files(plan)]
    files = names or list(missing(plan)) or list(future_problems(inputs))
    return files or [*unmasked_images(plan), *region_problems(plan)]


def quote_interpreter() -> None:
    """Quote the path of Python, so that jobs start if it contains a space or a bracket.

    Snakemake writes ``sys.executable`` into the command lines of jobs without quotes.
    """
    # A workflow that uses this one as a module reads the Snakefile more than once.
    if Path(sys.executable).is_file():
        sys.executable = shlex.quote(sys.executable)


def path_problems(paths: Iterable[Path | str]) -> Iterator[str]:
    """Yield paths with braces, which Snakemake would take for wildcards."""
    for path in paths:
        if set("{}") & set(str(path)):
            yield (
                f"{path}: a path with a brace, which Snakemake takes for a wildcard: rename or "
                "move the folder"
            )


def named_path_problems(named: Mapping[str, str]) -> Iterator[str]:
    """Yield one problem that lists all configured paths with braces."""
    braced = [f"{path} ({key})" for key, path in named.items() if set("{}") & set(path)]
    if braced:
        yield (
            f"{', '.join(braced)}: a path in the configuration with a brace, which Snakemake takes "
            "for a wildcard, expected one without: rename or move the file or folder"
        )


def locale_problems(config: Mapping[str, Any], paths: Iterable[Path | str]) -> Iterator[str]:
    """Yield a name that the locale's encoding of file names cannot represent.

    Jobs use UTF-8 in every locale (:func:`use_utf8`), but this process has already started.

    Parameters
    ----------
    config : mapping
        The resolved configuration.
    paths : iterable of Path or str
        Further paths: the checkout and the working folder.
    """
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return
    named = [*_strings(config), *map(str, paths)]
    if foreign := next((name for name in named if not name.isascii()), None):
        yield (
            f"{foreign!a}: a name with non-ASCII characters, while file names are {encoding} in "
            "this locale: expected UTF-8, set LC_ALL=C.UTF-8 in front of snakemake"
        )


def use_utf8() -> None:
    """Make jobs read and write names and text as UTF-8 in every locale."""
    os.environ["PYTHONUTF8"] = "1"


def future_problems(paths: Iterable[str]) -> Iterator[str]:
    """Yield input files that are dated in the future.

    Outputs would be older than such an input. Snakemake takes that for clock skew, fails the job
    and deletes the outputs.
    """
    for path in paths:
        ahead = _seconds_ahead(path)
        if ahead > CLOCK_TOLERANCE:
            yield (
                f"{path}: dated {ahead:.0f} seconds in the future, expected a time that has "
                f"passed: set it to now with `touch {shlex.quote(path)}`, or {_correct_clock()}"
            )


def future_results(plan: Plan) -> Iterator[str]:
    """Yield one problem that names the first result dated in the future.

    A project that was copied from a machine whose clock is ahead has such results. All of them
    get one time: of two results, neither is newer.
    """
    for path in made_files(plan):
        ahead = _seconds_ahead(path)
        if ahead > CLOCK_TOLERANCE:
            yield (
                f"{path}: dated {ahead:.0f} seconds in the future, expected a time that has "
                f"passed: set all results of that kind to now by `find {shlex.quote(plan.home)} "
                f'-newermt now -exec touch -d "@$(date +%s)" {{}} +`, or {_correct_clock()}'
            )
            return


def _seconds_ahead(path: str) -> float:
    """Return by how much a file is dated in the future; negative for the past."""
    try:
        return Path(path).stat().st_mtime - time.time()
    except OSError:  # a broken link, or deleted meanwhile
        return -math.inf


def _correct_clock() -> str:
    return f"correct the clock of this machine ({time.strftime('%Y-%m-%d %H:%M:%S')})"


def announce_run(home: str) -> str | None:
    """Lock a file of this folder, and return a message if the experiment is locked.

    The kernel frees this lock when the process ends, for whatever reason. It tells a Snakemake
    lock left by a killed run from the lock of a run in progress.

    Parameters
    ----------
    home : str
        Folder of the experiment, as written in the paths that Snakemake locks.

    Returns
    -------
    str or None
        A line for the user; None if no file of the experiment is locked.
    """
    holder = _lock_for_process(STATE / "wsss-run")
    if not _is_locked(home):
        return None
    if holder is not None:
        return (
            f"{home} is in use by another run (process {holder}): wait until it has ended, or "
            "stop it. For a parallel run use another `experiment` or another working folder"
        )
    return (
        f"{home} is locked by a run that was killed: unlock it with the same command and "
        "`--unlock` in front of --configfile, then run again"
    )


def _lock_for_process(path: Path) -> str | None:
    """Lock a file until this process ends, or return the process that has locked it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The file stays open, since closing it would free the lock.
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None  # the folder is not writable, which Snakemake reports
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(file, 200).decode(errors="replace")
        os.close(file)
        return None if error.errno in NO_LOCKS else holder or "unknown"
    os.truncate(file, 0)
    os.write(file, f"{os.getpid()} on {socket.gethostname()}".encode())
    return None


def _is_locked(home: str) -> bool:
    """Return whether Snakemake has locked a file below a folder."""
    return any(
        line.startswith(f"{home}/")
        for path in LOCKS.glob("*.lock")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
    )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
