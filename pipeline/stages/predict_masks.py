"""Predict the masks of one shard of a split with a trained segmentation network."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.manifest import read_manifest
from pipeline.io.arrays import write_label
from pipeline.models.inference import predictions as predict
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
    manifest, classes : Path
        Images, and the class names.
    weights : Path
        The segmentation network.
    settings : mapping
        Keys ``scales``, ``flip``, ``max_size``, ``fuse``, ``crf`` and ``crf_classes``.
    precision : str
        Floating-point precision of the forward pass.
    split : str
        ``"train"``, ``"val"`` or a folder's name.
    shard, shards : int
        Number of this shard, from 0, and number of shards.
    predictions : Path
        Output: a folder.
    threads : int
        Number of CPU threads.
    gpu : int
        1 to use a GPU if there is one, 0 to use the CPU.
    """
    records = read_manifest(manifest, classes).of_shard(split, shard, shards)
    predictions.mkdir(parents=True, exist_ok=True)
    for record, winners, probabilities in predict(
        records,
        weights=weights,
        settings=settings,
        precision=precision,
        threads=threads,
        gpu=gpu,
        what=f"predictions of {split}, shard {shard}",
    ):
        write_label(predictions / f"{record.id}.png", winners[probabilities.argmax(axis=0)])


if __name__ == "__main__":
    run_stage(predict_masks, snakemake)
