"""Everything that can be wrong with a data set, found before any compute."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.artifacts import BACKGROUND, IGNORE, read_label
from pipeline.datasets.manifest import Record
from pipeline.datasets.names import image_problem
from pipeline.datasets.source import Candidate, Source
from pipeline.errors import UserError, shortened
from pipeline.files import content_digest
from pipeline.images import MOST_PIXELS, read_rgb
from pipeline.progress import progress

logger = logging.getLogger(__name__)

#: Problems that are shown; the log has all of them.
SHOWN = 50


@dataclass(frozen=True)
class Looked:
    """What a look at the pixels of one image found."""

    record: Record | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """What a look at the mask and the boxes of one image found."""

    problems: tuple[str, ...]
    contradicts: bool = False
    scored: bool = False


def checked_records(
    source: Source,
    threads: int,
    splits: Sequence[str] = ("train", "val"),
    max_pixels: int = MOST_PIXELS,
) -> list[Record]:
    """Check the photographs of a data set by their content and give their records.

    Parameters
    ----------
    source : Source
        As read, with the problems met so far.
    threads : int
        Files decoded at the same time.
    splits : sequence of str
        What each must have an image of.
    max_pixels : int
        Pixels of a photograph at most.

    Raises
    ------
    UserError
        If there is any problem: all of them in one message, a line each.
    """
    problems = [*source.problems, *_problems_of_lists(source.candidates, splits)]
    records = []
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(partial(look, max_pixels=max_pixels), source.candidates)
        for looked in progress(found, total=len(source.candidates), what="images checked"):
            problems += looked.problems
            records += [looked.record] if looked.record else []
    if problems:
        raise UserError(_listed(problems))
    logger.info("%d images", len(records))
    if source.skipped:
        logger.warning(
            "%d entries among the photographs were skipped (hidden, left by a system, or a link "
            "back to a folder above it), first %s",
            len(source.skipped), source.skipped[0],
        )  # fmt: skip
    return records


def check_truth(
    source: Source, records: Sequence[Record], splits: Sequence[str], threads: int
) -> None:
    """Check the masks and the boxes of a data set by their content.

    Parameters
    ----------
    source : Source
        As read, with the problems met so far.
    records : sequence of Record
        The photographs, as :func:`checked_records` gave them.
    splits : sequence of str
        What each must have a mask of.
    threads : int
        Files decoded at the same time.

    Raises
    ------
    UserError
        If there is any problem: all of them in one message, a line each.
    """
    truths = {candidate.id: candidate for candidate in source.candidates}
    pairs = [(truths[record.id], record) for record in records if record.id in truths]
    problems = [*source.problems, *_unmasked(pairs, splits)]
    contradictions = 0
    scored = set()
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda pair: compare(pair[0], pair[1], source.classes), pairs)
        looked = progress(found, total=len(pairs), what="masks checked")
        for pair, compared in zip(pairs, looked, strict=True):
            problems += compared.problems
            contradictions += compared.contradicts
            if compared.scored:
                scored.add(pair[1].split)
    if not problems:
        problems += _void({record.split for _, record in pairs if record.split in splits} - scored)
    if problems:
        raise UserError(_listed(problems))
    for split, (masks, images) in _masks_of_splits(pairs).items():
        logger.info("%s: %d of %d images have a mask to score against", split, masks, images)
    if source.unused_masks and any(not candidate.mask for candidate in source.candidates):
        logger.warning(
            "%d masks are no image's, first %s: expected PNG files with the images' names",
            len(source.unused_masks),
            source.unused_masks[0],
        )
    if contradictions:
        logger.warning(
            "%d masks show other classes than their image's labels; the labels stay as they are",
            contradictions,
        )


def look(candidate: Candidate, max_pixels: int = MOST_PIXELS) -> Looked:
    """Decode an image."""
    try:
        height, width = read_rgb(candidate.image, max_pixels=max_pixels).shape[:2]
    except UserError as error:
        return Looked(None, (str(error),))
    digest = content_digest(candidate.image)
    named = (candidate.id, candidate.image, width, height, candidate.split, candidate.labels)
    return Looked(Record(*named, digest), ())


def compare(candidate: Candidate, record: Record, classes: Sequence[str]) -> Compared:
    """Decode the mask of an image and compare it, and the boxes, with what is known of it."""
    problems = tuple(_outside(candidate, record.width, record.height))
    if candidate.mask is None:
        return Compared(problems)
    try:
        values = _values(candidate.mask, record, classes)
    except UserError as error:
        return Compared((*problems, str(error)))
    shown = {classes[value - 1] for value in values - {BACKGROUND}}
    return Compared(problems, contradicts=shown != set(record.labels), scored=bool(values))


def _masks_of_splits(
    pairs: Sequence[tuple[Candidate, Record]],
) -> dict[str, tuple[int, int]]:
    """Count the masks and the images of each split."""
    images = Counter(record.split for _, record in pairs)
    masks = Counter(record.split for candidate, record in pairs if candidate.mask is not None)
    return {split: (masks[split], count) for split, count in images.items()}


def _unmasked(pairs: Sequence[tuple[Candidate, Record]], splits: Sequence[str]) -> Iterator[str]:
    for split, (masks, images) in _masks_of_splits(pairs).items():
        if split in splits and not masks:
            example = next(record.id for _, record in pairs if record.split == split)
            yield (
                f"none of the {images} {split} images has a mask of its name, such as "
                f"{example.replace('__', '/')}.png, expected some to score against: rename the "
                "masks, leave the split out of the dataset's `scored`, or set `masks: null`"
            )


def _void(splits: set[str]) -> Iterator[str]:
    for split in sorted(splits):
        yield (
            f"all masks of {split} are {IGNORE} at every pixel, which is never scored: expected "
            "values of classes or 0, or `scored` without that split"
        )


def _outside(candidate: Candidate, width: int, height: int) -> Iterator[str]:
    # Boxes that reach a little beyond the picture are common, and harmless.
    for box in candidate.boxes:
        if not (box.left < width and box.right > 0 and box.top < height and box.bottom > 0):
            edges = f"{box.left}, {box.top}, {box.right}, {box.bottom}"
            yield (
                f"{candidate.image}: the box of {box.label} (left, top, right, bottom: {edges}) "
                f"is wholly outside the picture, expected edges in pixels of {width}x{height}"
            )


def _values(path: Path, record: Record, classes: Sequence[str]) -> set[int]:
    """Give the values in a mask that are scored: those of classes, and the background's."""
    width, height = record.width, record.height
    mask = read_label(path, max(MOST_PIXELS, width * height))
    if mask.shape != (height, width):
        got = f"{mask.shape[1]}x{mask.shape[0]}"
        raise UserError(f"{path}: mask is {got}, expected {width}x{height} as {record.image}")
    values = set(np.unique(mask).tolist()) - {IGNORE}
    beyond = sorted(value for value in values if value > len(classes))
    if beyond:
        raise UserError(
            f"{path}: mask has the values {beyond}, expected 0 to {len(classes)} and 255"
        )
    return values


