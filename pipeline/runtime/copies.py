"""Restoring of result times in a copy of a project that lost them."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.io.files import content_digest, replacing
from pipeline.io.repair import FOLDER_TIMESTAMP

#: Snakemake's logger, which prints to the terminal while the Snakefile is read.
logger = logging.getLogger("snakemake.logging")

#: Folder of notes: one file for each result, with its digest and the time it was made.
NOTES = Path(".snakemake/wsss-made")
#: Note of the folder's location, by which a copy of the folder is recognized.
LOCATION = Path(".snakemake/wsss-place")


def record_outputs(outputs: Iterable[Path]) -> None:
    """Write notes of a job's outputs and their time, for :func:`restore_times`.

    Parameters
    ----------
    outputs : iterable of Path
        Files and folders; absent ones are skipped.
    """
    now = time.time_ns()
    for path in outputs:
        if path.exists():
            note = {"path": str(path), "digest": output_digest(path), "time": now}
            with replacing(NOTES / f"{_key(path)}.json") as partial:
                partial.write_text(json.dumps(note), encoding="utf-8")


def restore_times() -> None:
    """Restore the times of results in a copy of a project, if their contents are unchanged.

    After ``cp -r``, or ``rsync`` without ``-t``, times follow the order of copying. Snakemake
    would consider a network older than a manifest that was copied later, and train it again.
    Changed results keep their time, so that results that depend on them are made again. A time in
    the future, noted by a machine whose clock is ahead, counts as now.
    """
    if _location() == _read(LOCATION):
        return
    notes = [note for path in NOTES.glob("*.json") if (note := _note(path))]
    if notes:
        logger.warning(
            f"this folder is a copy, or was moved: {len(notes)} results are read, and unchanged "
            "results get back the times at which they were made"
        )
    now = time.time_ns()
    for note in notes:
        made = min(note["time"], now)
        path = Path(note["path"])
        if path.exists() and output_digest(path) == note["digest"]:
            stamp = path / FOLDER_TIMESTAMP if path.is_dir() else path
            with suppress(OSError):
                os.utime(stamp if stamp.exists() else path, ns=(made, made))
    with suppress(OSError):  # the folder is not writable, which Snakemake reports
        LOCATION.parent.mkdir(parents=True, exist_ok=True)
        LOCATION.touch()
        LOCATION.write_text(_location(), encoding="utf-8")


def output_digest(path: Path) -> str:
    """Return a digest of the bytes of a file, or of names and bytes of all files in a folder.

    Links count by their target path, since an export has one link for each image.
    """
    if path.is_file():
        return content_digest(path)
    lines = (os.fsencode(file.relative_to(path)) + b" " + _content(file) for file in _files(path))
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or (path.is_file() and path.name != FOLDER_TIMESTAMP):
            yield path


def _content(path: Path) -> bytes:
    return os.fsencode(path.readlink()) if path.is_symlink() else content_digest(path).encode()


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _location() -> str:
    """Return inode and location of the note; a copied note has another inode."""
    number = LOCATION.stat().st_ino if LOCATION.exists() else 0
    return f"{number} {Path.cwd()}"


def _read(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8")
    return ""


def _note(path: Path) -> dict[str, Any] | None:
    """Read a note; return None if it is damaged."""
    with suppress(ValueError):
        note = json.loads(_read(path))
        if {"path", "digest", "time"} <= note.keys():
            return dict(note)
    return None
