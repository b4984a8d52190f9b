"""Check and list the images of a folder that a trained network is applied to."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.checks import checked_records
from pipeline.datasets.findings import depth_findings
from pipeline.datasets.folder import find_images, image_id
from pipeline.datasets.manifest import write_manifest
from pipeline.datasets.overview import dim_images
from pipeline.datasets.source import Candidate, Source
from pipeline.io.images import MAX_PIXELS
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)


def list_folder(
    *, images: str, folder: str, manifest: Path, threads: int, max_pixels: int = MAX_PIXELS
) -> None:
    """Write the manifest of a folder as a separate split, without labels.

    Parameters
    ----------
    images : str
        The folder; its sub-folders are searched.
    folder : str
        Name of the split.
    manifest : Path
        Output.
    threads : int
        Number of files decoded at the same time.
    max_pixels : int
        Maximum number of pixels of an image.

    Raises
    ------
    UserError
        If an image cannot be read, two images have the same name, or there is no image.
    """
    source = Source()
    for stem, path in find_images(Path(images), source).items():
        source.candidates.append(Candidate(image_id(stem), path, folder, (), None))
    records = checked_records(source, threads, (folder,), max_pixels)
    for finding in depth_findings(dim_images(records, threads), len(records)):
        logger.warning("worth checking: %s", finding)
    write_manifest(manifest, records)


if __name__ == "__main__":
    run_stage(list_folder, snakemake)
