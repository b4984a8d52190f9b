"""Predict the class probabilities of one shard of a split with a segmentation network."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import read_manifest
from pipeline.io.arrays import BACKGROUND, write_soft_label
from pipeline.models.inference import predictions as predict
from pipeline.runtime.device import make_fabric
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def predict_soft_masks(
    *,
    manifest: Path,
    classes: Path,
    weights: Path,
    settings: Mapping[str, Any],
    precision: str,
    split: str,
    shard: int,
    shards: int,
    soft_predictions: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write one file ``ID.safetensors`` per image, for the classes that win at some pixel.

    Parameters
    ----------
    manifest, classes, weights, settings
        As in :func:`pipeline.stages.predict_masks.predict_masks`.
    soft_predictions : Path
        Output: a folder.
    precision, split, shard, shards, threads, gpu
        See :mod:`pipeline.stages`.
    """
    records = read_manifest(manifest, classes).of_shard(split, shard, shards)
    fabric = make_fabric(precision, threads, gpu)
    soft_predictions.mkdir(parents=True, exist_ok=True)
    what = f"predictions of {split}, shard {shard}"
    for record, winners, scores in predict(records, weights, settings, fabric=fabric, what=what):
        file = soft_predictions / f"{record.id}.safetensors"
        write_soft_label(file, *_with_background(winners, scores))


def _with_background(
    winners: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Add the background as the first class if it wins at no pixel."""
    if winners[0] == BACKGROUND:
        return winners, probabilities
    nowhere = np.zeros_like(probabilities[:1])
    first = np.array([BACKGROUND], np.uint8)
    return np.concatenate([first, winners]), np.concatenate([nowhere, probabilities])


if __name__ == "__main__":
    run_stage(predict_soft_masks, snakemake)
