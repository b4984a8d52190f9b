"""Checkpoints: the state of a training after each epoch, on disk."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.io.arrays import read_weights, write_weights

logger = logging.getLogger(__name__)

State = dict[str, Tensor]


@dataclass
class Progress:
    """The contents of a checkpoint other than weights and optimizer.

    Attributes
    ----------
    epoch : int
        Number of finished epochs.
    history : list of dict
        One row for each epoch.
    best, best_score
        Weights and score of the best epoch so far, if epochs are compared.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: State | None = None
    best_score: float = float("-inf")

    def note(self, row: dict[str, float], model: nn.Module, select_by: str | None) -> None:
        """Add the row of an epoch, and keep the weights if it is the best epoch so far."""
        self.epoch += 1
        self.history.append(row)
        logger.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
        if select_by is not None and row.get(select_by, float("-inf")) > self.best_score:
            self.best_score, self.best = row[select_by], state_of(model)


def fingerprint_of(*parts: Any) -> str:
    """Return the SHA-256 of settings and file contents (passed as paths) as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        is_file = isinstance(part, Path)
        digest.update(part.read_bytes() if is_file else json.dumps(part, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def save_checkpoint(
    path: Path,
    fingerprint: str,
    model: nn.Module,
    optimizer: Optimizer,
    done: Progress,
    fabric: Fabric,
) -> None:
    """Write the state after an epoch."""
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
        # The loss scale of 16-bit training, which keeps gradients in range.
        "precision": fabric.strategy.precision.state_dict(),
    }
    write_weights(path, tensors, description)


def restore_checkpoint(
    path: Path, fingerprint: str, model: nn.Module, optimizer: Optimizer, fabric: Fabric
) -> Progress:
    """Load the state of a checkpoint into model and optimizer, in place.

    Returns
    -------
    Progress
        Progress of the checkpoint. It is empty if there is no checkpoint or if its fingerprint
        differs.
    """
    if not path.is_file():
        return Progress()
    tensors, description = read_weights(path)
    if description.get("fingerprint") != fingerprint:
        logger.info(
            "the checkpoint belongs to other settings or data: training starts from the beginning"
        )
        return Progress()
    model.load_state_dict(_below(tensors, "model/"))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, "optimizer/").items():
        number, key = name.split("/")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    fabric.strategy.precision.load_state_dict(description["precision"])
    best = _below(tensors, "best/") or None
    score = description["best_score"]
    logger.info("continuing after epoch %d, from the checkpoint", description["epoch"])
    return Progress(
        epoch=description["epoch"],
        history=description["history"],
        best=best,
        best_score=float("-inf") if score is None else score,
    )


def state_of(model: nn.Module) -> State:
    """Return a copy of a network's state on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> State:
    """Return the tensors whose names start with a prefix, without the prefix."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
