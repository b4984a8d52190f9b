"""A tiny classifier, samples and settings of its training, and the call of a training stage."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.stages.fit_probe import fit_probe

NETWORK: dict[str, Any] = {
    "backbone": "test_resnet",
    "pretrained": False,
    "output_stride": 16,
    "pooling": "gap",
}
PUZZLE = {"pieces": 4, "alpha": 4.0, "ramp": 0.5, "reconstruction": "masked_mean", "norm": "l1"}
SETTINGS: dict[str, Any] = {
    "epochs": 2, "min_steps": 0, "batch_size": 4, "accumulate": 1, "compile": False,
    "schedule": {"power": 0.9, "warmup": 0},
    "optimizer": {
        "name": "sgd", "learning_rate": 0.01, "head_multiplier": 10, "bias_multiplier": 2,
        "bias_decay": False, "momentum": 0.9, "nesterov": False, "weight_decay": 0.01,
    },
}  # fmt: skip


class Noise:
    """Eight samples of three classes that are drawn from their seed alone."""

    def __len__(self) -> int:
        return 8

    def sample(self, _index: int, seed: int) -> tuple[Tensor, Tensor]:
        """Draw an image and its labels."""
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(3, 64, 64, generator=generator)
        return image, (torch.rand(3, generator=generator) > 0.5).float()


def run_training(
    stage: Callable[..., None],
    dataset: Mapping[str, Path],
    folder: Path,
    settings: Mapping[str, Any],
    **inputs: Any,
) -> Path:
    """Run a training stage on one thread with seed 0, and return the file of its weights."""
    arguments = {
        "manifest": dataset["manifest"],
        "classes": dataset["classes"],
        "pretrained": [],
        "settings": settings,
        "seed": 0,
        "weights": folder / "model.safetensors",
        "history": folder / "history.csv",
        "threads": 1,
        "gpu": 0,
        "code": "code",
    }
    stage(**(arguments | inputs))
    return folder / "model.safetensors"


def run_probe(
    dataset: Mapping[str, Path], weights: Path, settings: Mapping[str, Any], **inputs: Any
) -> Path:
    """Fit a linear probe on one thread with seed 3, and return the file of its weights."""
    arguments = {
        "manifest": dataset["manifest"],
        "classes": dataset["classes"],
        "pretrained": [],
        "features": [],
        "settings": settings,
        "scales": [],
        "seed": 3,
        "weights": weights,
        "threads": 1,
    }
    fit_probe(**(arguments | inputs))
    return weights
