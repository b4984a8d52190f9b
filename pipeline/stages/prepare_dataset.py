"""Check the images and labels of a data set, and write its manifest and class names."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.checks import checked_records
from pipeline.datasets.manifest import write_classes, write_manifest
from pipeline.datasets.orientation import without_orientation
from pipeline.datasets.readers import read_dataset
from pipeline.datasets.review import correct_labels, write_corrections
from pipeline.io.images import MAX_PIXELS
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def prepare_dataset(
    *,
    sources: list[Path],
    dataset: Mapping[str, Any],
    seed: int,
    review: str | None,
    manifest: Path,
    classes: Path,
    corrections: Path,
    images: Path,
    threads: int,
) -> None:
    """Write the manifest and class names, the inputs of training.

    The rule ``list_ground_truth`` lists masks and boxes separately.

    Parameters
    ----------
    sources : list of Path
        Files that the manifest depends on; they are read through ``dataset``.
    dataset : mapping
        The configuration's section ``dataset``, without masks and boxes.
    seed : int
        Seed of the split, if the data set has none.
    review : str or None
        A review whose column ``labels`` replaces image-level labels; None to keep all.
    manifest, classes : Path
        Outputs.
    corrections : Path
        Output: the image-level labels that the review changed (CSV).
    images : Path
        Output: folder of the images that ``exif: ignore`` rewrites without their EXIF rotation.
    threads : int
        Number of files decoded at the same time.

    Raises
    ------
    UserError
        If the data set has any problem. Nothing is written then.
    """
    del sources
    source = read_dataset(dataset, seed)
    corrected = [] if review is None else correct_labels(source, Path(review))
    limit = dataset.get("max_pixels", MAX_PIXELS)
    records = checked_records(source, threads, max_pixels=limit)
    images.mkdir(parents=True, exist_ok=True)
    if dataset.get("exif") == "ignore":
        records = without_orientation(records, images, workers=threads)
    write_manifest(manifest, records)
    write_classes(classes, source.classes)
    write_corrections(corrections, corrected)


if __name__ == "__main__":
    run_stage(prepare_dataset, snakemake)
