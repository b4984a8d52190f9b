"""Make the pseudo-labels of one shard from its class maps."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.labelling import label_shard
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.graph_cut import GraphCutSettings
from pipeline.refinement.labels import graph_cut_label, label_image
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def make_labels(
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    background: Mapping[str, Any],
    crf: Mapping[str, Any] | None,
    graph_cut: Mapping[str, Any] | None,
    unsure_below: float | None,
    labels: Path,
    threads: int,
) -> None:
    """Write one label image ``ID.png`` per image of the shard.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    maps : Path
        One shard of class maps.
    background : mapping
        Keys ``rule`` and ``value``; a graph cut does not need it.
    crf : mapping or None
        Settings of the dense CRF.
    graph_cut : mapping or None
        Settings of the graph cut, which stands in for threshold and CRF.
    unsure_below : float or None
        Winning probability below which a pixel is left at 255.
    labels : Path
        Output: a folder.
    threads : int
        Processes.

    Raises
    ------
    UserError
        If a photograph is no longer of the size that its maps were made of.
    """
    labeller = (
        partial(graph_cut_label, settings=GraphCutSettings.from_config(graph_cut))
        if graph_cut is not None
        else partial(
            label_image, background=background, crf=CrfSettings.from_config(crf) if crf else None
        )
    )
    label_shard(
        partial(labeller, unsure_below=unsure_below),
        manifest=manifest,
        classes=classes,
        maps=maps,
        labels=labels,
        needs_image=crf is not None or graph_cut is not None,
        threads=threads,
    )


if __name__ == "__main__":
    run_stage(make_labels, snakemake)
