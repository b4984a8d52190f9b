"""Draw the class models of a classifier: images that maximize the class scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.attribution.class_model import class_models
from pipeline.datasets.manifest import read_classes
from pipeline.io.files import replacing
from pipeline.models.classifier import load_classifier
from pipeline.report.drawing import captioned_grid
from pipeline.runtime.device import make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Number of classes that are optimized together.
BATCH = 4


def visualize_classes(
    *,
    classes: Path,
    weights: Path,
    settings: Mapping[str, Any],
    precision: str,
    seed: int,
    grid: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write one PNG with an image of every class.

    Parameters
    ----------
    classes : Path
        The class names.
    weights : Path
        The classifier.
    settings : mapping
        Keys ``size``, ``steps``, ``learning_rate``, ``decay``, ``jitter`` and ``blur``.
    seed : int
        Seed of the jitter.
    grid : Path
        Output.
    precision, threads, gpu
        See :mod:`pipeline.stages`.
    """
    names = read_classes(classes)
    fabric = make_fabric(precision, threads, gpu)
    model = on_device(fabric, load_classifier(weights))
    batches = torch.arange(len(names), device=fabric.device).split(BATCH)  # type: ignore[no-untyped-call]
    images: list[NDArray[np.uint8]] = []
    for batch in progress(batches, total=len(batches), what="class models", unit="batches"):
        found = class_models(model, batch, seed=seed, **settings)
        images += list((found.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy())
    with replacing(grid) as partial:
        Image.fromarray(captioned_grid(images, names)).save(partial, format="PNG")


if __name__ == "__main__":
    run_stage(visualize_classes, snakemake)
