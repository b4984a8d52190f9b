"""Predict the masks of one shard of a split with a trained segmentation network."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import write_label
from pipeline.datasets.manifest import read_manifest
from pipeline.device import make_fabric, on_device
from pipeline.images import read_rgb
from pipeline.inference import class_probabilities
from pipeline.models.segmenter import load_segmenter
from pipeline.progress import progress
from pipeline.refinement.dense_crf import CrfSettings, dense_crf
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def predict_masks(
    *,
    manifest: Path,
    classes: Path,
    weights: Path,
    settings: Mapping[str, Any],
    precision: str,
    split: str,
    shard: int,
    shards: int,
    predictions: Path,
    threads: int,
) -> None:
    """Write one label image ``ID.png`` per image; image-level labels are not used.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    weights : Path
        The segmentation network.
    settings : mapping
        Keys ``scales``, ``flip``, ``max_size`` and ``crf``.
    precision : str
        Arithmetic of the forward pass.
    split : str
        ``"train"`` or ``"val"``.
    shard, shards : int
        This shard's number, from 0, and how many there are.
    predictions : Path
        Output: a folder.
    threads : int
        CPU threads.
    """
    data = read_manifest(manifest, classes)
    records = data.of_shard(split, shard, shards)
    fabric = make_fabric(precision, threads)
    model = on_device(fabric, load_segmenter(weights))
    crf = settings["crf"]
    refine = partial(_refined, settings=CrfSettings.from_config(crf)) if crf else None
    probabilities = partial(
        class_probabilities,
        model,
        scales=settings["scales"],
        flip=settings["flip"],
        max_size=settings["max_size"],
    )
    predictions.mkdir(parents=True, exist_ok=True)
    for record in progress(
        records, total=len(records), what=f"predictions of {split}, shard {shard}"
    ):
        image = read_rgb(record.image)
        scores = probabilities(image)
        label = refine(image, scores) if refine else scores.argmax(axis=0).astype(np.uint8)
        write_label(predictions / f"{record.id}.png", label)


def _refined(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], *, settings: CrfSettings
) -> NDArray[np.uint8]:
    """Refine with a dense CRF over the classes that win somewhere: its cost grows with them."""
    winners = np.unique(probabilities.argmax(axis=0))
    posterior = dense_crf(image, probabilities[winners], settings)
    label: NDArray[np.uint8] = winners[posterior.argmax(axis=0)].astype(np.uint8)
    return label


if __name__ == "__main__":
    run_stage(predict_masks, snakemake)
