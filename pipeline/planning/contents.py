"""Digests of the user's files by what is in them, read again only where a file was touched."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pipeline.io.files import content_digest, replacing

#: Snakemake's own, which shows on the terminal: this is called while the Snakefile is read.
logger = logging.getLogger("snakemake.logging")

#: Digests by path, with the size and the times that each file had when it was read.
MEMORY = Path(".snakemake/wsss-contents.json")
#: Seconds after its last change within which a file may change again without another time.
SETTLED = 2.0
#: Bytes that are read without a word.
QUIET = 2**30
#: Files that are read at the same time.
THREADS = 8

#: Size, time of change in nanoseconds, time of the last change of anything about the file.
Stamp = list[int]


def state_of(paths: Iterable[Path]) -> str:
    """Digest the names and the contents of files; those that are absent are left out.

    A time changes nothing: files that were touched, or copied without their times, have the
    state that they had.

    Parameters
    ----------
    paths : iterable of Path
        In any order.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    found = _digests(sorted(set(paths)))
    # Names as the file system has them: the locale decides only how they are shown.
    lines = [os.fsencode(path) + b" " + digest.encode() + b"\n" for path, digest in found.items()]
    return hashlib.sha256(b"".join(lines)).hexdigest()[:16]


def _digests(paths: Sequence[Path]) -> dict[Path, str]:
    """Read what has changed since it was last read, and remember it."""
    memory = _remembered()
    stamps = dict(_stamps(paths))
    found = ((path, memory.get(str(path), ([], ""))) for path in stamps)
    known = {path: digest for path, (stamp, digest) in found if stamp == stamps[path]}
    unread = [path for path in stamps if path not in known]
    amount = sum(stamps[path][0] for path in unread)
    if amount > QUIET:
        logger.warning(
            "reading %.1f GB in %d files to see what is in them: once, and where one was touched",
            amount / 1e9, len(unread),
        )  # fmt: skip
    started = time.time_ns()
    with ThreadPoolExecutor(THREADS) as pool:
        known |= dict(zip(unread, pool.map(_digest, unread), strict=True))
    settled = {
        str(path): (stamps[path], known[path])
        for path in unread
        if known[path] and started - max(stamps[path][1:]) > SETTLED * 1e9
    }
    if settled:
        _remember(memory | settled)
    return {path: known[path] for path in stamps if known[path]}


def _stamps(paths: Iterable[Path]) -> Iterator[tuple[Path, Stamp]]:
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            # The last of them changes with the content even where a copy keeps the others.
            yield path, [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest(path: Path) -> str:
    """Digest a file; an empty digest for what cannot be read, which the data's checks word."""
    with suppress(OSError):
        if path.is_file():
            return content_digest(path)
    return ""


def _remembered() -> dict[str, tuple[Stamp, str]]:
    try:
        found = json.loads(MEMORY.read_text(encoding="utf-8"))
        return {path: (list(stamp), str(digest)) for path, (stamp, digest) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # absent, or damaged: everything is read again


def _remember(memory: dict[str, tuple[Stamp, str]]) -> None:
    with suppress(OSError), replacing(MEMORY) as partial:
        # Escaped, so that names that are no text at all can be written.
        partial.write_text(json.dumps(memory, ensure_ascii=True), encoding="utf-8")
