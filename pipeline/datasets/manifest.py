"""The manifest: a data set's labeled images, with the ground truth in separate files.

Training stages receive only the manifest and the class names; the one exception is the upper
bound, ``train_upper_bound``. The lists of masks and of boxes are
separate files, so the inputs of each rule show whether it can see ground truth.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.masks import Mask
from pipeline.errors import UserError
from pipeline.io.files import content_digest, damaged, replacing
from pipeline.io.tables import read_json, read_table, write_table

COLUMNS = ("id", "image", "width", "height", "split", "labels", "digest")
MASK_COLUMNS = ("id", "mask", "digest", "values")
BOX_COLUMNS = ("label", "left", "top", "right", "bottom")
SEPARATOR = ";"


@dataclass(frozen=True)
class Record:
    """One image and its image-level labels.

    Attributes
    ----------
    id : str
        Name of the image in every later file.
    image : Path
        The image file.
    width, height : int
        Size in pixels, upright (after EXIF orientation).
    split : str
        ``"train"`` or ``"val"``.
    labels : tuple of str
        Class names; empty for an image without foreground.
    digest : str
        Digest of the file's bytes, so the manifest changes if a file is replaced in place.
    """

    id: str
    image: Path
    width: int
    height: int
    split: str
    labels: tuple[str, ...]
    digest: str = ""


@dataclass(frozen=True)
class Box:
    """The true box of one object.

    Attributes
    ----------
    label : str
        Class name.
    left, top, right, bottom : float
        Edges in pixels from the image's upper left corner; a box of one pixel has
        ``right - left == 1``.
    """

    label: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Manifest:
    """All records of a data set and its class names; class number k is ``classes[k - 1]``."""

    classes: tuple[str, ...]
    records: tuple[Record, ...]

    def of_split(self, split: str) -> list[Record]:
        """Return the records of one split, in the manifest's order."""
        return [record for record in self.records if record.split == split]

    def of_shard(self, split: str, shard: int, shards: int) -> list[Record]:
        """Return every ``shards``-th record of a split, starting at number ``shard``."""
        return self.of_split(split)[shard::shards]

    def class_numbers(self, record: Record) -> NDArray[np.int64]:
        """Return a record's labels as ascending class numbers from 1, shape (K,)."""
        numbers = sorted(self.classes.index(name) + 1 for name in record.labels)
        return np.array(numbers, dtype=np.int64)

    def targets(self, records: Sequence[Record]) -> NDArray[np.float32]:
        """Return the labels as a 0/1 matrix of shape (N, classes)."""
        matrix = np.zeros((len(records), len(self.classes)), dtype=np.float32)
        for row, record in zip(matrix, records, strict=True):
            row[self.class_numbers(record) - 1] = 1
        return matrix


def evenly_spaced(records: Sequence[Record], count: int) -> list[Record]:
    """Select at most ``count`` evenly spaced records."""
    count = min(count, len(records))
    return [records[index * len(records) // count] for index in range(count)]


def files_by_id(
    ids: Sequence[str], folders: Sequence[Path], suffix: str = ".png", what: str = "label"
) -> dict[str, Path]:
    """Find the file ``ID`` + suffix of every image in one of the folders.

    Parameters
    ----------
    ids : sequence of str
        Image ids, in the order of the result.
    folders : sequence of Path
        Folders of all shards.
    suffix : str, default ".png"
        Suffix of the files; the default is that of label images.
    what : str, default "label"
        Content of the files, for the message.

    Raises
    ------
    UserError
        If an image has no file.
    """
    found = {path.name: path for folder in folders for path in folder.glob(f"*{suffix}")}
    missing = [image_id for image_id in ids if f"{image_id}{suffix}" not in found]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(ids)} images have no {what} in "
            f"{', '.join(map(str, folders)) or 'no folder'}, first {missing[0]}{suffix}: "
            "delete incomplete folders and run again"
        )
    return {image_id: found[f"{image_id}{suffix}"] for image_id in ids}


