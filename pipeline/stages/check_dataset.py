"""Show a data set on one page before any compute: counts, pictures, what is worth checking."""

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
    dim_images,
    examples_of_classes,
    identical_files,
    summarize,
)
from pipeline.io.files import replacing
from pipeline.io.images import read_rgb
from pipeline.report.dataset_check import Shot, render_check
from pipeline.report.pictures import data_url, thumbnail
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)

#: Pictures on the page: they take 5 to 10 kB each.
MOST_PICTURES = 600


def check_dataset(
    *, manifest: Path, classes: Path, findings: Path, pictures: int, page: Path, threads: int
) -> None:
    """Write a page about a data set, and log its counts and what is worth checking.

    What is worth checking of masks and boxes was found by their own check.

    Parameters
    ----------
    manifest, classes : Path
        Images and class names.
    findings : Path
        Findings of the check of masks and boxes.
    pictures : int
        Pictures of each class; fewer where there are very many classes.
    page : Path
        Output.
    threads : int
        Processes.

    Raises
    ------
    UserError
        If a file that the manifest names is gone.
    """
    data = read_manifest(manifest, classes)
    overview = summarize(data)
    twins, dim = identical_files(data.records, threads), dim_images(data.records, threads)
    found = [*read_findings(findings), *list_findings(data, overview, twins, dim)]
    chosen, unlabeled = examples_of_classes(data, pictures, MOST_PICTURES)
    shots = _shots([*chain(*chosen.values()), *unlabeled], threads)
    sheet = {name: [shots[record.id] for record in group] for name, group in chosen.items()}
    rest = [shots[record.id] for record in unlabeled]
    with replacing(page) as partial:
        partial.write_text(render_check(data, overview, found, sheet, rest), encoding="utf-8")
    _log(data, overview, found)
    logger.info("the pictures and all counts are in %s", page)


def _shots(records: Iterable[Record], workers: int) -> dict[str, Shot]:
    """Draw each record once, and give its picture by its id."""
    distinct = list({record.id: record for record in records}.values())
    shots = map_images(_shot, distinct, workers=workers, what="pictures drawn")
    return {shot.record.id: shot for shot in shots}


def _shot(record: Record) -> Shot:
    return Shot(record, data_url(thumbnail(read_rgb(record.image))))


def _log(data: Manifest, overview: Overview, found: Sequence[Finding]) -> None:
    for split, images in overview.images.items():
        counts = overview.of_class[split]
        logger.info(
            "%s: %d images, %d without a label, %.2f labels an image",
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
