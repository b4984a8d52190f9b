"""Make the pseudo-labels of one shard from its class maps."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.arrays import write_label
from pipeline.io.tables import write_table
from pipeline.metrics.agreement import label_agreement
from pipeline.refinement.labels import Labeling, labeler_of
from pipeline.refinement.shards import Labeler, label_shard
from pipeline.refinement.thresholds import resolved_background
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Probability from which on a pixel counts as sure in the quality figures.
SURE = 0.9


def make_labels(
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    threshold: list[Path],
    background: Mapping[str, Any],
    crf: Mapping[str, Any] | None,
    graph_cut: Mapping[str, Any] | None,
    uncertain_below: float | None,
    labels: Path,
    figures: Path,
    threads: int,
) -> None:
    """Write one label image ``ID.png`` per image of the shard, and how sure it is.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    maps : Path
        One shard of class maps.
    threshold : list of Path
        The file of a background threshold that was chosen without masks, where one was.
    background : mapping
        Keys ``rule`` and ``value``; a number, or the name of the rule behind ``threshold``.
    crf : mapping or None
        Settings of the dense CRF.
    graph_cut : mapping or None
        Settings of the graph cut, which stands in for threshold and CRF.
    uncertain_below : float or None
        Share of the maps' scores for its label below which a pixel is left at 255.
    labels : Path
        Output: a folder.
    figures : Path
        Output (CSV): of each image the share of sure pixels (``certainty``), and how much of
        the maps' own label the refinement kept (``refinement_agreement``).
    threads : int
        Processes.

    Raises
    ------
    UserError
        If a photograph is no longer of the size that its maps were made of.
    """
    labeler = Labeler(
        labeler_of(resolved_background(background, threshold), crf, graph_cut),
        partial(_write_image, uncertain_below=uncertain_below),
        needs_image=crf is not None or graph_cut is not None,
    )
    rows = label_shard(
        labeler, manifest=manifest, classes=classes, maps=maps, labels=labels, threads=threads
    )
    columns = ("id", "certainty", "refinement_agreement")
    write_table(figures, columns, ((image_id, *row) for image_id, row in rows.items()))


def _write_image(
    path: Path, labeling: Labeling, *, uncertain_below: float | None
) -> tuple[float, float]:
    """Write the label image; give the share of sure pixels, and what the refinement kept."""
    label = labeling.label_image(uncertain_below)
    write_label(path.with_name(f"{path.name}.png"), label)
    initial = labeling.numbers[labeling.initial]
    return float((labeling.certainty >= SURE).mean()), label_agreement(initial, label)


if __name__ == "__main__":
    run_stage(make_labels, snakemake)