def write_manifest(path: Path, records: Sequence[Record]) -> None:
    """Write records as CSV with the columns ``id,image,width,height,split,labels,digest``."""
    rows = (
        (r.id, r.image, r.width, r.height, r.split, SEPARATOR.join(r.labels), r.digest)
        for r in records
    )
    write_table(path, COLUMNS, rows)


def write_classes(path: Path, classes: Sequence[str]) -> None:
    """Write class names as a JSON list; position k (from 1) is class number k."""
    with replacing(path) as partial:
        partial.write_text(
            json.dumps(list(classes), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def read_manifest(manifest: Path, classes: Path) -> Manifest:
    """Read the files that :func:`write_manifest` and :func:`write_classes` wrote.

    Raises
    ------
    UserError
        If a file is damaged or has other columns.
    """
    rows = read_table(manifest, COLUMNS)
    try:
        records = tuple(map(_record, rows))
    except ValueError as error:
        raise damaged(manifest, "manifest", error) from error
    return Manifest(classes=read_classes(classes), records=records)


def read_classes(path: Path) -> tuple[str, ...]:
    """Read the class names that :func:`write_classes` wrote.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise damaged(path, "list of class names", f"it holds {names!r}"[:80])
    return tuple(names)


def write_masks(
    path: Path, masks: Mapping[str, Path], values: Mapping[int, int] | None = None
) -> None:
    """Write the ground-truth mask of every image that has one, as CSV ``id,mask,digest,values``.

    Parameters
    ----------
    path : Path
        Output.
    masks : mapping of str to Path
        Mask by image id.
    values : mapping of int to int, optional
        Label value by stored value, written as ``255=1 0=0`` into every row. Empty if the
        stored values are the label values.
    """
    meaning = " ".join(f"{value}={number}" for value, number in (values or {}).items())
    rows = ((image_id, mask, content_digest(mask), meaning) for image_id, mask in masks.items())
    write_table(path, MASK_COLUMNS, rows)


def read_masks(path: Path) -> dict[str, Mask]:
    """Read the masks that :func:`write_masks` listed. Not for training on pseudo-labels.

    Raises
    ------
    UserError
        If the file is damaged or has other columns.
    """
    try:
        return {
            row["id"]: Mask(Path(row["mask"]), _values(row["values"]))
            for row in read_table(path, MASK_COLUMNS)
        }
    except ValueError as error:
        raise damaged(path, "list of masks", error) from error


def _values(text: str) -> dict[int, int] | None:
    pairs = [pair.split("=") for pair in text.split()]
    values = {int(value): int(number) for value, number in pairs}
    if not all(0 <= part <= 255 for pair in values.items() for part in pair):
        raise ValueError(f"values are {text!r}, expected numbers from 0 to 255")
    return values or None


def write_boxes(path: Path, boxes: Mapping[str, Sequence[Box]]) -> None:
    """Write the true boxes of images, as CSV ``id,label,left,top,right,bottom``."""
    rows = (
        (image_id, *(getattr(box, column) for column in BOX_COLUMNS))
        for image_id, items in boxes.items()
        for box in items
    )
    write_table(path, ("id", *BOX_COLUMNS), rows)


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Read the boxes that :func:`write_boxes` wrote. For scoring only."""
    boxes: dict[str, list[Box]] = {}
    try:
        for row in read_table(path, ("id", *BOX_COLUMNS)):
            edges = (float(row[name]) for name in BOX_COLUMNS[1:])
            boxes.setdefault(row["id"], []).append(Box(row["label"], *edges))
    except ValueError as error:
        raise damaged(path, "table of boxes", error) from error
    return boxes


def _record(row: Mapping[str, str]) -> Record:
    return Record(
        id=row["id"],
        image=Path(row["image"]),
        width=int(row["width"]),
        height=int(row["height"]),
        split=row["split"],
        labels=tuple(name for name in row["labels"].split(SEPARATOR) if name),
        digest=row["digest"],
    )
