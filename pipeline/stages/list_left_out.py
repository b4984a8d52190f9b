"""List the images that were judged bad, whose labels networks and exports leave out."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.manifest import read_manifest
from pipeline.datasets.review import (
    bad_images,
    read_review,
    refuse,
    unknown_images,
    write_left_out,
)
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)


def list_left_out(*, review: Path, manifest: Path, classes: Path, left_out: Path) -> None:
    """Write the ids of the images that a review judges bad.

    Parameters
    ----------
    review : Path
        The review: CSV with the columns ``image,verdict,labels,note``.
    manifest, classes : Path
        Images and class names.
    left_out : Path
        Output: a CSV table of image ids.

    Raises
    ------
    UserError
        If the review is damaged, or judges an image bad that the data set lacks.
    """
    judgments = read_review(review)
    known = {record.id for record in read_manifest(manifest, classes).records}
    bad = bad_images(judgments)
    # Other rows do not rerun this job, so they must not decide whether it fails.
    refuse(unknown_images(bad, known, review))
    write_left_out(left_out, bad)
    logger.info("%d of %d reviewed images were judged bad", len(bad), len(judgments))


if __name__ == "__main__":
    run_stage(list_left_out, snakemake)
