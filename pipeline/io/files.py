"""Atomic writing, locks, digests, and the error for damaged files."""

import errno
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from safetensors import SafetensorError

from pipeline.errors import UserError

logger = logging.getLogger(__name__)

#: Errors of file systems without locks.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_SPACE = f"os error {errno.ENOSPC}"
# The umask can only be read by setting it, which would affect other threads later.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        # Safetensors makes files private to their owner; use the permissions of the umask.
        partial.chmod(0o666 & ~_UMASK)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        # Pillow's error does not name the path, and safetensors has its own error for a full disk.
        if getattr(error, "errno", None) == errno.ENOSPC or _NO_SPACE in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Make other processes that write the same file wait, in other checkouts too.

    Snakemake locks a working directory, but several may share downloads. The lock is a file
    beside ``path``. The kernel frees it when the process ends, for whatever reason.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(f".{path.name}.lock")
    file = _lock(lock_path)
    try:
        yield
    finally:
        lock_path.unlink(missing_ok=True)
        file.close()


def _lock(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logger.warning("%s: this disk has no locks: do not start two downloads at once", path)
            return file
        # The previous holder deletes the lock file, so another one may have taken its place.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """Return the first 16 digits of a file's SHA-256, enough to detect changes."""
    return sha256_of(path)[:16]


#: Advice on a damaged file that a job has made, and on one that may be the user's own.
MAKE_AGAIN = "delete it and make it again"
REPLACE = "replace the file, or delete it if the workflow downloaded it, and run again"


def damaged(path: Path, what: str, error: Exception | str, advice: str = MAKE_AGAIN) -> UserError:
    """Return the error for a damaged file, by default one that a job has made."""
    return UserError(f"{path}: not a complete {what} ({error}): {advice}")
