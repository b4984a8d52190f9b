"""Digests of the contents of user files; unchanged files are not read again."""

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

#: Snakemake's logger, which prints to the terminal while the Snakefile is read.
logger = logging.getLogger("snakemake.logging")

#: Digests by path, with the size and times of each file when it was read.
MEMORY = Path(".snakemake/wsss-contents.json")
#: Seconds after a change during which a file may change again without a new time stamp.
SETTLED = 2.0
#: Number of bytes that are read without a log message.
QUIET = 2**30
#: Number of files that are read in parallel.
THREADS = 8

#: Size in bytes, mtime and ctime in nanoseconds.
Stamp = list[int]


def contents_digest(paths: Iterable[Path]) -> str:
    """Return a digest of the names and contents of files; absent files are skipped.

    Times do not count: touching a file, or copying it without its time, keeps the digest.

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
    """Return digests by path; read only files that changed, and store their digests."""
    memory = _remembered()
    stamps = dict(_stamps(paths))
    found = ((path, memory.get(str(path), ([], ""))) for path in stamps)
    known = {path: digest for path, (stamp, digest) in found if stamp == stamps[path]}
    unread = [path for path in stamps if path not in known]
    amount = sum(stamps[path][0] for path in unread)
    if amount > QUIET:
        logger.warning(
            "reading %.1f GB in %d files to detect changes; unchanged files are not read again",
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
            # ctime changes with the content even if a copy keeps size and mtime.
            yield path, [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest(path: Path) -> str:
    """Return the digest of a file; empty if it is unreadable, which other checks report."""
    with suppress(OSError):
        if path.is_file():
            return content_digest(path)
    return ""


def _remembered() -> dict[str, tuple[Stamp, str]]:
    try:
        found = json.loads(MEMORY.read_text(encoding="utf-8"))
        return {path: (list(stamp), str(digest)) for path, (stamp, digest) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # absent or damaged: all files are read again


def _remember(memory: dict[str, tuple[Stamp, str]]) -> None:
    with suppress(OSError), replacing(MEMORY) as partial:
        # ASCII with escapes, so that undecodable file names can be written.
        partial.write_text(json.dumps(memory, ensure_ascii=True), encoding="utf-8")
