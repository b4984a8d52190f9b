"""Files that appear whole or not at all, and what to say of one that is damaged."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pipeline.errors import UserError

_NO_SPACE = f"os error {errno.ENOSPC}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        # Pillow's error lacks the path, and safetensors words a full disk in its own way.
        if getattr(error, "errno", None) == errno.ENOSPC or _NO_SPACE in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def damaged(path: Path, what: str, error: Exception | str) -> UserError:
    """Word the problem of a file that a job has made."""
    return UserError(f"{path}: not a whole {what} ({error}): delete it and make it again")
