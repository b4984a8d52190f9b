"""Compute a classifier's scores of all classes for one shard of a split."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.datasets.manifest import Record, read_manifest
from pipeline.io.images import read_rgb
from pipeline.io.tables import write_class_scores
from pipeline.models.classifier import load_classifier
from pipeline.models.views import Views
from pipeline.runtime.device import channels_last, make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def classify(
    *,
    manifest: Path,
    classes: Path,
    weights: Path,
    max_size: int | None,
    precision: str,
    split: str,
    shard: int,
    shards: int,
    class_scores: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write the class scores (logits) of every image; image-level labels are not used.

    Parameters
    ----------
    weights : Path
        The classifier.
    max_size : int or None
        Maximum long side in pixels; larger images are shrunk.
    class_scores : Path
        Output (CSV).
    manifest, classes, precision, split, shard, shards, threads, gpu
        See :mod:`pipeline.stages`.
    """
    data = read_manifest(manifest, classes)
    fabric = make_fabric(precision, threads, gpu)
    model = on_device(fabric, load_classifier(weights))
    views = Views(max_size=max_size)

    @torch.no_grad()
    def scores_of(record: Record) -> tuple[str, NDArray[np.float32]]:
        batch = views.batch(model, read_rgb(record.image))
        logits = model(channels_last(batch)).logits
        return record.id, logits[0].float().cpu().numpy()

    records = data.of_shard(split, shard, shards)
    work = progress(records, total=len(records), what=f"classes of {split}, shard {shard}")
    write_class_scores(class_scores, data.classes, map(scores_of, work))


if __name__ == "__main__":
    run_stage(classify, snakemake)
