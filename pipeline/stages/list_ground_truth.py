"""Check and list the ground-truth masks and boxes of a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.findings import write_findings
from pipeline.datasets.ground_truth import check_ground_truth
from pipeline.datasets.manifest import read_manifest, write_boxes, write_masks
from pipeline.datasets.readers import read_dataset
from pipeline.io.images import MAX_PIXELS
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def list_ground_truth(
    *,
    sources: list[Path],
    manifest: Path,
    classes: Path,
    dataset: Mapping[str, Any],
    seed: int,
    masks: Path,
    boxes: Path,
    findings: Path,
    threads: int,
) -> None:
    """Write the lists of masks and boxes, which only scoring depends on.

    Parameters
    ----------
    sources : list of Path
        Files that the lists depend on; they are read through ``dataset``.
    manifest, classes : Path
        Images and class names.
    dataset : mapping
        The configuration's section ``dataset``.
    seed : int
        Seed of the split, if the data set has none.
    masks, boxes : Path
        Outputs. Either list may be empty.
    findings : Path
        Output: possible problems of masks and boxes.
    threads : int
        Number of files decoded at the same time.

    Raises
    ------
    UserError
        If a mask or a box is invalid, or a scored split has no mask that shows a class of its
        image. Nothing is written then.
    """
    del sources
    source = read_dataset(dataset, seed)
    records = read_manifest(manifest, classes).records
    scored = dataset["scored_splits"] if dataset.get("masks") else []
    limit = dataset.get("max_pixels", MAX_PIXELS)
    ground_truth = check_ground_truth(source, records, scored, threads, max_pixels=limit)
    write_masks(masks, ground_truth.masks, source.mask_values)
    write_boxes(boxes, ground_truth.boxes)
    write_findings(findings, ground_truth.findings)


if __name__ == "__main__":
    run_stage(list_ground_truth, snakemake)
