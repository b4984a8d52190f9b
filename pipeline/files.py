"""Files that appear whole or not at all, and what to say of one that is damaged."""

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

#: What a file system says that cannot lock.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_SPACE = f"os error {errno.ENOSPC}"
# It can only be read by setting it, which threads of this process would notice.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        # Safetensors' files are their owner's alone; what is shared is for the umask to say.
        partial.chmod(0o666 & ~_UMASK)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        # Pillow's error lacks the path, and safetensors words a full disk in its own way.
        if getattr(error, "errno", None) == errno.ENOSPC or _NO_SPACE in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that make the same file waiting, those of other checkouts too.

    Snakemake locks a working directory; downloads may be shared by several. The kernel frees
    the lock, a file beside ``path``, when the process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.lock")
    file = _lock(beside)
    try:
        yield
    finally:
        beside.unlink(missing_ok=True)
        file.close()


def _lock(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logger.warning("%s: this disk has no locks: do not download twice at a time", path)
            return file
        # Who had the lock before has deleted its file: another one may stand there by now.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file's bytes in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """Give the first 16 digits of a file's SHA-256: enough to see that it was replaced."""
    return sha256_of(path)[:16]


#: Advice on a damaged file that a job has made, and on one that may be the user's own.
MAKE_AGAIN = "delete it and make it again"
REPLACE = "replace the file, or delete it if the workflow downloaded it, and run again"


def damaged(path: Path, what: str, error: Exception | str, advice: str = MAKE_AGAIN) -> UserError:
    """Word the problem of a damaged file, by default of one that a job has made."""
    return UserError(f"{path}: not a whole {what} ({error}): {advice}")
