"""The batches of an epoch: order, seeds, and division among processes."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import UserError

Batch = tuple[Tensor, Tensor]

logger = logging.getLogger(__name__)

#: Shared memory of Linux, and the part of it that batches may fill. Communication between GPUs
#: needs the rest.
SHARED_MEMORY, SHARE = Path("/dev/shm"), 0.5  # noqa: S108 - no file of ours
#: Batches that each worker loads ahead, which is PyTorch's default.
PREFETCHED = 2


class Samples(Protocol):
    """Training samples, each drawn with its own seed."""

    def __len__(self) -> int:
        """Count the samples."""

    def sample(self, index: int, seed: int) -> tuple[Tensor, ...]:
        """Return one sample; ``seed`` determines its augmentation."""


@dataclass(frozen=True)
class Division:
    """Division of the samples of one step among processes.

    A step uses the same samples for any number of processes. They are divided into equal
    parts, and each process works on ``accumulate`` parts in turn.

    Attributes
    ----------
    batch_size : int
        Samples of a step in all processes together.
    accumulate : int
        Parts of a step that each process works on in turn.
    processes : int
        Number of parallel processes.
    """

    batch_size: int
    accumulate: int
    processes: int

    @property
    def part(self) -> int:
        """Number of samples in one forward pass of one process."""
        return self.batch_size // (self.accumulate * self.processes)

    def steps(self, samples: int) -> int:
        """Return the number of whole steps in an epoch."""
        return samples // self.batch_size

    def parts_of(self, order: list[int], process: int) -> list[list[int]]:
        """Return the samples of each forward pass of a process in an epoch, in order.

        Parameters
        ----------
        order : list of int
            All samples in the order of the epoch. Samples after the last whole step are left out.
        process : int
            Number of the process, from 0.
        """
        starts = range(0, self.steps(len(order)) * self.batch_size, self.part)
        parts = [order[start : start + self.part] for start in starts]
        return parts[process :: self.processes]


def divide(samples: int, batch_size: int, accumulate: int, processes: int) -> Division:
    """Divide steps of ``batch_size`` samples, or of all samples if there are fewer.

    Raises
    ------
    UserError
        If the samples of a step cannot be divided equally.
    """
    shares = accumulate * processes
    whole = min(batch_size, samples - samples % shares)
    if whole < 1 or whole % shares:
        raise UserError(
            f"batch_size is {batch_size} with {samples} training images, expected a multiple of "
            f"{shares} and as many images: accumulate is {accumulate}, on {processes} devices"
        )
    return Division(whole, accumulate, processes)


def batches_of_epoch(
    samples: Samples, division: Division, seed: int, epoch: int, *, workers: int, fabric: Fabric
) -> Iterator[Batch]:
    """Load the batches of this process in an epoch, one for each forward pass.

    Parameters
    ----------
    samples : Samples
        The training set.
    division : Division
        Division of the steps among processes.
    seed, epoch : int
        Together they determine the order and the augmentation of all samples.
    workers : int
        Number of processes that load samples; 0 loads them in this process.
    fabric : Fabric
        Rank of this process and number of processes.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(samples)).tolist()
    dataset = _Seeded(samples, seed, epoch)
    parts = division.parts_of(order, fabric.global_rank)
    pipes = False
    if workers:
        bytes_of_part = division.part * sum(tensor.nbytes for tensor in dataset[order[0]])
        pipes = needs_pipes(bytes_of_part, workers, fabric.world_size)
    loader = DataLoader(
        dataset,
        batch_sampler=parts,
        num_workers=workers,
        collate_fn=_arrays if pipes else None,
        pin_memory=fabric.device.type == "cuda" and not pipes,
    )
    if not pipes:
        return iter(loader)
    return (cast(Batch, tuple(map(torch.from_numpy, arrays))) for arrays in loader)


def needs_pipes(bytes_of_part: int, workers: int, processes: int) -> bool:
    """Return whether shared memory is too small for the batches that workers load ahead.

    A container has 64 MB of shared memory by default, but a batch of 32 crops of 512 pixels
    has 101 MB. A worker that runs out of shared memory is killed by SIGBUS. Batches are then
    sent through pipes, which need no shared memory. A batch of 100 MB takes some tenths of a
    second.

    Parameters
    ----------
    bytes_of_part : int
        Size of one batch.
    workers : int
        Processes that load samples for one training process.
    processes : int
        Training processes on this machine.
    """
    wanted = bytes_of_part * (PREFETCHED * workers + 1) * processes
    if wanted <= free_shared_memory() * SHARE:
        return False
    _announce()
    return True


def free_shared_memory() -> int:
    """Return the free bytes of shared memory; 0 if the system has none mounted."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


@cache
def _announce() -> None:
    """Log once that batches are sent through pipes."""
    logger.info(
        "%s has %.0f MB free, too little for the batches that are loaded ahead: they are sent "
        "through pipes, which is slightly slower (docker run --shm-size=8g avoids that)",
        SHARED_MEMORY, free_shared_memory() / 1e6,
    )  # fmt: skip


def _arrays(samples: list[tuple[Tensor, ...]]) -> tuple[NDArray[np.generic], ...]:
    """Stack samples to arrays, which workers send through a pipe.

    PyTorch would put tensors, its default batches among them, into shared memory.
    """
    columns = zip(*samples, strict=True)
    return tuple(np.stack([tensor.numpy() for tensor in column]) for column in columns)


def seed_of(*numbers: int) -> int:
    """Mix numbers into one seed below 2^63."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class _Seeded(Dataset[tuple[Tensor, ...]]):
    """The samples of one epoch, each with its own seed."""

    def __init__(self, samples: Samples, seed: int, epoch: int) -> None:
        self.samples, self.seed, self.epoch = samples, seed, epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.samples.sample(index, seed_of(self.seed, self.epoch, index))
