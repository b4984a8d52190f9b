"""Make the pseudo-labels of one shard from its class maps."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.arrays import write_label
from pipeline.io.tables import write_table
from pipeline.metrics.agreement import label_agreement
from pipeline.refinement.labels import Labeling
from pipeline.refinement.shards import label_shard, refinement_labeler
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Minimum probability of a confident pixel in the quality figures.
CONFIDENT = 0.9


def make_labels(
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    threshold: list[Path],
    regions: list[Path],
    background: Mapping[str, Any],
    crf: Mapping[str, Any] | None,
    graph_cut: Mapping[str, Any] | None,
    voting: Mapping[str, Any] | None,
    uncertain_below: float | None,
    labels: Path,
    figures: Path,
    threads: int,
) -> None:
    """Write one label image ``ID.png`` per image of the shard, and quality figures.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    maps : Path
        One shard of class maps.
    threshold : list of Path
        The file of a background threshold chosen without masks, if there is one.
    regions : list of Path
        The file of the shard's regions, if the refinement has any.
    background : mapping
        Keys ``rule`` and ``value``: a number, or the name of the rule of ``threshold``.
    crf : mapping or None
        Settings of the dense CRF.
    graph_cut : mapping or None
        Settings of the graph cut, which replaces threshold and CRF.
    voting : mapping or None
        Settings of the vote in the regions.
    uncertain_below : float or None
        Probability of the label below which a pixel is set to 255.
    labels : Path
        Output: a folder.
    figures : Path
        Output (CSV): for each image the share of confident pixels (``certainty``), and the
        agreement of the labels before and after refinement (``refinement_agreement``).
    threads : int
        Number of processes.

    Raises
    ------
    UserError
        If an image no longer has the size that its maps or regions were made for.
    """
    labeler = refinement_labeler(
        partial(_write_image, uncertain_below=uncertain_below),
        background=background,
        threshold=threshold,
        crf=crf,
        graph_cut=graph_cut,
        voting=voting,
    )
    rows = label_shard(
        labeler,
        manifest=manifest,
        classes=classes,
        maps=maps,
        labels=labels,
        threads=threads,
        regions=regions,
    )
    columns = ("id", "certainty", "refinement_agreement")
    write_table(figures, columns, ((image_id, *row) for image_id, row in rows.items()))


def _write_image(
    path: Path, labeling: Labeling, *, uncertain_below: float | None
) -> tuple[float, float]:
    """Write the label image; return its certainty and refinement agreement."""
    label = labeling.label_image(uncertain_below)
    write_label(path.with_name(f"{path.name}.png"), label)
    initial = labeling.numbers[labeling.initial]
    return float((labeling.certainty >= CONFIDENT).mean()), label_agreement(initial, label)


if __name__ == "__main__":
    run_stage(make_labels, snakemake)
