"""The batches of an epoch: their order, their seeds, and what each process takes of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import UserError

Batch = tuple[Tensor, Tensor]


class Samples(Protocol):
    """Training samples that are drawn with a seed of their own."""

    def __len__(self) -> int:
        """Count the samples."""

    def sample(self, index: int, seed: int) -> tuple[Tensor, ...]:
        """Give one sample, augmented as ``seed`` says."""


@dataclass(frozen=True)
class Division:
    """How the samples of one step are shared.

    A step always sees the same samples, whatever the number of processes: they are cut into
    equal parts, of which each process takes one after the other ``accumulate`` of them.

    Attributes
    ----------
    batch_size : int
        Samples of a step, over all processes.
    accumulate : int
        Parts of a step that a process works on one after the other.
    processes : int
        Processes that work side by side.
    """

    batch_size: int
    accumulate: int
    processes: int

    @property
    def part(self) -> int:
        """Samples of one forward pass of one process."""
        return self.batch_size // (self.accumulate * self.processes)

    def steps(self, samples: int) -> int:
        """Count the whole steps of an epoch."""
        return samples // self.batch_size

    def parts_of(self, order: list[int], process: int) -> list[list[int]]:
        """Give the samples of a process's forward passes of a whole epoch, in order.

        Parameters
        ----------
        order : list of int
            All samples in the epoch's order; those after the last whole step are left out.
        process : int
            Number of the process, from 0.
        """
        starts = range(0, self.steps(len(order)) * self.batch_size, self.part)
        parts = [order[start : start + self.part] for start in starts]
        return parts[process :: self.processes]


def divide(samples: int, batch_size: int, accumulate: int, processes: int) -> Division:
    """Share steps of ``batch_size`` samples, or of all samples where there are fewer.

    Raises
    ------
    UserError
        If the samples of a step cannot be shared equally.
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
    """Load what this process works on in an epoch, one forward pass at a time.

    Parameters
    ----------
    samples : Samples
        The training set.
    division : Division
        How steps are shared.
    seed, epoch : int
        What the order and the augmentation of every sample are drawn from.
    workers : int
        Processes that load samples; 0 loads in this one.
    fabric : Fabric
        This process among all.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(samples)).tolist()
    loader = DataLoader(
        _Seeded(samples, seed, epoch),
        batch_sampler=division.parts_of(order, fabric.global_rank),
        num_workers=workers,
        pin_memory=fabric.device.type == "cuda",
    )
    return iter(loader)


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
