"""Predict the masks of one shard of a split with a trained segmentation network."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.manifest import read_manifest
from pipeline.io.arrays import write_label
from pipeline.models.inference import predictions as predict
from pipeline.runtime.device import make_fabric
from pipeline.runtime.stage import run_stage

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
    gpu: int = 1,
) -> None:
    """Write one label image ``ID.png`` per image; image-level labels are not used.

    Parameters
    ----------
    weights : Path
        The segmentation network.
    settings : mapping
        Keys ``scales``, ``flip``, ``max_size``, ``fuse``, ``crf`` and ``crf_classes``.
    predictions : Path
        Output: a folder.
    manifest, classes, precision, split, shard, shards, threads, gpu
        See :mod:`pipeline.stages`.
    """
    records = read_manifest(manifest, classes).of_shard(split, shard, shards)
    fabric = make_fabric(precision, threads, gpu)
    predictions.mkdir(parents=True, exist_ok=True)
    what = f"predictions of {split}, shard {shard}"
    for record, winners, scores in predict(records, weights, settings, fabric=fabric, what=what):
        write_label(predictions / f"{record.id}.png", winners[scores.argmax(axis=0)])


if __name__ == "__main__":
    run_stage(predict_masks, snakemake)
