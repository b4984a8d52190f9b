"""Check the masks and the true boxes of a data set, and list them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.checks import check_truth
from pipeline.datasets.findings import write_findings
from pipeline.datasets.manifest import read_manifest, write_boxes, write_masks
from pipeline.datasets.readers import read_dataset
from pipeline.images import MOST_PIXELS
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def list_truth(
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
    """Write what only scoring may see, so that no other stage depends on it.

    Parameters
    ----------
    sources : list of Path
        Files whose change makes the lists stale; read through ``dataset``.
    manifest, classes : Path
        Images and class names.
    dataset : mapping
        The configuration's section ``dataset``.
    seed : int
        Seed of a split that the data set does not give.
    masks, boxes : Path
        Outputs. Either list may be empty.
    findings : Path
        Output: what is worth checking about both.
    threads : int
        Files decoded at the same time.

    Raises
    ------
    UserError
        If anything is wrong with a mask or a box, or a scored split has no mask that shows a
        class of its image; nothing is written then.
    """
    del sources
    source = read_dataset(dataset, seed)
    records = read_manifest(manifest, classes).records
    scored = dataset["scored"] if dataset.get("masks") else []
    limit = dataset.get("max_pixels", MOST_PIXELS)
    truth = check_truth(source, records, scored, threads, max_pixels=limit)
    write_masks(masks, truth.masks, source.mask_values)
    write_boxes(boxes, truth.boxes)
    write_findings(findings, truth.findings)


if __name__ == "__main__":
    run_stage(list_truth, snakemake)
