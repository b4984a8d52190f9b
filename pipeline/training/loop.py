"""The training loop of every network: schedule, history, checkpoint and resume.

Everything random in an epoch is drawn from the seed and the epoch's number alone, so a
run that was killed goes on from its last whole epoch to the very same result.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.errors import UserError
from pipeline.io.tables import write_table
from pipeline.models.backbone import freeze, freeze_batch_norm
from pipeline.models.batch_norm import synchronize_batch_norm
from pipeline.runtime.device import channels_last
from pipeline.runtime.progress import progress
from pipeline.training.batches import Batch, Division, Samples, batches_of_epoch, divide, seed_of
from pipeline.training.checkpoint import State, restore_checkpoint, save_checkpoint, state_of
from pipeline.training.optimization import make_optimizer, rate_factor

#: Maps the model, a part of a step's samples, the share of all steps done, and the part's weights
#: (see `counts` of :func:`train`) to named losses; "loss" is minimized.
Step = Callable[[nn.Module, Batch, float, Tensor], dict[str, Tensor]]
#: Gives, of a part's targets, the number of things that each mean in its loss is over.
Counts = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    settings : mapping
        Keys ``epochs``, ``batch_size``, ``accumulate``, ``compile``, ``optimizer``, ``schedule``
        and possibly ``batch_norm``.
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
    frozen: Sequence[nn.Module] = (),
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    validated: Collection[int] | None = None,
    counts: Counts | None = None,
) -> tuple[State, list[dict[str, float]]]:
    """Train a network, or go on with a training that was interrupted.

    Several processes (``fabric.world_size``) share the samples of every step and average
    their gradients; all call this function.

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
        Epochs, optimizer, schedule and seed.
    fabric : Fabric
        Devices and precision.
    checkpoint : Path
        Where the state after every epoch is kept. To be deleted when the result is safe.
    fingerprint : str
        Digest of all that decides the result; a checkpoint with another one is not used.
    workers : int
        Processes that load samples; 0 loads in this one.
    frozen : sequence of nn.Module
        Parts of the network that keep the weights and statistics that they have.
    validate : callable, optional
        Gives further columns of the history after an epoch. All processes call it, with the
        network itself, in evaluation mode and with the statistics of the first process.
    validated : collection of int, optional
        Numbers, from 0, of the epochs after which that is done; all of them without it.
    counts : callable, optional
        Gives what each mean in the loss of a part is over: pixels, or pairs. The step multiplies
        each mean by its weight, the part's share of the whole step's count times the number of
        parts, so that a step has one loss however it is divided. Without it all weights are 1:
        right for means over images, of which all parts have as many.

    Returns
    -------
    state : dict of str to Tensor
        Weights of the kept epoch, on the CPU.
    history : list of dict
        One row an epoch: mean losses, learning rate, seconds, images per second; of those that
        were validated also what ``validate`` gave, and its seconds (``val_seconds``).

    Raises
    ------
    UserError
        If a loss is not finite, or a step cannot be shared equally.
    """
    settings = recipe.settings
    if settings.get("batch_norm") == "synchronized":
        synchronize_batch_norm(model, fabric)
    # Before any process waits for gradients that frozen parameters will not have.
    _keep_frozen(model, head, frozen, settings)
    optimizer = make_optimizer(model, head, settings["optimizer"])
    model.to(memory_format=torch.channels_last)
    compiled = torch.compile(model) if settings["compile"] else model
    network, optimizer = fabric.setup(cast(nn.Module, compiled), optimizer)
    rates = [group["lr"] for group in optimizer.param_groups]
    division = divide(
        len(samples), settings["batch_size"], settings["accumulate"], fabric.world_size
    )
    loop = _Loop(
        fabric, network, optimizer, rates, step, counts, samples, division, recipe, workers
    )
    done = restore_checkpoint(checkpoint, fingerprint, model, optimizer, fabric)
    for epoch in range(done.epoch, settings["epochs"]):
        network.train()
        _keep_frozen(model, head, frozen, settings)
        row = loop.run_epoch(epoch)
        if validate is not None and (validated is None or epoch in validated):
            row |= _validate(validate, model, fabric)
        done.note(row, model, recipe.select_by)
        if fabric.is_global_zero:
            save_checkpoint(checkpoint, fingerprint, model, optimizer, done, fabric)
    return done.best or state_of(model), done.history


def _validate(
    validate: Callable[[nn.Module], dict[str, float]], model: nn.Module, fabric: Fabric
) -> dict[str, float]:
    """Give what a validation finds, and the seconds that it took.

    The network is called without its wrapper, so that processes may call it differently often.
    """
    started = time.monotonic()
    if fabric.world_size > 1:
        for statistic in model.buffers():  # the first process's are those that are kept
            torch.distributed.broadcast(statistic, src=0)
    model.eval()
    with fabric.autocast():
        found = validate(model)
    return {**found, "val_seconds": time.monotonic() - started}


def _keep_frozen(
    model: nn.Module, head: nn.Module, frozen: Sequence[nn.Module], settings: Mapping[str, Any]
) -> None:
    """Take out of training what is to stay as it is; after every ``model.train()``."""
    freeze(frozen)
    batch_norm = settings.get("batch_norm")
    if batch_norm in ("frozen", "frozen_statistics"):
        freeze_batch_norm(model, head, affine=batch_norm == "frozen")


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one CSV row per epoch; what an epoch lacks, such as a validation, is left empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    write_table(path, columns, ([row.get(name) for name in columns] for row in history))


@dataclass(frozen=True)
class _Loop:
    """What the steps of all epochs share."""

    fabric: Fabric
    network: _FabricModule
    optimizer: Optimizer
    rates: Sequence[float]
    step: Step
    counts: Counts | None
    samples: Samples
    division: Division
    recipe: Recipe
    workers: int

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Take the steps of one epoch and give its row of the history."""
        started = time.monotonic()
        seed, epochs = self.recipe.seed, self.recipe.settings["epochs"]
        # Processes draw their dropout independently; the samples are drawn apart from it.
        torch.manual_seed(seed_of(seed, epoch, *filter(None, [self.fabric.global_rank])))
        batches = batches_of_epoch(
            self.samples, self.division, seed, epoch, workers=self.workers, fabric=self.fabric
        )
        steps = self.division.steps(len(self.samples))
        sums: dict[str, float] = {}
        title = f"epoch {epoch + 1} of {epochs}"
        for index in progress(range(steps), total=steps, what=title, unit="steps"):
            share = (epoch * steps + index) / (epochs * steps)
            rate = self._set_rates(share)
            for name, value in self._take_step(batches, share).items():
                sums[name] = sums.get(name, 0.0) + _finite(name, value, epoch) / steps
        seconds = time.monotonic() - started
        speed = steps * self.division.batch_size / seconds
        times = {"seconds": seconds, "images_per_second": speed}
        return {"epoch": epoch + 1, **sums, "learning_rate": rate, **times}

    def _set_rates(self, share: float) -> float:
        """Set the learning rates of a step, and give that of the first group."""
        factor = rate_factor(share, **self.recipe.settings["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        return self.rates[0] * factor

    def _take_step(self, batches: Iterator[Batch], share: float) -> dict[str, float]:
        """Take one step of the optimizer and give the mean losses of all its parts."""
        parts = self.division.accumulate
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        waiting = [next(batches) for _ in range(parts)]
        weights = self._weights([targets for _, targets in waiting])
        for part in range(parts):
            images, targets = self.fabric.to_device(waiting[part])
            # Gradients travel between processes once a step, after its last part.
            with self.fabric.no_backward_sync(self.network, enabled=part < parts - 1):
                batch = (channels_last(images), targets)
                losses = self.step(self.network, batch, share, weights[part])
                self.fabric.backward(losses["loss"] / parts)
            for name, value in self._numbers(losses).items():
                sums[name] = sums.get(name, 0.0) + value / parts
        self.optimizer.step()
        return sums

    def _weights(self, targets: Sequence[Tensor]) -> Tensor:
        """Give the weight of each mean in the loss of each part: (parts, means)."""
        device = self.fabric.device
        if self.counts is None or len(targets) * self.fabric.world_size == 1:
            return torch.ones(len(targets), 1, device=device)
        own = torch.stack([self.counts(part) for part in targets]).to(device).double()
        mean = cast(Tensor, self.fabric.all_reduce(own.mean(dim=0), reduce_op="mean"))
        # Of what the whole step lacks, every part's mean is zero.
        return (own / torch.where(mean > 0, mean, 1)).float()

    def _numbers(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Give the mean of the losses over all processes, in one transfer."""
        device = self.fabric.device
        values = torch.stack([value.detach().to(device).float() for value in losses.values()])
        means = cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))
        return dict(zip(losses, means.tolist(), strict=True))


def _finite(name: str, value: float, epoch: int) -> float:
    if not math.isfinite(value):
        raise UserError(
            f"{name} became {value} in epoch {epoch + 1}: lower the learning rate or add warmup"
        )
    return value
