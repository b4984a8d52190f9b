"""Make the soft labels of one shard: the class probabilities of its pseudo-labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.arrays import write_soft_label
from pipeline.refinement.labels import Labeling
from pipeline.refinement.shards import label_shard, refinement_labeler
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def make_soft_labels(
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
    soft_labels: Path,
    threads: int,
) -> None:
    """Write one file ``ID.safetensors`` per image of the shard.

    Parameters
    ----------
    manifest, classes, maps, threshold, regions, background, crf, graph_cut, voting
        As in :func:`pipeline.stages.make_labels.make_labels`.
    soft_labels : Path
        Output: a folder.
    threads : int
        Number of processes.
    """
    labeler = refinement_labeler(
        _write_probabilities,
        background=background,
        threshold=threshold,
        crf=crf,
        graph_cut=graph_cut,
        voting=voting,
    )
    label_shard(
        labeler,
        manifest=manifest,
        classes=classes,
        maps=maps,
        labels=soft_labels,
        threads=threads,
        regions=regions,
    )


def _write_probabilities(path: Path, labeling: Labeling) -> None:
    file = path.with_name(f"{path.name}.safetensors")
    write_soft_label(file, labeling.numbers, labeling.probabilities)


if __name__ == "__main__":
    run_stage(make_soft_labels, snakemake)
