"""Estimate the quality of a split's pseudo-labels without ground truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from pipeline.datasets.manifest import read_manifest
from pipeline.io.arrays import maps_by_id
from pipeline.io.tables import read_class_scores, read_table, write_table
from pipeline.metrics.quality import doubts
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Figures in the order of the pipeline; each is in [0, 1], and higher is better.
FIGURES = (
    "confidence",
    "view_agreement",
    "method_agreement",
    "refinement_agreement",
    "certainty",
)
#: Figures that doubt is computed from. They correlated best with the true IoU on photographs of
#: PASCAL VOC, so masks were used for this choice. With a single method, only certainty is left.
DOUBT_FIGURES = ("method_agreement", "certainty")


def assess_labels(
    *,
    manifest: Path,
    classes: Path,
    maps: list[Path],
    class_scores: list[Path],
    figures: list[Path],
    agreement: list[Path],
    method: str,
    split: str,
    quality: Path,
) -> None:
    """Write quality figures and a doubt for the labels of every image.

    Parameters
    ----------
    manifest, classes : Path
        Images with their labels, and the class names.
    maps : list of Path
        Map shards of the attribution, with the agreement of scales and flips.
    class_scores : list of Path
        Scores of the classifier, for its confidence in the given image-level labels.
    figures : list of Path
        Figures that were written with the labels.
    agreement : list of Path
        Agreement of the methods; empty if there is only one method.
    method : str
        CLASSIFIER/MAPS/REFINEMENT.
    split : str
        ``"train"`` or ``"val"``.
    quality : Path
        Output (CSV): ``id``, :data:`FIGURES`, and ``doubt`` in [0, 1], from the ranks of
        :data:`DOUBT_FIGURES`. Images without a label have no confidence and no agreement of
        views.
    """
    data = read_manifest(manifest, classes)
    records = data.of_split(split)
    shards = maps_by_id(maps, [record.id for record in records])
    scores = read_class_scores(class_scores)
    made = {
        row["id"]: row
        for path in figures
        for row in read_table(path, needed=("id",), numbers=("refinement_agreement", "certainty"))
    }
    others = {
        row["id"]: row[method]
        for path in agreement
        for row in read_table(path, needed=("id",), numbers=(method,))
    }
    table = np.full((len(records), len(FIGURES)), np.nan)
    work = progress(records, total=len(records), what=f"figures of {method}")
    for row, record in zip(table, work, strict=True):
        numbers = data.class_numbers(record)
        views = shards[record.id][record.id].agreement
        row[:] = (
            expit(scores[record.id][numbers - 1]).mean() if len(numbers) else np.nan,
            views.mean() if views is not None and len(views) else np.nan,
            float(others.get(record.id) or "nan"),
            float(made[record.id]["refinement_agreement"] or "nan"),
            float(made[record.id]["certainty"]),
        )
    doubt = doubts(table[:, [FIGURES.index(name) for name in DOUBT_FIGURES]])
    ids = (record.id for record in records)
    rows = ((name, *row, value) for name, row, value in zip(ids, table, doubt, strict=True))
    write_table(quality, ("id", *FIGURES, "doubt"), rows)


if __name__ == "__main__":
    run_stage(assess_labels, snakemake)
