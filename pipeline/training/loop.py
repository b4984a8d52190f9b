"""The training loop of all networks: schedule, history, checkpoint and resume.

All random numbers of an epoch are drawn from the seed and the number of the epoch. An
interrupted run therefore continues from its last finished epoch to the same result.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from pipeline.training.batches import Batch, Division, batches_of_epoch, divide, seed_of
from pipeline.training.checkpoint import State, restore_checkpoint, save_checkpoint, state_of
from pipeline.training.epochs import number_of_epochs
from pipeline.training.optimization import make_optimizer, rate_factor
from pipeline.training.task import Recipe, Task


def train(
    task: Task,
    recipe: Recipe,
    *,
    fabric: Fabric,
    checkpoint: Path,
    fingerprint: str,
    workers: int,
) -> tuple[State, list[dict[str, float]]]:
    """Train a network, or continue an interrupted training.

    Several processes (``fabric.world_size``) divide the samples of each step and average
    their gradients. All of them call this function.

    Parameters
    ----------
    task : Task
        The network, its samples and its losses.
    recipe : Recipe
        Epochs, optimizer, schedule and seed.
    fabric : Fabric
        Devices and precision.
    checkpoint : Path
        File of the state after each epoch. The caller deletes it after saving the result.
    fingerprint : str
        Digest of everything that determines the result. A checkpoint with another fingerprint is
        not used.
    workers : int
        Number of processes that load samples; 0 loads them in this process.

    Returns
    -------
    state : dict of str to Tensor
        Weights of the kept epoch, on the CPU.
    history : list of dict
        One row for each epoch: mean losses, learning rate, seconds, images per second. Epochs
        that were validated also have the columns of ``validate`` and the seconds that it took
        (``val_seconds``).

    Raises
    ------
    UserError
        If a loss is not finite, or a step cannot be divided equally.
    """
    settings, model = recipe.settings, task.model
    if settings.get("batch_norm") == "synchronized":
        synchronize_batch_norm(model, fabric)
    # Frozen parameters get no gradients. Freeze them before processes wait for gradients.
    _keep_frozen(task, settings)
    optimizer = make_optimizer(model, task.head, settings["optimizer"])
    model.to(memory_format=torch.channels_last)
    compiled = torch.compile(model) if settings["compile"] else model
    network, optimizer = fabric.setup(cast(nn.Module, compiled), optimizer)
    rates = [group["lr"] for group in optimizer.param_groups]
    division = divide(
        len(task.samples), settings["batch_size"], settings["accumulate"], fabric.world_size
    )
    epochs = number_of_epochs(settings, len(task.samples))
    loop = _Loop(fabric, network, optimizer, rates, task, division, recipe, workers, epochs)
    done = restore_checkpoint(checkpoint, fingerprint, model, optimizer, fabric)
    for epoch in range(done.epoch, epochs):
        network.train()
        _keep_frozen(task, settings)
        row = loop.run_epoch(epoch)
        if task.validate is not None and (task.validated is None or epoch in task.validated):
            row |= _validate(task.validate, model, fabric)
        done.note(row, model, recipe.select_by)
        if fabric.is_global_zero:
            save_checkpoint(checkpoint, fingerprint, model, optimizer, done, fabric)
    return done.best or state_of(model), done.history


def _validate(
    validate: Callable[[nn.Module], dict[str, float]], model: nn.Module, fabric: Fabric
) -> dict[str, float]:
    """Return the scores of a validation and the seconds that it took.

    The network is called without its wrapper, so that processes may differ in the number of calls.
    """
    started = time.monotonic()
    if fabric.world_size > 1:
        for statistic in model.buffers():  # the statistics of the first process are saved
            torch.distributed.broadcast(statistic, src=0)
    model.eval()
    with fabric.autocast():
        found = validate(model)
    return {**found, "val_seconds": time.monotonic() - started}


def _keep_frozen(task: Task, settings: Mapping[str, Any]) -> None:
    """Freeze parts and batch norm again; call it after every ``model.train()``."""
    freeze(task.frozen)
    batch_norm = settings.get("batch_norm")
    if batch_norm in ("frozen", "frozen_statistics"):
        freeze_batch_norm(task.model, task.head, affine=batch_norm == "frozen")


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one CSV row per epoch; missing values, such as a validation, are left empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    write_table(path, columns, ([row.get(name) for name in columns] for row in history))


@dataclass(frozen=True)
class _Loop:
    """The objects that the steps of all epochs use."""

    fabric: Fabric
    network: _FabricModule
    optimizer: Optimizer
    rates: Sequence[float]
    task: Task
    division: Division
    recipe: Recipe
    workers: int
    epochs: int

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Run the steps of one epoch and return its row of the history."""
        started = time.monotonic()
        seed, epochs = self.recipe.seed, self.epochs
        # Each process draws its own dropout. Samples have seeds of their own.
        torch.manual_seed(seed_of(seed, epoch, *filter(None, [self.fabric.global_rank])))
        batches = batches_of_epoch(
            self.task.samples, self.division, seed, epoch, workers=self.workers, fabric=self.fabric
        )
        steps = self.division.steps(len(self.task.samples))
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
        """Set the learning rates of a step and return the rate of the first group."""
        factor = rate_factor(share, **self.recipe.settings["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        return self.rates[0] * factor

    def _take_step(self, batches: Iterator[Batch], share: float) -> dict[str, float]:
        """Run one step of the optimizer and return the mean losses over its parts."""
        parts = self.division.accumulate
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        waiting = [next(batches) for _ in range(parts)]
        weights = self._weights([targets for _, targets in waiting])
        for part in range(parts):
            images, targets = self.fabric.to_device(waiting[part])
            # Processes exchange gradients once per step, after its last part.
            with self.fabric.no_backward_sync(self.network, enabled=part < parts - 1):
                batch = (channels_last(images), targets)
                losses = self.task.step(self.network, batch, share, weights[part])
                self.fabric.backward(losses["loss"] / parts)
            for name, value in self._numbers(losses).items():
                sums[name] = sums.get(name, 0.0) + value / parts
        self.optimizer.step()
        return sums

    def _weights(self, targets: Sequence[Tensor]) -> Tensor:
        """Return the (parts, means) weights of the means in the loss of each part."""
        device = self.fabric.device
        if self.task.counts is None or len(targets) * self.fabric.world_size == 1:
            return torch.ones(len(targets), 1, device=device)
        own = torch.stack([self.task.counts(part) for part in targets]).to(device).double()
        mean = cast(Tensor, self.fabric.all_reduce(own.mean(dim=0), reduce_op="mean"))
        # Where the whole step has no items, the mean of every part is zero.
        return (own / torch.where(mean > 0, mean, 1)).float()

    def _numbers(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mean of each loss over all processes, computed in one transfer."""
        device = self.fabric.device
        values = torch.stack([value.detach().to(device).float() for value in losses.values()])
        means = cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))
        return dict(zip(losses, means.tolist(), strict=True))


def _finite(name: str, value: float, epoch: int) -> float:
    """Return a loss, or raise a UserError if it is not finite."""
    if not math.isfinite(value):
        raise UserError(
            f"{name} became {value} in epoch {epoch + 1}: lower the learning rate or add warmup"
        )
    return value
