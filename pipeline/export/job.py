"""Inputs of all export formats, and the summary of each exported image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.corrected.table import IMAGE_LABELS
from pipeline.datasets.manifest import Record, files_by_id
from pipeline.errors import UserError
from pipeline.io.arrays import BACKGROUND, IGNORE, read_made_label
from pipeline.runtime.parallel import map_images

Result = TypeVar("Result")


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export; the attributes are the keys of an ``options`` section.

    Attributes
    ----------
    images : {"link", "copy", "none"}
        How images are added to formats that contain them.
    polygons : bool
        COCO segmentations as polygons instead of run lengths.
    tolerance : float
        Tolerance of polygons in pixels; see :func:`pipeline.export.polygons.polygons`.
    ignore_mask_below : float
        Winning probability below which a pixel of a soft label is uncertain.
    """

    images: str = "link"
    polygons: bool = False
    tolerance: float = 0.5
    ignore_mask_below: float = 0.6

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> "ExportOptions":
        """Create options from an ``options`` section of the configuration."""
        return cls(**section)


@dataclass(frozen=True)
class ExportItem:
    """An image and the file of its label.

    Attributes
    ----------
    record : Record
    source : Path
    corrected : bool
        Whether the file is a corrected mask: a label image, also in an export of soft labels.
    """

    record: Record
    source: Path
    corrected: bool = False


@dataclass(frozen=True)
class Target:
    """Where and how an export is written.

    Attributes
    ----------
    root : Path
        Output folder.
    classes : tuple of str
        Class number k is ``classes[k - 1]``.
    options : ExportOptions
    supervision : str
        What the labels were made from.
    """

    root: Path
    classes: tuple[str, ...]
    options: ExportOptions
    supervision: str = IMAGE_LABELS


@dataclass(frozen=True)
class Exported:
    """Summary of one exported image.

    Attributes
    ----------
    split : str
    pixels : (256,) int64 array
        Number of pixels by label value.
    rewritten : bool
        Whether the image was rewritten in another format.
    """

    split: str
    pixels: NDArray[np.int64]
    rewritten: bool = False


#: Function that writes items with a number of processes and returns their summaries, in order.
Writer = Callable[[Sequence[ExportItem], Target, int], list[Exported]]


def export_items(
    records: Sequence[Record],
    folders: Sequence[Path],
    suffix: str,
    corrected: Mapping[str, Path] | None = None,
) -> list[ExportItem]:
    """Find the file ``ID`` + suffix of every record in one of the folders.

    Parameters
    ----------
    records : sequence of Record
    folders : sequence of Path
    suffix : str
    corrected : mapping of str to Path, optional
        Corrected masks by image id, which replace these files.

    Raises
    ------
    UserError
        If a record has no file.
    """
    masks = corrected or {}
    made = [record.id for record in records if record.id not in masks]
    found = {**masks, **files_by_id(made, folders, suffix)}
    return [ExportItem(record, found[record.id], record.id in masks) for record in records]


def export_each(
    function: Callable[..., Result],
    items: Sequence[ExportItem],
    target: Target,
    workers: int,
    what: str,
) -> list[Result]:
    """Return ``function(item, target=target)`` for every item, computed by several processes.

    ``what`` is the name of the export, for the log.
    """
    results = map_images(partial(function, target=target), items, workers=workers, what=what)
    return list(results)


def read_item(item: ExportItem, target: Target) -> NDArray[np.uint8]:
    """Read the label image of an item.

    Returns
    -------
    (H, W) uint8 array
        0 background, 1 to the number of classes, 255 ignore.

    Raises
    ------
    UserError
        If the label has another size than its image, or contains another value.
    """
    label = read_made_label(item.source)
    check_size(item, label.shape)
    check_values(item, np.unique(label), target)
    return label


def check_size(item: ExportItem, shape: tuple[int, ...]) -> None:
    """Raise a UserError if a label has another (height, width) than its image."""
    expected = (item.record.height, item.record.width)
    if shape != expected:
        raise UserError(
            f"{item.source}: label is {shape}, expected {expected}, the size of "
            f"{item.record.image}: make the label again"
        )


def check_values(item: ExportItem, values: NDArray[np.uint8], target: Target) -> None:
    """Raise a UserError if a label value is neither background nor a class nor 255."""
    known = range(BACKGROUND, len(target.classes) + 1)
    beyond = [value for value in values.tolist() if value not in known and value != IGNORE]
    if beyond:
        raise UserError(
            f"{item.source}: label has the values {beyond}, expected 0 to {len(target.classes)} "
            "and 255: make it again with this data set's classes"
        )


def exported(item: ExportItem, label: NDArray[np.uint8], rewritten: bool = False) -> Exported:
    """Return the summary of an item whose (H, W) label image was written."""
    counts = np.bincount(label.ravel(), minlength=256).astype(np.int64)
    return Exported(item.record.split, counts, rewritten)


def present_classes(label: NDArray[np.uint8]) -> list[int]:
    """Return the class numbers in a label image, ascending, without background and 255."""
    return [value for value in np.unique(label).tolist() if value not in (BACKGROUND, IGNORE)]


def by_split(items: Sequence[ExportItem]) -> dict[str, list[ExportItem]]:
    """Group items by split, in the given order."""
    groups: dict[str, list[ExportItem]] = {}
    for item in items:
        groups.setdefault(item.record.split, []).append(item)
    return groups
