"""Checks of the images and image-level labels of a data set, run before anything is computed."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pipeline.datasets.manifest import Record
from pipeline.datasets.names import image_problem
from pipeline.datasets.source import Candidate, Source
from pipeline.errors import UserError, shortened
from pipeline.io.files import content_digest
from pipeline.io.images import MAX_PIXELS, read_rgb
from pipeline.runtime.progress import progress

logger = logging.getLogger(__name__)

#: Maximum number of problems in a message; the log has all of them.
MAX_PROBLEMS = 50


@dataclass(frozen=True)
class CheckedImage:
    """The record of a decoded image, or the problems that it has."""

    record: Record | None
    problems: tuple[str, ...]


def checked_records(
    source: Source,
    threads: int,
    splits: Sequence[str] = ("train", "val"),
    max_pixels: int = MAX_PIXELS,
) -> list[Record]:
    """Decode and check the images of a data set, and return their records.

    Parameters
    ----------
    source : Source
        The data set as read, with the problems found so far.
    threads : int
        Number of files decoded at the same time.
    splits : sequence of str
        Splits that must have at least one image.
    max_pixels : int
        Maximum number of pixels of an image.

    Raises
    ------
    UserError
        If there is any problem. The message has one line per problem.
    """
    problems = [*source.problems, *_list_problems(source.candidates, splits)]
    records = []
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(partial(check_image, max_pixels=max_pixels), source.candidates)
        for checked in progress(found, total=len(source.candidates), what="images checked"):
            problems += checked.problems
            records += [checked.record] if checked.record else []
    if problems:
        raise UserError(problem_list(problems))
    logger.info("%d images", len(records))
    if source.skipped:
        logger.warning(
            "%d entries in the image folder were skipped (hidden files, system files, or links "
            "back to a parent folder), first %s",
            len(source.skipped), source.skipped[0],
        )  # fmt: skip
    return records


def check_image(candidate: Candidate, max_pixels: int = MAX_PIXELS) -> CheckedImage:
    """Decode an image and return its record, or the problem that it has."""
    try:
        height, width = read_rgb(candidate.image, max_pixels=max_pixels).shape[:2]
    except UserError as error:
        return CheckedImage(None, (str(error),))
    digest = content_digest(candidate.image)
    named = (candidate.id, candidate.image, width, height, candidate.split, candidate.labels)
    return CheckedImage(Record(*named, digest), ())


def _list_problems(candidates: Sequence[Candidate], splits: Sequence[str]) -> Iterator[str]:
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


def problem_list(problems: Sequence[str]) -> str:
    """Return the message that lists the first :data:`MAX_PROBLEMS` problems, and log the others."""
    # A name with a line break must not look like a separate problem.
    problems = [shortened(problem.replace("\n", "\\n")) for problem in problems]
    for problem in problems[MAX_PROBLEMS:]:
        logger.info("%s", problem)
    more = (
        [f"... and {len(problems) - MAX_PROBLEMS} more, in the log"]
        if len(problems) > MAX_PROBLEMS
        else []
    )
    title = f"the data set has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"
    return "\n  ".join([title, *problems[:MAX_PROBLEMS], *more])
