"""Checks of the ground truth of a data set, which only scoring reads."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.checks import problem_list
from pipeline.datasets.contradictions import (
    MaskContents,
    contradiction_findings,
    mask_problems,
    value_suggestions,
)
from pipeline.datasets.findings import Finding
from pipeline.datasets.ground_truth_checks import (
    GroundTruthCheck,
    check_mask_and_boxes,
    orientation_findings,
)
from pipeline.datasets.manifest import Box, Record
from pipeline.datasets.source import Candidate, Source
from pipeline.errors import UserError
from pipeline.io.arrays import IGNORE
from pipeline.io.images import MAX_PIXELS
from pipeline.runtime.progress import progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroundTruth:
    """The masks and boxes of a data set for scoring, and findings about them.

    Attributes
    ----------
    masks : dict of str to Path
        Masks by image id.
    boxes : dict of str to tuple of Box
        True boxes by image id; empty if they are not known.
    findings : tuple of Finding
        Possible problems.
    """

    masks: dict[str, Path]
    boxes: dict[str, tuple[Box, ...]]
    findings: tuple[Finding, ...]


def check_ground_truth(
    source: Source,
    records: Sequence[Record],
    splits: Sequence[str],
    threads: int,
    max_pixels: int = MAX_PIXELS,
) -> GroundTruth:
    """Decode and check the ground-truth masks of a data set, and check its boxes.

    Parameters
    ----------
    source : Source
        The data set as read, with the problems found so far.
    records : sequence of Record
        The images, as :func:`pipeline.datasets.checks.checked_records` returned them.
    splits : sequence of str
        Splits that are scored. Each must have a mask that shows a class of its image.
    threads : int
        Number of files decoded at the same time.
    max_pixels : int
        Maximum number of pixels of a mask.

    Raises
    ------
    UserError
        If there is any problem. The message has one line per problem.
    """
    candidates = {candidate.id: candidate for candidate in source.candidates}
    pairs = [(candidates[record.id], record) for record in records if record.id in candidates]
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(
            lambda pair: check_mask_and_boxes(pair[0], pair[1], source, max_pixels), pairs
        )
        checks = list(progress(found, total=len(pairs), what="masks checked"))
    masks = [item.mask for item in checks if item.mask is not None]
    mapped = source.mask_values is not None
    problems = [
        *source.problems,
        *value_suggestions(masks, source.classes, mapped=mapped),
        *_splits_without_masks(pairs, splits),
        *(problem for item in checks for problem in item.problems),
    ]
    if all(item.classes is not None for item in masks):
        scored = [split for split in splits if any(r.split == split for _, r in pairs)]
        void = list(_void_masks(masks, scored, source.mask_values))
        problems += void or mask_problems(masks, scored, source.classes, mapped=mapped)
    if problems:
        raise UserError(problem_list(problems))
    for split, (count, images) in _mask_counts(pairs).items():
        logger.info("%s: %d of %d images have a ground-truth mask", split, count, images)
    findings = (
        *contradiction_findings(masks, source.classes, mapped=mapped),
        *orientation_findings(checks),
        *_unused_mask_findings(source),
        *_unusable_box_findings([*(source.unusable_boxes or ()), *_unusable(checks)]),
    )
    for finding in findings:
        logger.warning("worth checking: %s", finding)
    return GroundTruth(
        {item.id: item.mask for item, _ in pairs if item.mask is not None},
        {item.id: of.boxes for (item, _), of in zip(pairs, checks, strict=True)},
        findings,
    )


def _unusable(checks: Sequence[GroundTruthCheck]) -> Iterator[str]:
    return (line for item in checks for line in item.unusable_boxes)


def _unusable_box_findings(lines: Sequence[str]) -> Iterator[Finding]:
    if lines:
        yield Finding(
            "boxes that cannot be used",
            f"{len(lines)}, the first in {lines[0]}",
            "Their images are scored with boxes around the connected regions of their masks, or "
            "not at all without masks",
            "Correct the boxes, or pass true boxes as a table, `boxes: FILE.csv`",
        )


def _unused_mask_findings(source: Source) -> Iterator[Finding]:
    if source.unused_masks and any(not candidate.mask for candidate in source.candidates):
        yield Finding(
            "masks without an image",
            f"{len(source.unused_masks)}, the first {source.unused_masks[0]}",
            "Images without a mask are not scored",
            "Name the masks after their images, NAME.png",
        )


def _mask_counts(
    pairs: Sequence[tuple[Candidate, Record]],
) -> dict[str, tuple[int, int]]:
    """Count the masks and the images of each split."""
    images = Counter(record.split for _, record in pairs)
    masks = Counter(record.split for candidate, record in pairs if candidate.mask is not None)
    return {split: (masks[split], count) for split, count in images.items()}


def _splits_without_masks(
    pairs: Sequence[tuple[Candidate, Record]], splits: Sequence[str]
) -> Iterator[str]:
    for split, (masks, images) in _mask_counts(pairs).items():
        if split in splits and not masks:
            example = next(record.id for _, record in pairs if record.split == split)
            yield (
                f"none of the {images} {split} images has a mask of its name, such as "
                f"{example.replace('__', '/')}.png, expected masks to score with: rename the "
                "masks, remove the split from the dataset's `scored_splits`, or set `masks: null`"
            )


def _void_masks(
    masks: Sequence[MaskContents], splits: Sequence[str], mask_values: Mapping[int, int] | None
) -> Iterator[str]:
    values = (mask_values or {IGNORE: IGNORE}).items()
    ignored = {value for value, number in values if number == IGNORE}
    for split in sorted(splits):
        contents = [item.values for item in masks if item.record.split == split]
        if contents and all(stored <= ignored for stored in contents):
            listing = " or ".join(map(str, sorted(ignored)))
            yield (
                f"all masks of {split} are {listing} at every pixel, which is never scored: "
                "expected values of classes or 0, or `scored_splits` without that split"
            )
