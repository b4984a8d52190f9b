"""The only codec: class maps, label images, weights and scores on disk.

Two formats carry all data between stages: safetensors for floating-point arrays and
8-bit palette PNG for label images. Every file is written beside its place and moved
there whole, so that a killed job leaves no half of one.
"""

import csv
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.datasets.palette import voc_palette
from pipeline.errors import UserError

if TYPE_CHECKING:  # the label stages run without torch: importing it costs seconds a job
    from torch import Tensor

_NO_SPACE = f"os error {errno.ENOSPC}"

#: An image's id and its (C,) scores.
ClassScoreRow = tuple[str, NDArray[np.floating]]

BACKGROUND = 0
IGNORE = 255


@dataclass(frozen=True)
class ClassMaps:
    """Maps of the classes that an image is labelled with.

    Attributes
    ----------
    classes : (K,) int64 array
        Class numbers, 1 to the number of classes, ascending. K may be 0.
    values : (K, h, w) float16 array
        One map per class in [0, 1], at a fraction of the image's resolution.
    size : (int, int)
        Height and width of the image in pixels.
    agreement : (K,) float32 array or None
        How much the views that the maps are made of agree, in [0, 1]; None where nobody says.
    """

    classes: NDArray[np.int64]
    values: NDArray[np.float16]
    size: tuple[int, int]
    agreement: NDArray[np.float32] | None = None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        # Pillow's error lacks the path, and safetensors words a full disk in its own way.
        if getattr(error, "errno", None) == errno.ENOSPC or _NO_SPACE in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_maps(path: Path, maps: Iterable[tuple[str, ClassMaps]]) -> None:
    """Write a shard of maps.

    Of every image the tensors ``ID/classes``, ``ID/maps`` and ``ID/size``, and ``ID/agreement``
    where the maps know it.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for image_id, item in maps:
        tensors[f"{image_id}/classes"] = np.ascontiguousarray(item.classes, dtype=np.int64)
        tensors[f"{image_id}/maps"] = np.ascontiguousarray(item.values, dtype=np.float16)
        tensors[f"{image_id}/size"] = np.array(item.size, dtype=np.int64)
        if item.agreement is not None:
            tensors[f"{image_id}/agreement"] = np.asarray(item.agreement, dtype=np.float32)
    with replacing(path) as partial:
        save_file(tensors, partial)


class MapShard:
    """Maps of one shard, read from disk one image at a time.

    Raises
    ------
    UserError
        If the file is not a whole safetensors file, or an image's maps are not finite.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with safe_open(path, framework="np") as file:
                keys = set(file.keys())
        except SafetensorError as error:
            raise _damaged(path, "safetensors file of maps", error) from error
        self.ids = sorted(key.removesuffix("/size") for key in keys if key.endswith("/size"))
        self._says_agreement = {f"{image_id}/agreement" for image_id in self.ids} <= keys

    def __getitem__(self, image_id: str) -> ClassMaps:
        try:
            with safe_open(self._path, framework="np") as file:
                height, width = file.get_tensor(f"{image_id}/size").tolist()
                values = file.get_tensor(f"{image_id}/maps")
                classes = file.get_tensor(f"{image_id}/classes")
                agreement = None
                if self._says_agreement:
                    agreement = file.get_tensor(f"{image_id}/agreement")
        except SafetensorError as error:
            raise _damaged(self._path, "safetensors file of maps", error) from error
        if not np.isfinite(values).all():
            raise UserError(
                f"{self._path}: maps of {image_id} hold values that are not finite, expected "
                "numbers in [0, 1]: make them again, with `precision: 32-true`"
            )
        return ClassMaps(classes, values, (height, width), agreement)

    def __iter__(self) -> Iterator[tuple[str, ClassMaps]]:
        return ((image_id, self[image_id]) for image_id in self.ids)


def maps_by_id(paths: Iterable[Path], wanted: Sequence[str] = ()) -> dict[str, MapShard]:
    """Tell of every image the shard that holds its maps.

    Parameters
    ----------
    paths : iterable of Path
        Shards.
    wanted : sequence of str, optional
        Images that must be there.

    Raises
    ------
    UserError
        If a wanted image is in no shard.
    """
    shards = {image_id: shard for shard in map(MapShard, paths) for image_id in shard.ids}
    lacking = [image_id for image_id in wanted if image_id not in shards]
    if lacking:
        raise UserError(
            f"{len(lacking)} of {len(wanted)} images have no maps, first {lacking[0]}: "
            "make the shards again, all with the same `shards`"
        )
    return shards


