"""Assignment of a machine's GPUs to jobs.

Snakemake counts GPUs but does not assign them. Each job locks one file for each GPU that it uses.
The kernel unlocks the file when the job ends, for whatever reason.
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

#: Seconds between two attempts to find a free GPU.
PAUSE = 2.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Open lock files; their locks last as long as this process.
_held: list[IO[bytes]] = []


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, named as in ``CUDA_VISIBLE_DEVICES``."""
    # Counting does not start CUDA, so the variable can still be set afterwards.
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def claim_gpus(count: int, folder: Path | None = None) -> list[str]:
    """Wait until ``count`` GPUs are free, and lock them for this process and its children.

    Parameters
    ----------
    count : int
        Number of GPUs, at most that of visible ones.
    folder : Path, optional
        Folder of the lock files; by default the machine's temporary folder.

    Returns
    -------
    list of str
        The locked GPUs. Afterwards only these are visible.
    """
    if _held or not is_first_process():
        return visible_gpus()  # already claimed, possibly by the parent
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
    """Lock ``count`` GPUs or none, since two jobs that each hold half would wait forever."""
    files: dict[str, IO[bytes]] = {}
    # Jobs of one allocation share its GPUs. Other allocations may use the same numbers for others.
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
    # Another user's file in a shared folder can be locked, but not opened for writing.
    with suppress(FileExistsError):
        path.touch(exist_ok=False)
        path.chmod(0o644)
    try:
        return path.open("rb")
    except PermissionError as error:
        raise UserError(
            f"{path}: this lock file of a GPU cannot be opened: its owner has to delete it or "
            "make it readable for others"
        ) from error
