"""Predict image-level labels for the images of a folder with a classifier."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.special import expit

from pipeline.datasets.manifest import read_manifest, write_manifest
from pipeline.io.tables import read_class_scores
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)


def label_folder(
    *,
    manifest: Path,
    classes: Path,
    class_scores: list[Path],
    confidence: float,
    labeled: Path,
) -> None:
    """Write the folder's manifest with all labels that are predicted with enough confidence.

    Parameters
    ----------
    manifest, classes : Path
        Images without labels, and the class names.
    class_scores : list of Path
        The classifier's scores, all shards.
    confidence : float
        Minimum sigmoid of the score for a label. Images may have no label.
    labeled : Path
        Output: a manifest.
    """
    data = read_manifest(manifest, classes)
    scores = read_class_scores(class_scores)
    records = []
    for record in data.records:
        present = expit(scores[record.id]) >= confidence
        names = tuple(name for name, shown in zip(data.classes, present, strict=True) if shown)
        records.append(replace(record, labels=names))
    empty = sum(not record.labels for record in records)
    logger.info("%d of %d images have no label above %g", empty, len(records), confidence)
    write_manifest(labeled, records)


if __name__ == "__main__":
    run_stage(label_folder, snakemake)
