"""Give the pictures of a folder the labels that a classifier predicts."""

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
    """Write the folder's manifest with every class that is confident enough.

    Parameters
    ----------
    manifest, classes : Path
        Pictures without labels, and the class names.
    class_scores : list of Path
        The classifier's scores, all shards.
    confidence : float
        Sigmoid of the score from which on a picture has a label; a picture may have none.
    labeled : Path
        Output: a manifest.
    """
    data = read_manifest(manifest, classes)
    scores = read_class_scores(class_scores)
    records = []
    for record in data.records:
        sure = expit(scores[record.id]) >= confidence
        names = tuple(name for name, is_there in zip(data.classes, sure, strict=True) if is_there)
        records.append(replace(record, labels=names))
    empty = sum(not record.labels for record in records)
    logger.info("%d of %d pictures have no label above %g", empty, len(records), confidence)
    write_manifest(labeled, records)


if __name__ == "__main__":
    run_stage(label_folder, snakemake)
