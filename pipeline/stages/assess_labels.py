"""Assess the pseudo-labels of a split without any ground truth."""

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

#: Figures in the order of the data's way; each is in [0, 1], and higher is better.
FIGURES = (
    "confidence",
    "view_agreement",
    "method_agreement",
    "refinement_agreement",
    "certainty",
)
#: Figures that doubt is made of: those that told most on photographs of PASCAL VOC, which is a
#: choice against their masks. Where there is one method only, certainty is left.
TELLING = ("method_agreement", "certainty")


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
    """Write one row of figures an image, and how much it is to be doubted.

    Parameters
    ----------
    manifest, classes : Path
        Images with their labels, and the class names.
    maps : list of Path
        Shards of the maps as the attribution made them: how much scales and flips agree.
    class_scores : list of Path
        Scores of the classifier: its confidence in the labels that are given.
    figures : list of Path
        What the making of the labels noted.
    agreement : list of Path
        How much the methods agree; empty where there is one method only.
    method : str
        CLASSIFIER/MAPS/REFINEMENT.
    split : str
        ``"train"`` or ``"val"``.
    quality : Path
        Output (CSV): ``id``, :data:`FIGURES`, and ``doubt`` in [0, 1], from the ranks of
        :data:`TELLING`. Images without a label have no confidence and no agreement of views.
    """
    data = read_manifest(manifest, classes)
    records = data.of_split(split)
    shards = maps_by_id(maps, [record.id for record in records])
    scores = read_class_scores(class_scores)
    made = {row["id"]: row for path in figures for row in read_table(path)}
    others = {row["id"]: row[method] for path in agreement for row in read_table(path)}
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
    doubt = doubts(table[:, [FIGURES.index(name) for name in TELLING]])
    ids = (record.id for record in records)
    rows = ((name, *row, value) for name, row, value in zip(ids, table, doubt, strict=True))
    write_table(quality, ("id", *FIGURES, "doubt"), rows)


if __name__ == "__main__":
    run_stage(assess_labels, snakemake)