def _problems_of_lists(candidates: Sequence[Candidate], splits: Sequence[str]) -> Iterator[str]:
    listed: dict[str, list[str]] = {}
    for candidate in candidates:
        if problem := image_problem(candidate.id, candidate.image):
            yield f"{candidate.image}: {problem}"
        listed.setdefault(candidate.id, []).append(candidate.split)
    for image_id, names in listed.items():
        if len(set(names)) > 1:
            yield f"{image_id}: image is in train and in val, expected one split"
        elif len(names) > 1:
            yield f"{image_id}: image is listed {len(names)} times in {names[0]}, expected once"
    counts = Counter(candidate.split for candidate in candidates)
    for split in splits:
        if not counts[split]:
            yield f"split {split} has no image, expected one or more"
    if counts["train"] and not any(c.labels for c in candidates if c.split == "train"):
        yield "no training image has a label, expected labels to learn from"


def _listed(problems: Sequence[str]) -> str:
    # A name with a line break must not look like a problem of its own.
    problems = [shortened(problem.replace("\n", "\\n")) for problem in problems]
    for problem in problems[SHOWN:]:
        logger.info("%s", problem)
    more = [f"... and {len(problems) - SHOWN} more, in the log"] if len(problems) > SHOWN else []
    title = f"the data set has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"
    return "\n  ".join([title, *problems[:SHOWN], *more])
