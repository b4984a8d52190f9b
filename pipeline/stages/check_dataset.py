"""Write the data set check page: counts, example images, and findings to look into."""

import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.findings import Finding, read_findings
from pipeline.datasets.findings import findings as list_findings
from pipeline.datasets.manifest import Manifest, Record, read_manifest
from pipeline.datasets.overview import (
    Overview,
    class_examples,
    dim_images,
    identical_files,
    summarize,
)
from pipeline.datasets.review import read_corrections
from pipeline.io.files import replacing
from pipeline.io.images import read_rgb
from pipeline.report.dataset_check import Thumbnail, render_check
from pipeline.report.drawing import data_url, thumbnail
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)

#: Maximum number of images on the page; they take 5 to 10 kB each.
MAX_IMAGES = 600


def check_dataset(
    *,
    manifest: Path,
    classes: Path,
    findings: Path,
    corrections: Path,
    images_per_class: int,
    page: Path,
    threads: int,
) -> None:
    """Write a page about a data set, and log its counts and findings.

    Parameters
    ----------
    manifest, classes : Path
        Images and class names.
    findings : Path
        Findings about masks and boxes, from the rule ``list_ground_truth``.
    corrections : Path
        Image-level labels that a review changed.
    images_per_class : int
        Number of images per class; fewer if there are very many classes.
    page : Path
        Output.
    threads : int
        Number of processes.

    Raises
    ------
    UserError
        If a file in the manifest does not exist.
    """
    data = read_manifest(manifest, classes)
    overview = summarize(data)
    duplicates, dim = identical_files(data.records, threads), dim_images(data.records, threads)
    found = [*read_findings(findings), *list_findings(data, overview, duplicates, dim)]
    chosen, unlabeled = class_examples(data, images_per_class, MAX_IMAGES)
    thumbnails = _thumbnails([*chain(*chosen.values()), *unlabeled], threads)
    sheet = {name: [thumbnails[record.id] for record in group] for name, group in chosen.items()}
    rest = [thumbnails[record.id] for record in unlabeled]
    with replacing(page) as partial:
        partial.write_text(
            render_check(data, overview, found, sheet, rest, read_corrections(corrections)),
            encoding="utf-8",
        )
    _log(data, overview, found)
    logger.info("see %s for example images and all counts", page)


def _thumbnails(records: Iterable[Record], workers: int) -> dict[str, Thumbnail]:
    """Draw the thumbnail of each record once, and return the thumbnails by id."""
    distinct = list({record.id: record for record in records}.values())
    thumbnails = map_images(_thumbnail, distinct, workers=workers, what="thumbnails drawn")
    return {item.record.id: item for item in thumbnails}


def _thumbnail(record: Record) -> Thumbnail:
    return Thumbnail(record, data_url(thumbnail(read_rgb(record.image))))


def _log(data: Manifest, overview: Overview, found: Sequence[Finding]) -> None:
    for split, images in overview.images.items():
        counts = overview.of_class[split]
        logger.info(
            "%s: %d images, %d without a label, %.2f labels per image",
            split, images, overview.with_labels[split][0], counts.sum() / max(images, 1),
        )  # fmt: skip
    train = dict(zip(data.classes, overview.of_class["train"].tolist(), strict=True))
    ranked = sorted(train, key=lambda name: -train[name])
    logger.info(
        "%d classes, from %s (%d train images) to %s (%d)",
        len(ranked), ranked[0], train[ranked[0]], ranked[-1], train[ranked[-1]],
    )  # fmt: skip
    for finding in found:
        logger.warning("worth checking: %s", finding)


if __name__ == "__main__":
    run_stage(check_dataset, snakemake)
