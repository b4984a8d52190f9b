"""The training loop of every network: schedule, history, checkpoint and resume.

Everything random in an epoch is drawn from the seed and the epoch's number alone, so a
run that was killed goes on from its last whole epoch to the very same result.
"""

import csv
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader, Dataset

from pipeline.artifacts import read_weights, replacing, write_weights
from pipeline.device import channels_last
from pipeline.errors import UserError
from pipeline.models.backbone import freeze_batch_norm
from pipeline.progress import progress

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]
State = dict[str, Tensor]
#: Maps the model, a batch and the share of all steps done to named losses; "loss" is minimised.
Step = Callable[[nn.Module, Batch, float], dict[str, Tensor]]


class Samples(Protocol):
    """Training samples that are drawn with a seed of their own."""

    def __len__(self) -> int:
        """Count the samples."""

    def sample(self, index: int, seed: int) -> tuple[Tensor, ...]:
        """Give one sample, augmented as ``seed`` says."""


@dataclass
class Progress:
    """What a checkpoint holds beside weights and optimiser."""

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: State | None = None
    best_score: float = float("-inf")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    settings : mapping
        Keys ``epochs``, ``batch_size``, ``batch_norm``, ``optimizer`` and ``schedule``.
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
        Where the state after every epoch is kept until the training ends.
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
    done = _restore(checkpoint, fingerprint, model, optimizer)
    batches = max(1, len(samples) // settings["batch_size"])
    for epoch in range(done.epoch, settings["epochs"]):
        started = time.monotonic()
        torch.manual_seed(_seed_of(recipe.seed, epoch))
        network.train()
        if settings["batch_norm"] == "frozen":
            freeze_batch_norm(network)
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
        _note(done, row, model, recipe.select_by)
        _save(checkpoint, fingerprint, model, optimizer, done)
    checkpoint.unlink(missing_ok=True)
    return done.best or _state(model), done.history


def rate_factor(share: float, *, power: float, warmup: float) -> float:
    """Factor on the learning rate when a share of all steps, in [0, 1], is done."""
    return float(min(1.0, share / warmup) if share < warmup else (1 - share) ** power)


def make_optimizer(model: nn.Module, head: nn.Module, settings: Mapping[str, Any]) -> Optimizer:
    """Make SGD or AdamW with four groups: weights and biases of the backbone and of the head."""
    in_head = {id(parameter) for parameter in head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = (id(parameter) in in_head, name.endswith("bias"))
        groups.setdefault(key, []).append(parameter)
    options = []
    for (of_head, is_bias), parameters in groups.items():
        rate = settings["learning_rate"] * (settings["head_multiplier"] if of_head else 1)
        decays = not is_bias or settings["bias_decay"]
        options.append(
            {
                "params": parameters,
                "lr": rate * (settings["bias_multiplier"] if is_bias else 1),
                "weight_decay": settings["weight_decay"] if decays else 0.0,
            }
        )
    if settings["name"] == "adamw":
        return AdamW(options)
    return SGD(options, momentum=settings["momentum"], nesterov=settings["nesterov"])


def fingerprint_of(*parts: Any) -> str:
    """Digest settings and the content of files (given as paths) into 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        is_file = isinstance(part, Path)
        digest.update(part.read_bytes() if is_file else json.dumps(part, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one CSV row per epoch."""
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


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


def _state(model: nn.Module) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _note(done: Progress, row: dict[str, float], model: nn.Module, select_by: str | None) -> None:
    done.epoch += 1
    done.history.append(row)
    logger.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    if select_by is not None and row[select_by] > done.best_score:
        done.best_score, done.best = row[select_by], _state(model)


def _save(
    path: Path, fingerprint: str, model: nn.Module, optimizer: Optimizer, done: Progress
) -> None:
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if value is not None:
                tensors[f"optimizer/{number}/{name}"] = torch.as_tensor(value)
    tensors |= {f"best/{name}": tensor for name, tensor in (done.best or {}).items()}
    description = {
        "fingerprint": fingerprint,
        "epoch": done.epoch,
        "history": done.history,
        "best_score": done.best_score if done.best else None,
    }
    write_weights(path, tensors, description)


def _restore(path: Path, fingerprint: str, model: nn.Module, optimizer: Optimizer) -> Progress:
    if not path.is_file():
        return Progress()
    tensors, description = read_weights(path)
    if description.get("fingerprint") != fingerprint:
        logger.info("the checkpoint is of other settings or data: the training starts anew")
        return Progress()
    model.load_state_dict(_below(tensors, "model/"))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, "optimizer/").items():
        number, key = name.split("/")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    best = _below(tensors, "best/") or None
    score = description["best_score"]
    logger.info("going on after epoch %d, from the checkpoint", description["epoch"])
    return Progress(
        epoch=description["epoch"],
        history=description["history"],
        best=best,
        best_score=float("-inf") if score is None else score,
    )


def _finite(name: str, value: Tensor, epoch: int) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise UserError(
            f"{name} became {number} in epoch {epoch + 1}: lower the learning rate or add warmup"
        )
    return number


def _below(tensors: Mapping[str, Tensor], prefix: str) -> State:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