def write_label(path: Path, label: NDArray[np.uint8]) -> None:
    """Write an (H, W) uint8 label image as a PNG with the VOC palette."""
    image = Image.fromarray(label)
    image.putpalette(voc_palette())
    with replacing(path) as partial:
        image.save(partial, format="PNG")


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read a label image of any writer: palette or 8-bit grey PNG.

    Returns
    -------
    (H, W) uint8 array
        0 background, 1 to 254 classes, 255 ignore.

    Raises
    ------
    UserError
        If the file cannot be decoded or holds colours instead of class numbers.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in {"P", "L"}:
                raise UserError(
                    f"{path}: a mask is {image.mode}, expected one channel of class numbers "
                    "(palette or 8-bit grey PNG): save class numbers, not colours"
                )
            return np.array(image, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise _damaged(path, "mask", error) from error


def write_scores(path: Path, scores: Mapping[str, Any]) -> None:
    """Write a JSON document; numbers that are not finite are written as null."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(_finite(scores), indent=1, allow_nan=False) + "\n")


def read_scores(path: Path) -> dict[str, Any]:
    """Read a JSON document that :func:`write_scores` wrote.

    Raises
    ------
    UserError
        If the file is not a whole JSON document.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise _damaged(path, "JSON document", error) from error
    return document


def write_counts(path: Path, ids: Sequence[str], counts: NDArray[np.int64]) -> None:
    """Write what the scores of images are made of, so that they can be resampled.

    Parameters
    ----------
    path : Path
    ids : sequence of N str
        The images.
    counts : (N, 3, C) int64 array
        As :func:`pipeline.metrics.segmentation.image_counts` gives them.
    """
    with replacing(path) as partial:
        tensors = {"counts": np.ascontiguousarray(counts, dtype=np.int64)}
        save_file(tensors, partial, metadata={"ids": json.dumps(list(ids))})


def read_counts(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Read what :func:`write_counts` wrote: N ids, and an (N, 3, C) array."""
    try:
        with safe_open(path, framework="np") as file:
            return json.loads(file.metadata()["ids"]), file.get_tensor("counts")
    except SafetensorError as error:
        raise _damaged(path, "safetensors file of counts", error) from error


def write_soft_label(
    path: Path, numbers: NDArray[np.integer[Any]], probabilities: NDArray[np.floating]
) -> None:
    """Write the probabilities of one image's labels.

    Parameters
    ----------
    path : Path
    numbers : (L,) integer array
        Label values, 0 (background) first; labels that are not listed have probability 0.
    probabilities : (L, H, W) float array
        Rounded to float16; they sum to 1 over the labels up to that rounding.
    """
    with replacing(path) as partial:
        tensors: dict[str, NDArray[Any]] = {
            "classes": np.ascontiguousarray(numbers, dtype=np.uint8),
            "probabilities": np.ascontiguousarray(probabilities, dtype=np.float16),
        }
        save_file(tensors, partial)


def read_soft_label(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Read what :func:`write_soft_label` wrote: (L,) label values, (L, H, W) probabilities."""
    try:
        with safe_open(path, framework="np") as file:
            return file.get_tensor("classes"), file.get_tensor("probabilities")
    except SafetensorError as error:
        raise _damaged(path, "safetensors file of probabilities", error) from error


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV table; None and numbers that are not finite become empty cells."""
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_finite(value) for value in row] for row in rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV table: one mapping of its columns a row.

    Raises
    ------
    UserError
        If the file is not text, or a row has more or fewer cells than there are columns.
    """
    header, *rows = _cells(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def write_class_scores(path: Path, classes: Sequence[str], rows: Iterable[ClassScoreRow]) -> None:
    """Write one row an image: its id and one score a class."""
    cells = ((image_id, *(f"{score:.6g}" for score in scores)) for image_id, scores in rows)
    write_table(path, ("id", *classes), cells)


def read_class_scores(paths: Iterable[Path]) -> dict[str, NDArray[np.float64]]:
    """Read what :func:`write_class_scores` wrote, of all shards: (C,) scores by image id.

    Raises
    ------
    UserError
        If a file is not a whole table of numbers.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for path in paths:
        rows = _cells(path)[1:]
        try:
            found |= {row[0]: np.array(row[1:], np.float64) for row in rows}
        except ValueError as error:
            raise _damaged(path, "table of class scores", error) from error
    return found


def write_weights(
    path: Path, tensors: Mapping[str, "Tensor"], description: Mapping[str, Any]
) -> None:
    """Write named tensors with a JSON description of what rebuilds the model that holds them."""
    from safetensors.torch import save_file as save_tensors

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        save_tensors(whole, partial, metadata={"description": json.dumps(description)})


def read_weights(path: Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read tensors and description; a safetensors file of another writer has an empty description.

    Raises
    ------
    UserError
        If the file is absent, or no whole safetensors file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file: expected a .safetensors file there")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get("description", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, "safetensors weights file", error) from error


def _cells(path: Path) -> list[list[str]]:
    """Read the rows of a CSV table, its header first, all of one length."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise _damaged(path, "CSV table", error) from error
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise _damaged(
                path, "CSV table", f"row {number} has {len(row)} cells, expected {len(rows[0])}"
            )
    if not rows:
        raise _damaged(path, "CSV table", "the file is empty")
    return rows


def _damaged(path: Path, what: str, error: Exception | str) -> UserError:
    return UserError(f"{path}: not a whole {what} ({error}): delete it and make it again")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
