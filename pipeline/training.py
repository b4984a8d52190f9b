"""The training loop of every network: schedule, history, checkpoint and resume.

Everything random in an epoch is drawn from the seed and the epoch's number alone, so a
run that was killed goes on from its last whole epoch to the very same result.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pipeline.artifacts import write_table
from pipeline.checkpoint import State, restore_checkpoint, save_checkpoint, state_of
from pipeline.device import channels_last
from pipeline.errors import UserError
from pipeline.models.backbone import freeze_batch_norm
from pipeline.optimization import make_optimizer, rate_factor
from pipeline.progress import progress

Batch = tuple[Tensor, Tensor]
#: Maps the model, a batch and the share of all steps done to named losses; "loss" is minimised.
Step = Callable[[nn.Module, Batch, float], dict[str, Tensor]]


class Samples(Protocol):
    """Training samples that are drawn with a seed of their own."""

    def __len__(self) -> int:
        """Count the samples."""

    def sample(self, index: int, seed: int) -> tuple[Tensor, ...]:
        """Give one sample, augmented as ``seed`` says."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    settings : mapping
        Keys ``epochs``, ``batch_size``, ``optimizer``, ``schedule`` and possibly ``batch_norm``.
    seed : int
        Seed of everything random.
    select_by : str or None
        History column whose highest value chooses the epoch that is kept; None keeps the last.
    """

    settings: Mapping[str, Any]
    seed: int
    select_by: str | None = None


def train(
    model: nn.Module,
    head: nn.Module,
    samples: Samples,
    step: Step,
    recipe: Recipe,
    *,
    fabric: Fabric,
    checkpoint: Path,
    fingerprint: str,
    workers: int,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
) -> tuple[State, list[dict[str, float]]]:
    """Train a network, or go on with a training that was interrupted.

    Parameters
    ----------
    model : nn.Module
        The network; changed in place.
    head : nn.Module
        The part of it that starts from random weights and learns at ``head_multiplier``.
    samples : Samples
        The training set.
    step : callable
        Gives the losses of a batch.
    recipe : Recipe
        Epochs, optimiser, schedule and seed.
    fabric : Fabric
        Device and precision.
    checkpoint : Path
        Where the state after every epoch is kept. To be deleted when the result is safe.
    fingerprint : str
        Digest of all that decides the result; a checkpoint with another one is not used.
    workers : int
        Processes that load samples; 0 loads in this one.
    validate : callable, optional
        Gives further columns of the history after an epoch.

    Returns
    -------
    state : dict of str to Tensor
        Weights of the kept epoch, on the CPU.
    history : list of dict
        One row an epoch: mean losses, learning rate, seconds, images per second.
    """
    settings = recipe.settings
    optimizer = make_optimizer(model, head, settings["optimizer"])
    model.to(memory_format=torch.channels_last)
    network, optimizer = fabric.setup(model, optimizer)
    rates = [group["lr"] for group in optimizer.param_groups]
    done = restore_checkpoint(checkpoint, fingerprint, model, optimizer)
    batches = max(1, len(samples) // settings["batch_size"])
    for epoch in range(done.epoch, settings["epochs"]):
        started = time.monotonic()
        torch.manual_seed(_seed_of(recipe.seed, epoch))
        network.train()
        if settings.get("batch_norm") == "frozen":
            freeze_batch_norm(model, head)
        sums: dict[str, float] = {}
        loader = _loader(samples, settings["batch_size"], recipe.seed, epoch, workers, fabric)
        title = f"epoch {epoch + 1} of {settings['epochs']}"
        for index, batch in enumerate(progress(loader, total=batches, what=title, unit="steps")):
            share = (epoch * batches + index) / (settings["epochs"] * batches)
            factor = rate_factor(share, **settings["schedule"])
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            images, targets = fabric.to_device(batch)
            losses = step(network, (channels_last(images), targets), share)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(losses["loss"])
            optimizer.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + _finite(name, value, epoch) / batches
        seconds = time.monotonic() - started
        count = batches * min(settings["batch_size"], len(samples))
        row = {"epoch": epoch + 1, **sums, "learning_rate": rates[0] * factor}
        row |= {"seconds": seconds, "images_per_second": count / seconds}
        if validate is not None:
            network.eval()
            row |= validate(network)
        done.note(row, model, recipe.select_by)
        save_checkpoint(checkpoint, fingerprint, model, optimizer, done)
    return done.best or state_of(model), done.history


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one CSV row per epoch."""
    write_table(path, list(history[0]), (row.values() for row in history))


class _Epoch(Dataset[tuple[Tensor, ...]]):
    """The samples of one epoch, each with its own seed, in the epoch's order."""

    def __init__(self, samples: Samples, seed: int, epoch: int) -> None:
        self.samples, self.seed, self.epoch = samples, seed, epoch
        self.order = np.random.default_rng([seed, epoch]).permutation(len(samples))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Tensor, ...]:
        index = int(self.order[position])
        return self.samples.sample(index, _seed_of(self.seed, self.epoch, index))


def _loader(
    samples: Samples, batch_size: int, seed: int, epoch: int, workers: int, fabric: Fabric
) -> Iterator[Batch]:
    loader = DataLoader(
        _Epoch(samples, seed, epoch),
        batch_size=min(batch_size, len(samples)),
        drop_last=True,
        num_workers=workers,
        pin_memory=fabric.device.type == "cuda",
    )
    return iter(loader)


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _finite(name: str, value: Tensor, epoch: int) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise UserError(
            f"{name} became {number} in epoch {epoch + 1}: lower the learning rate or add warmup"
        )
    return number
