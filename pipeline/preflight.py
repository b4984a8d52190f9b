"""Checks of the machine and of the folder before anything runs, a line for each problem."""

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

from pipeline.files import NO_LOCKS
from pipeline.sources import downloaded_files, given_files, made_files, missing, named_paths
from pipeline.workflow import Plan

#: Seconds that the clock of a file server may be ahead of this machine's.
CLOCK_TOLERANCE = 1.0
#: What Snakemake keeps in the working folder, and the paths that running jobs have locked.
STATE = Path(".snakemake")
LOCKS = STATE / "locks"


def problems(plan: Plan, paths: Sequence[Path | str]) -> list[str]:
    """Find what would end a run late, or in somebody else's words.

    Parameters
    ----------
    plan : Plan
    paths : sequence of Path or str
        Python, the checkout and the working folder.

    Returns
    -------
    list of str
        A line for each problem; those of files only where there are none of names.
    """
    given = named_paths(plan.config)
    braces = [*path_problems(paths), *named_path_problems(given)]
    names = [*braces, *locale_problems(plan.config, paths)]
    inputs = [*given_files(plan), *downloaded_files(plan)]
    return names or list(missing(plan)) or list(future_problems(inputs))


def quote_interpreter() -> None:
    """Let jobs start where the path of Python has a space or a bracket.

    Snakemake writes ``sys.executable`` into the command lines of its jobs without quoting it.
    """
    # Another workflow that takes this one as a module reads the Snakefile more than once.
    if Path(sys.executable).is_file():
        sys.executable = shlex.quote(sys.executable)


def path_problems(paths: Iterable[Path | str]) -> Iterator[str]:
    """Find braces in paths that Snakemake would take for wildcards."""
    for path in paths:
        if set("{}") & set(str(path)):
            yield (
                f"{path}: a path with a brace, which Snakemake takes for a wildcard: rename or "
                "move the folder"
            )


def named_path_problems(named: Mapping[str, str]) -> Iterator[str]:
    """Find braces in the paths that a configuration gives, by key: one line for all of them."""
    braced = [f"{path} ({key})" for key, path in named.items() if set("{}") & set(path)]
    if braced:
        yield (
            f"{', '.join(braced)}: got a brace, which Snakemake takes for a wildcard, in a path of "
            "the configuration, expected a path without: rename or move the file or folder"
        )


def locale_problems(config: Mapping[str, Any], paths: Iterable[Path | str]) -> Iterator[str]:
    """Find names that the locale's encoding of file names cannot stand for.

    Jobs run in UTF-8 whatever the locale (:func:`use_utf8`); this process has begun already.

    Parameters
    ----------
    config : mapping
        The resolved configuration.
    paths : iterable of Path or str
        Further paths: of the checkout, and of the working folder.
    """
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return
    named = [*_strings(config), *map(str, paths)]
    if foreign := next((name for name in named if not name.isascii()), None):
        yield (
            f"{foreign!a}: a name beyond ASCII, while file names are {encoding} in this "
            "locale: expected UTF-8, set LC_ALL=C.UTF-8 in front of snakemake"
        )


def use_utf8() -> None:
    """Let jobs read and write names and text as UTF-8, whatever the locale."""
    os.environ["PYTHONUTF8"] = "1"


def future_problems(paths: Iterable[str]) -> Iterator[str]:
    """Find input files that are dated in the future.

    What is made of one would be older than it, which Snakemake takes for clock skew: it fails
    the job and deletes what was made.
    """
    for path in paths:
        ahead = _seconds_ahead(path)
        if ahead > CLOCK_TOLERANCE:
            yield (
                f"{path}: dated {ahead:.0f} seconds in the future, expected a time that has "
                f"passed: set it to now by `touch {shlex.quote(path)}`, or {_mend_clock()}"
            )


def future_results(plan: Plan) -> Iterator[str]:
    """Find results that are dated in the future: one problem, which names the first.

    A project that was copied from a machine whose clock is ahead has such results. All of them
    get one time: of two results, neither is newer.
    """
    for path in made_files(plan):
        ahead = _seconds_ahead(path)
        if ahead > CLOCK_TOLERANCE:
            yield (
                f"{path}: dated {ahead:.0f} seconds in the future, expected a time that has "
                f"passed: set all results of that kind to now by `find {shlex.quote(plan.home)} "
                f'-newermt now -exec touch -d "@$(date +%s)" {{}} +`, or {_mend_clock()}'
            )
            return


def _seconds_ahead(path: str) -> float:
    """Return by how much a file is dated in the future; negative for the past."""
    try:
        return Path(path).stat().st_mtime - time.time()
    except OSError:  # a broken link, or deleted meanwhile
        return -math.inf


def _mend_clock() -> str:
    return f"mend this machine's clock ({time.strftime('%Y-%m-%d %H:%M:%S')})"


def announce_run(home: str) -> str | None:
    """Note that this process works in this folder, and word what another one has locked.

    The note is a lock of the kernel's, which ends with the process however it ends. So a lock
    of Snakemake's that a killed run has left can be told from one of a run that goes on.

    Parameters
    ----------
    home : str
        Folder of the experiment, as in the paths that Snakemake locks.

    Returns
    -------
    str or None
        A line for the user; None where nothing of the experiment is locked.
    """
    holder = _take(STATE / "wsss-run")
    if not _is_locked(home):
        return None
    if holder is not None:
        return (
            f"{home} is in use by another run (process {holder}): wait until it has ended, or "
            "stop it. Give another run another `experiment` or a folder of its own"
        )
    return (
        f"{home} is locked by a run that was killed: free it by the same command with "
        "`--unlock` in front of --configfile, then run again"
    )


def _take(path: Path) -> str | None:
    """Lock a file for as long as this process lives, or read who has locked it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Stays open: closing it would free the lock.
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None  # a folder that cannot be written to: Snakemake words that itself
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
    """Tell whether Snakemake has locked a file below a folder."""
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
