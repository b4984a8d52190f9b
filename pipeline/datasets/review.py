"""Reviews: a person's verdicts and corrected labels from the report's gallery.

A review has two parts, which different jobs read. The column ``labels`` corrects the
image-level labels, so it is part of the manifest and everything after it. The column ``verdict``
judges existing pseudo-labels, so it must not reach the manifest::

    review.csv --labels---> prepare_dataset ---> manifest.csv ---> classifiers, maps, pseudo-labels
               --verdicts-> list_left_out -----> left_out.csv ---> train_segmentation, export_labels
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.datasets.manifest import SEPARATOR, Record
from pipeline.datasets.source import MAX_NAME_LENGTH, Candidate, Source, unknown_label
from pipeline.datasets.tables import read_rows
from pipeline.errors import UserError, did_you_mean, shortened
from pipeline.io.tables import read_table, write_table

logger = logging.getLogger(__name__)

COLUMNS = ("image", "verdict", "labels", "note")
VERDICTS = ("good", "bad", "unsure")
#: Columns of the table of corrected image-level labels, and of the images that are left out.
CORRECTION_COLUMNS = ("image", "given", "corrected")
LEFT_OUT_COLUMNS = ("image",)
#: Kind of labels that the gallery shows and that a verdict is about, by split.
JUDGED = {"train": "pseudo_labels", "val": "predictions"}
#: Maximum number of problems in a message.
MAX_PROBLEMS = 20


@dataclass(frozen=True)
class Judgment:
    """One row of a review.

    Attributes
    ----------
    image : str
        Image id.
    verdict : str
        One of :data:`VERDICTS`, or empty for an image without a verdict.
    labels : tuple of str or None
        Corrected image-level labels; empty for an image that shows no class, None to keep the
        given labels.
    note : str
    """

    image: str
    verdict: str = ""
    labels: tuple[str, ...] | None = None
    note: str = ""


@dataclass(frozen=True)
class Correction:
    """Image-level labels of an image: those of the data set's table, and those of the review."""

    image: str
    given: tuple[str, ...]
    corrected: tuple[str, ...]


def read_review(path: Path) -> list[Judgment]:
    """Read a review that a person saved from the gallery or wrote by hand.

    Parameters
    ----------
    path : Path
        CSV with the columns :data:`COLUMNS` in any order; ``verdict``, ``labels`` and ``note``
        may be empty. Labels are joined by ``;``. A single ``;`` means that there is no class.

    Raises
    ------
    UserError
        If the file is not such a table, a verdict is unknown, or an image has two rows. The
        message has one line per problem.
    """
    problems: list[str] = []
    _, rows = read_rows(path, "reviewed images", COLUMNS, ",".join(COLUMNS), problems)
    judgments: dict[str, Judgment] = {}
    for number, row in rows:
        judgment = Judgment(row["image"], row["verdict"], _labels(row["labels"]), row["note"])
        problem = _row_problem(judgment, judgments)
        if problem:
            problems.append(f"{path}, line {number}: {problem}")
        else:
            judgments[judgment.image] = judgment
    refuse(problems)
    return list(judgments.values())


def write_review(path: Path, judgments: Sequence[Judgment]) -> None:
    """Write a review as the gallery saves it."""
    write_table(path, COLUMNS, ((j.image, j.verdict, _cell(j.labels), j.note) for j in judgments))


def bad_images(judgments: Sequence[Judgment]) -> list[str]:
    """Return the sorted ids of the images that were judged bad."""
    return sorted(judgment.image for judgment in judgments if judgment.verdict == "bad")


def corrected_labels(judgments: Sequence[Judgment]) -> dict[str, tuple[str, ...]]:
    """Return the corrected image-level labels by image id, sorted by id."""
    found = {j.image: j.labels for j in judgments if j.labels is not None}
    return dict(sorted(found.items()))


def correct_labels(source: Source, path: Path) -> list[Correction]:
    """Replace image-level labels of a data set, in place, by those of a review.

    Parameters
    ----------
    source : Source
        The data set as read. Unknown images and classes are added to its problems.
    path : Path
        The review.

    Returns
    -------
    list of Correction
        The labels that differ, sorted by image.
    """
    wanted = corrected_labels(read_review(path))
    places = {candidate.id: place for place, candidate in enumerate(source.candidates)}
    source.problems += unknown_images(wanted, places, path)
    done = []
    for image, labels in wanted.items():
        source.problems += [
            unknown_label(f"{path}, {image}", name, source.classes)
            for name in labels
            if name not in source.classes
        ]
        if image in places:
            given = source.candidates[places[image]]
            source.candidates[places[image]] = replace(given, labels=labels)
            done += _difference(given, labels)
    return done


