"""Read the masks that people corrected, which replace pseudo-labels of train images."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.datasets.checks import problem_list
from pipeline.datasets.contradictions import MaskContents
from pipeline.datasets.corrected.files import CorrectedImage, find_corrected
from pipeline.datasets.corrected.matching import (
    contradiction_findings,
    difference,
    match_images,
    review_row,
)
from pipeline.datasets.findings import write_findings
from pipeline.datasets.manifest import Record, read_manifest, write_masks
from pipeline.errors import UserError
from pipeline.io.arrays import BACKGROUND, IGNORE, write_label
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)


def list_corrected(
    *,
    manifest: Path,
    classes: Path,
    path: str,
    masks: Path,
    corrected: Path,
    findings: Path,
) -> None:
    """Write the corrected masks as label images, and a table of them.

    Parameters
    ----------
    manifest, classes : Path
        Images and class names.
    path : str
        The configuration's ``dataset.corrected``: a file or folder in one of the formats of
        :mod:`pipeline.datasets.corrected`.
    masks : Path
        Output: folder of label images ``ID.png``.
    corrected : Path
        Output: the table of these masks, in the format of the list of ground-truth masks.
    findings : Path
        Output: labels that differ from what the masks show.

    Raises
    ------
    UserError
        If a mask is damaged, of another size, has an unknown class, or belongs to no train image.
        The message has one line per problem.
    """
    data = read_manifest(manifest, classes)
    problems: list[str] = []
    matched = match_images(find_corrected(Path(path)), data, problems)
    masks.mkdir(parents=True, exist_ok=True)
    contents = []
    for record, image in matched:
        try:
            contents.append(_write(record, image, data.classes, masks / f"{record.id}.png"))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(problem_list(problems))
    write_masks(corrected, {r.id: masks / f"{r.id}.png" for r, _ in matched})
    write_findings(findings, list(contradiction_findings(contents)))
    train = len(data.of_split("train"))
    logger.info("%d of %d train images have a corrected mask", len(matched), train)
    for item in contents:
        if item.contradicts:
            logger.warning(
                "the corrected mask and the image-level labels differ: %s: correct the mask, or "
                "correct the labels in the review (dataset.review) by the row %s",
                difference(item), review_row(item),
            )  # fmt: skip


def _write(
    record: Record, image: CorrectedImage, classes: tuple[str, ...], path: Path
) -> MaskContents:
    """Write a corrected mask as a label image, and return its contents."""
    label = image.read(record, classes)
    write_label(path, label)
    values = frozenset(np.unique(label).tolist())
    shown = frozenset(classes[value - 1] for value in values - {BACKGROUND, IGNORE})
    return MaskContents(record, values, shown)


if __name__ == "__main__":
    run_stage(list_corrected, snakemake)
