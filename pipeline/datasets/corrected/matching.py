"""Corrected masks of a data set's train images, checked before anything is trained on them."""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath

from pipeline.datasets.contradictions import MaskContents
from pipeline.datasets.corrected.files import CorrectedImage
from pipeline.datasets.findings import Finding, listed
from pipeline.datasets.manifest import SEPARATOR, Manifest, Record
from pipeline.datasets.source import MAX_NAME_LENGTH
from pipeline.errors import did_you_mean, shortened

#: Name of the finding about labels that differ from what a corrected mask shows.
CONTRADICTION = "corrected masks that contradict the image-level labels"


def match_images(
    found: Sequence[CorrectedImage], manifest: Manifest, problems: list[str]
) -> list[tuple[Record, CorrectedImage]]:
    """Find the train image of each corrected mask.

    Parameters
    ----------
    found : sequence of IndexImage or DrawnImage
    manifest : Manifest
    problems : list of str
        Grows by a line for each mask of an unknown image, of a val image, and for each second
        mask of an image.

    Returns
    -------
    list of (Record, CorrectedImage)
        In the order of ``found``.
    """
    records = {record.id: record for record in manifest.records}
    matched: dict[str, tuple[Record, CorrectedImage]] = {}
    for item in found:
        image_id = image_id_of(item.image, records)
        if image_id is None:
            name = shortened(item.image, MAX_NAME_LENGTH)
            stem = PurePosixPath(item.image.replace("\\", "/")).stem
            problems.append(
                f"{item.file}: unknown image {name!r}, expected an id of the data set's "
                f"manifest.csv{did_you_mean(stem, list(records))}"
            )
        elif records[image_id].split != "train":
            problems.append(
                f"{item.file}: {image_id} is an image of {records[image_id].split}, expected one "
                "of train, whose pseudo-label it corrects: delete this mask"
            )
        elif image_id in matched:
            problems.append(
                f"{item.file}: a second mask of {image_id}, expected one; the first is in "
                f"{matched[image_id][1].file}: delete one of them"
            )
        else:
            matched[image_id] = (records[image_id], item)
    return list(matched.values())


def image_id_of(name: str, known: Collection[str]) -> str | None:
    """Return the id of the image that a tool names; None if there is none.

    An id is the path below the image folder without suffix, with ``__`` between folders. Tools
    name images by a path that may begin with other folders, or by the file name alone.

    Parameters
    ----------
    name : str
        With slashes or backslashes.
    known : collection of str
        All ids.

    Examples
    --------
    >>> image_id_of("images/cats/1.jpg", {"cats__1", "1"})
    'cats__1'
    """
    path = PurePosixPath(name.replace("\\", "/"))
    ends = (path.with_suffix("").parts, path.parts) if path.name else ()
    candidates = ("__".join(parts[k:]) for parts in ends for k in range(len(parts)))
    return next((one for one in candidates if one in known), None)


def contradiction_findings(masks: Sequence[MaskContents]) -> Iterator[Finding]:
    """Yield a finding about labels that differ from what the corrected masks show."""
    differing = [item for item in masks if item.contradicts]
    if differing:
        yield Finding(
            CONTRADICTION,
            f"{len(differing)} of {len(masks)}, such as {listed(map(difference, differing))}",
            "Classifiers learn the labels, segmentation networks the masks",
            "Correct the masks, or the labels in the column `labels` of the review "
            f"(`dataset.review`), for example with the row `{review_row(differing[0])}`",
        )


def difference(item: MaskContents) -> str:
    """Return a text with the classes that only the labels or only the mask have."""
    shown, labels = item.classes or frozenset(), set(item.record.labels)
    parts = {"only labeled": labels - shown, "only in the mask": shown - labels}
    texts = [f"{text}: {', '.join(sorted(names))}" for text, names in parts.items() if names]
    return f"{item.record.id} ({'; '.join(texts)})"


def review_row(item: MaskContents) -> str:
    """Return the row of a review that gives an image the labels that its mask shows."""
    row = io.StringIO()
    cell = SEPARATOR.join(sorted(item.classes or ())) or SEPARATOR
    csv.writer(row, lineterminator="").writerow([item.record.id, "", cell, ""])
    return row.getvalue()