def unknown_images(images: Collection[str], known: Collection[str], path: Path) -> list[str]:
    """Return one line for each image of a review that the data set lacks."""
    return [
        f"{path}: unknown image {shortened(image, MAX_NAME_LENGTH)!r}, expected an id of the "
        f"data set's manifest.csv{did_you_mean(image, list(known))}"
        for image in images
        if image not in known
    ]


def write_corrections(path: Path, corrections: Sequence[Correction]) -> None:
    """Write the image-level labels that a review changed, and log how many."""
    rows = ((c.image, SEPARATOR.join(c.given), SEPARATOR.join(c.corrected)) for c in corrections)
    write_table(path, CORRECTION_COLUMNS, rows)
    for one in corrections[:MAX_PROBLEMS]:
        logger.info(
            "labels of %s corrected: %s -> %s",
            one.image, ", ".join(one.given) or "none", ", ".join(one.corrected) or "none",
        )  # fmt: skip
    if corrections:
        logger.info("%d images have corrected labels, listed in %s", len(corrections), path)


def read_corrections(path: Path) -> list[Correction]:
    """Read a table of :func:`write_corrections`.

    Raises
    ------
    UserError
        If the table is damaged.
    """
    return [
        Correction(row["image"], _labels(row["given"]) or (), _labels(row["corrected"]) or ())
        for row in read_table(path, CORRECTION_COLUMNS)
    ]


def write_left_out(path: Path, images: Sequence[str]) -> None:
    """Write the ids of the images that networks and exports leave out."""
    write_table(path, LEFT_OUT_COLUMNS, ([image] for image in images))


def read_left_out(paths: Sequence[Path]) -> frozenset[str]:
    """Read the ids of the images to leave out.

    Parameters
    ----------
    paths : sequence of Path
        At most one table of :func:`write_left_out`.
    """
    return frozenset(row["image"] for path in paths for row in read_table(path, LEFT_OUT_COLUMNS))


def without_left_out(
    records: Sequence[Record], left_out: Collection[str], kind: str
) -> list[Record]:
    """Return the records whose labels of a kind were not judged bad.

    Parameters
    ----------
    records : sequence of Record
    left_out : collection of str
        Ids of the images that were judged bad.
    kind : {"pseudo_labels", "predictions"}
        A verdict is about the labels that the gallery shows: the pseudo-labels of train and the
        predictions of val.

    Raises
    ------
    UserError
        If no record remains.
    """
    kept = [r for r in records if r.id not in left_out or JUDGED[r.split] != kind]
    if records and not kept:
        raise UserError(
            f"all {len(records)} images were judged bad in dataset.review, expected one or more "
            "to remain: judge fewer images bad, or make other pseudo-labels"
        )
    if len(kept) < len(records):
        logger.info(
            "%d of %d images are left out: judged bad in the review",
            len(records) - len(kept), len(records),
        )  # fmt: skip
    return kept


def refuse(problems: Sequence[str]) -> None:
    """Raise a UserError that lists problems of a review, if there are any."""
    if not problems:
        return
    more = len(problems) - MAX_PROBLEMS
    rest = [f"and {more} more problems"] if more > 0 else []
    raise UserError("\n".join([*problems[:MAX_PROBLEMS], *rest]))


def _row_problem(judgment: Judgment, known: Collection[str]) -> str:
    """Return what is wrong with a row, or an empty string."""
    if not judgment.image:
        return "no image is named, expected an image id"
    if judgment.image in known:
        return f"{judgment.image} has a row already, expected one per image"
    if judgment.verdict and judgment.verdict not in VERDICTS:
        got = shortened(judgment.verdict, MAX_NAME_LENGTH)
        return (
            f"unknown verdict {got!r} of {judgment.image}, expected {', '.join(VERDICTS)} or an "
            f"empty cell{did_you_mean(judgment.verdict, VERDICTS)}"
        )
    return ""


def _labels(cell: str) -> tuple[str, ...] | None:
    if not cell:
        return None
    names = (name.strip() for name in cell.split(SEPARATOR))
    return tuple(dict.fromkeys(name for name in names if name))


def _cell(labels: tuple[str, ...] | None) -> str:
    return "" if labels is None else SEPARATOR.join(labels) or SEPARATOR


def _difference(given: Candidate, labels: tuple[str, ...]) -> list[Correction]:
    differs = set(given.labels) != set(labels)
    return [Correction(given.id, given.labels, labels)] if differs else []
