"""Check the photographs of a data set and their labels, and write its manifest and class names."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.checks import checked_records
from pipeline.datasets.manifest import write_classes, write_manifest
from pipeline.datasets.orientation import without_orientation
from pipeline.datasets.readers import read_dataset
from pipeline.io.images import MOST_PIXELS
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def prepare_dataset(
    *,
    sources: list[Path],
    dataset: Mapping[str, Any],
    seed: int,
    manifest: Path,
    classes: Path,
    photographs: Path,
    threads: int,
) -> None:
    """Write what training may see. Masks and boxes are listed apart, by ``list_ground_truth``.

    Parameters
    ----------
    sources : list of Path
        Files whose change makes the manifest stale; read through ``dataset``.
    dataset : mapping
        The configuration's section ``dataset``, without masks and boxes.
    seed : int
        Seed of a split that the data set does not give.
    manifest, classes : Path
        Outputs.
    photographs : Path
        Output: folder of the photographs that the data set's ``exif: ignore`` leaves unturned.
    threads : int
        Files decoded at the same time.

    Raises
    ------
    UserError
        If anything is wrong with the data set; nothing is written then.
    """
    del sources
    source = read_dataset(dataset, seed)
    limit = dataset.get("max_pixels", MOST_PIXELS)
    records = checked_records(source, threads, max_pixels=limit)
    photographs.mkdir(parents=True, exist_ok=True)
    if dataset.get("exif") == "ignore":
        records = without_orientation(records, photographs, workers=threads)
    write_manifest(manifest, records)
    write_classes(classes, source.classes)


if __name__ == "__main__":
    run_stage(prepare_dataset, snakemake)
