"""Times of results in a copy of a project that was made without them."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.files import content_digest, replacing

#: Snakemake's own, which shows on the terminal: this is called while the Snakefile is read.
logger = logging.getLogger("snakemake.logging")

#: Notes of what was made: a file for each result, with its digest and the time it was made at.
NOTES = Path(".snakemake/wsss-made")
#: Says where this folder is, so that a copy of it can be told.
PLACE = Path(".snakemake/wsss-place")
#: What Snakemake takes the time of a folder from.
FOLDER_TIME = ".snakemake_timestamp"


def note_made(outputs: Iterable[Path]) -> None:
    """Note what a job has made and when, for :func:`mend_times`.

    Parameters
    ----------
    outputs : iterable of Path
        Files and folders; those that are absent are left out.
    """
    now = time.time_ns()
    for path in outputs:
        if path.exists():
            note = {"path": str(path), "digest": digest_of(path), "time": now}
            with replacing(NOTES / f"{_key(path)}.json") as partial:
                partial.write_text(json.dumps(note), encoding="utf-8")


def mend_times() -> None:
    """Give results in a copy of a project the times they were made at, if they are the same.

    ``cp -r``, and ``rsync`` without ``-t``, leave files in the order of copying. Snakemake would
    take a network that was copied before its manifest for older than it, and train it anew.
    Results of other bytes keep the time they have, so that what depends on them is made again.
    A note from a machine whose clock is ahead counts as one of now.
    """
    if _place() == _read(PLACE):
        return
    notes = [note for path in NOTES.glob("*.json") if (note := _note(path))]
    if notes:
        logger.warning(
            f"this folder is a copy, or was moved: {len(notes)} results are read, and have the "
            "times that they were made at where they are the same"
        )
    now = time.time_ns()
    for note in notes:
        made = min(note["time"], now)
        path = Path(note["path"])
        if path.exists() and digest_of(path) == note["digest"]:
            stamp = path / FOLDER_TIME if path.is_dir() else path
            with suppress(OSError):
                os.utime(stamp if stamp.exists() else path, ns=(made, made))
    with suppress(OSError):  # a folder that cannot be written to: Snakemake words that itself
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        PLACE.touch()
        PLACE.write_text(_place(), encoding="utf-8")


def digest_of(path: Path) -> str:
    """Digest the bytes of a file, or the names and bytes of all files below a folder.

    Links count by where they lead: an export has one for each photograph.
    """
    if path.is_file():
        return content_digest(path)
    lines = (os.fsencode(file.relative_to(path)) + b" " + _content(file) for file in _files(path))
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or (path.is_file() and path.name != FOLDER_TIME):
            yield path


def _content(path: Path) -> bytes:
    return os.fsencode(path.readlink()) if path.is_symlink() else content_digest(path).encode()


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _place() -> str:
    """Describe where the note of this folder's place is; a copy of it is another file."""
    number = PLACE.stat().st_ino if PLACE.exists() else 0
    return f"{number} {Path.cwd()}"


def _read(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8")
    return ""


def _note(path: Path) -> dict[str, Any] | None:
    """Read a note; None where it is damaged."""
    with suppress(ValueError):
        note = json.loads(_read(path))
        if {"path", "digest", "time"} <= note.keys():
            return dict(note)
    return None
