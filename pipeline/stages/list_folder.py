"""Check a folder of pictures that a trained network is to be applied to, and list them."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.checks import checked_records
from pipeline.datasets.findings import of_depth
from pipeline.datasets.folder import find_images, image_id
from pipeline.datasets.manifest import write_manifest
from pipeline.datasets.overview import dim_images
from pipeline.datasets.source import Candidate, Source
from pipeline.io.images import MOST_PIXELS
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)


def list_folder(
    *, images: str, folder: str, manifest: Path, threads: int, max_pixels: int = MOST_PIXELS
) -> None:
    """Write the manifest of a folder: a split of its own, without labels.

    Parameters
    ----------
    images : str
        The folder; its sub-folders are searched.
    folder : str
        Name of the split.
    manifest : Path
        Output.
    threads : int
        Files decoded at the same time.
    max_pixels : int
        Pixels of a picture at most.

    Raises
    ------
    UserError
        If any picture cannot be read, two have one name, or there is none.
    """
    source = Source()
    for stem, path in find_images(Path(images), source).items():
        source.candidates.append(Candidate(image_id(stem), path, folder, (), None))
    records = checked_records(source, threads, (folder,), max_pixels)
    for finding in of_depth(dim_images(records, threads), len(records)):
        logger.warning("worth checking: %s", finding)
    write_manifest(manifest, records)


if __name__ == "__main__":
    run_stage(list_folder, snakemake)
