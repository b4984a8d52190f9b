"""Which of a machine's GPUs a job works on.

Snakemake counts resources but does not say which GPU is whose. Jobs find out among themselves:
each locks a file per GPU, which the kernel unlocks when the job ends, however it ends.
"""

import fcntl
import logging
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import torch

from pipeline.errors import UserError
from pipeline.runtime.stage import is_first_process

logger = logging.getLogger(__name__)

#: Seconds between two looks for a free GPU.
PAUSE = 2.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Open files, whose locks last as long as this process.
_held: list[IO[bytes]] = []


def visible_gpus() -> list[str]:
    """Name the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` does."""
    # Counting does not start CUDA, so that the variable can still be set afterwards.
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def claim_gpus(count: int, folder: Path | None = None) -> list[str]:
    """Wait until so many GPUs are free, and keep them for this process and its children.

    Parameters
    ----------
    count : int
        At most as many as are visible.
    folder : Path, optional
        Where the lock files are; by default the machine's temporary folder.

    Returns
    -------
    list of str
        The GPUs, which are the only visible ones afterwards.
    """
    if _held or not is_first_process():
        return visible_gpus()  # claimed before, or by the parent
    folder = folder or Path(tempfile.gettempdir())
    names, waited = visible_gpus(), False
    while len(claimed := _try_to_claim(names, count, folder)) < count:
        if not waited:
            logger.info("waiting for %d of the GPUs %s", count, ", ".join(names))
            waited = True
        time.sleep(PAUSE)
    os.environ[_VISIBLE] = ",".join(claimed)
    return claimed


def _try_to_claim(names: list[str], count: int, folder: Path) -> list[str]:
    """Lock so many GPUs, or none: two jobs that hold half each would wait for ever."""
    files: dict[str, IO[bytes]] = {}
    # Jobs of one allocation share its GPUs; those of other ones may number other GPUs alike.
    allocation = "".join(f"-{job}" for job in [os.environ.get("SLURM_JOB_ID")] if job)
    for name in names:
        file = _opened(folder / f"wsss-gpu{allocation}-{name.replace('/', '-')}.lock")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        files[name] = file
        if len(files) == count:
            _held.extend(files.values())
            return list(files)
    for file in files.values():
        file.close()
    return []


def _opened(path: Path) -> IO[bytes]:
    # Somebody else's file in a common folder can be locked, but not opened for writing.
    with suppress(FileExistsError):
        path.touch(exist_ok=False)
        path.chmod(0o644)
    try:
        return path.open("rb")
    except PermissionError as error:
        raise UserError(
            f"{path}: this lock of a GPU cannot be opened: its owner has to delete it, or to let "
            "others read it"
        ) from error
