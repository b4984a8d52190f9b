"""Class maps, label images, counts and weights on disk.

Stages exchange arrays in two formats: safetensors for floating-point arrays and 8-bit palette
PNG for label images. Both detect damaged files: PNG by a checksum of every chunk, safetensors by
the checksums of :mod:`pipeline.io.tensors`.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import UserError
from pipeline.io.files import damaged, replacing
from pipeline.io.images import LABEL_FORMATS, UnreadableImageError, cell_side, open_image
from pipeline.io.palette import voc_palette
from pipeline.io.tensors import TensorFile, write_arrays, write_tensors

if TYPE_CHECKING:  # the label stages run without torch, whose import takes seconds in each job
    from torch import Tensor

#: Signature at the beginning of a PNG file.
PNG = b"\x89PNG\r\n\x1a\n"
BACKGROUND = 0
IGNORE = 255


@dataclass(frozen=True)
class ClassMaps:
    """Class maps of one image, for the classes that it is labeled with.

    Attributes
    ----------
    classes : (K,) int64 array
        Class numbers, 1 to the number of classes, ascending. K may be 0.
    values : (K, h, w) float16 array
        One map for each class in [0, 1], at a fraction of the image's resolution.
    size : (int, int)
        Height and width of the image in pixels.
    agreement : (K,) float32 array or None
        Agreement between the views that the maps are fused from, in [0, 1]; None if unknown.
    full : (K, H, W) float16 array or None
        The same maps fused at the image's resolution; None if they are not kept.
    """

    classes: NDArray[np.int64]
    values: NDArray[np.float16]
    size: tuple[int, int]
    agreement: NDArray[np.float32] | None = None
    full: NDArray[np.float16] | None = None


def write_maps(path: Path, maps: Iterable[tuple[str, ClassMaps]]) -> None:
    """Write a shard of maps.

    The file has the tensors ``ID/classes``, ``ID/maps`` and ``ID/size`` for each image, and
    ``ID/agreement`` and ``ID/full`` if the maps have them.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for image_id, item in maps:
        tensors[f"{image_id}/classes"] = np.ascontiguousarray(item.classes, dtype=np.int64)
        tensors[f"{image_id}/maps"] = np.ascontiguousarray(item.values, dtype=np.float16)
        tensors[f"{image_id}/size"] = np.array(item.size, dtype=np.int64)
        if item.agreement is not None:
            tensors[f"{image_id}/agreement"] = np.asarray(item.agreement, dtype=np.float32)
        if item.full is not None:
            tensors[f"{image_id}/full"] = np.ascontiguousarray(item.full, dtype=np.float16)
    write_arrays(path, tensors)


class MapShard:
    """Maps of one shard, read from disk one image at a time.

    Raises
    ------
    UserError
        If the file is not a complete safetensors file, or maps of an image are not finite or have
        a size that fits no stride.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = TensorFile(path, "safetensors file of maps")
        keys = self._file.names
        self.ids = sorted(key.removesuffix("/size") for key in keys if key.endswith("/size"))
        #: Optional tensors that all images of the shard have.
        self._optional = [
            name
            for name in ("agreement", "full")
            if self.ids and {f"{image_id}/{name}" for image_id in self.ids} <= keys
        ]

    def __getitem__(self, image_id: str) -> ClassMaps:
        names = ["size", "maps", "classes", *self._optional]
        tensors = list(self._file.read(f"{image_id}/{name}" for name in names).values())
        size, values, classes = tensors[:3]
        height, width = size.tolist()
        optional = dict(zip(self._optional, tensors[3:], strict=True))
        if not all(np.isfinite(part).all() for part in (values, *optional.values())):
            raise UserError(
                f"{self._path}: maps of {image_id} hold values that are not finite, expected "
                "numbers in [0, 1]: make them again, with `precision: 32-true`"
            )
        try:
            cell_side((height, width), values.shape[1:])
        except UserError as error:
            raise UserError(f"{self._path}: {image_id}: {error}: make them again") from error
        return ClassMaps(classes, values, (height, width), **optional)

    def of_size(self, image_id: str, size: tuple[int, int]) -> ClassMaps:
        """Return the maps of an image, and check them against its known height and width.

        Raises
        ------
        UserError
            If the maps belong to an image of another size.
        """
        maps = self[image_id]
        if maps.size != tuple(size):
            raise UserError(
                f"{self._path}: maps of {image_id} are of an image of {maps.size}, expected "
                f"{tuple(size)}: delete this file and run again"
            )
        return maps

    def __iter__(self) -> Iterator[tuple[str, ClassMaps]]:
        return ((image_id, self[image_id]) for image_id in self.ids)


def maps_by_id(paths: Iterable[Path], required: Sequence[str] = ()) -> dict[str, MapShard]:
    """Return the shard of each image by image id.

    Parameters
    ----------
    paths : iterable of Path
        Files of the shards.
    required : sequence of str, optional
        Ids of images that must have maps.

    Raises
    ------
    UserError
        If a required image is in no shard.
    """
    shards = {image_id: shard for shard in map(MapShard, paths) for image_id in shard.ids}
    missing = [image_id for image_id in required if image_id not in shards]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(required)} images have no maps, first {missing[0]}: "
            "make the shards again, all with the same `shards`"
        )
    return shards


def write_features(path: Path, features: Sequence[NDArray[np.float16]]) -> None:
    """Write the features of the views of one image.

    Parameters
    ----------
    path : Path
    features : sequence of (1 or 2, F, h, w) float16 array
        Features of the image at each scale. With a second item, that of the mirror image, which is
        not mirrored back.
    """
    write_arrays(path, {str(number): scale for number, scale in enumerate(features)})


def read_features(path: Path, scales: Iterable[int]) -> list[NDArray[np.float16]]:
    """Read the features of one image at the scales of some numbers, counted from 0.

    Raises
    ------
    UserError
        If the file is absent or damaged, or lacks a scale. The message names the folder, since
        Snakemake makes outputs again only if the whole folder is absent.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        file = TensorFile(path, "safetensors file of features")
        return list(file.read(map(str, scales)).values())
    except UserError as error:
        raise _unusable(path, "features", str(error)) from error


def write_label(path: Path, label: NDArray[np.uint8]) -> None:
    """Write an (H, W) uint8 label image as a PNG with the VOC palette."""
    image = Image.fromarray(label)
    image.putpalette(voc_palette())
    with replacing(path) as partial:
        image.save(partial, format="PNG")


def read_label(path: Path, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Read a label image: a palette, 8-bit gray or black-and-white (0 and 1) PNG.

    Parameters
    ----------
    path : Path
    max_pixels : int, optional
        Maximum number of pixels, checked by the header; None for masks checked before.

    Returns
    -------
    (H, W) uint8 array
        0 background, 1 to 254 classes, 255 ignore.

    Raises
    ------
    UserError
        If the file cannot be decoded, is too large, contains colors instead of class numbers, or
        is gray with 2 or 4 bits per pixel, which readers scale in different ways.
    """
    try:
        return _decoded(path, max_pixels)
    except UnreadableImageError as error:
        raise UserError(f"{path}: {error}") from error


def _decoded(path: Path, max_pixels: int | None = None) -> NDArray[np.uint8]:
    with open_image(path, LABEL_FORMATS, what="mask", max_pixels=max_pixels) as image:
        _check_chunks(path.read_bytes())
        _check_pixel_type(image)
        return np.array(image, dtype=np.uint8)


def _check_chunks(content: bytes) -> None:
    """Raise ValueError if a chunk of a PNG is damaged, which Pillow ignores for pixel data.

    A chunk consists of the length of its data, four letters, the data and the CRC-32 of both
    (PNG specification, 5.3).
    """
    at, kind = len(PNG), b""
    while content.startswith(PNG) and kind != b"IEND":
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(content):
            raise ValueError("the file is truncated")
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError("a checksum does not match")
        at = end + 4


def _check_pixel_type(image: Image.Image) -> None:
    """Refuse a mask whose values are not class numbers, before it is decoded."""
    if image.mode not in {"P", "L", "1"}:
        raise UnreadableImageError(
            f"a mask is {image.mode}, expected one channel of class numbers (palette or "
            "8-bit gray PNG): save class numbers, not colors"
        )
    stored = str([tile[3] for tile in getattr(image, "tile", ())][:1])
    bits = next((bits for bits in (2, 4) if f"L;{bits}" in stored), None)
    if bits is not None:
        raise UnreadableImageError(
            f"a mask is gray with {bits} bits per pixel, which some readers scale to 255 and "
            "others do not, expected 8 bits: save it as a palette or 8-bit gray PNG"
        )


def read_made_label(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read a label image from the output folder of a job.

    Parameters
    ----------
    path : Path
    size : (int, int), optional
        Height and width of its image.

    Raises
    ------
    UserError
        If the file is damaged or has another size. The message names the folder, since
        Snakemake makes outputs again only if the whole folder is absent.
    """
    try:
        label = _decoded(path)
    except UnreadableImageError as error:
        raise _unusable(path, "label", str(error)) from error
    if size is not None and label.shape != tuple(size):
        reason = f"it is {label.shape}, expected {tuple(size)} as its image"
        raise _unusable(path, "label", reason)
    return label


def _unusable(path: Path, kind: str, reason: str) -> UserError:
    """Return the error for a file that a rule wrote into a folder."""
    return UserError(
        f"{path.parent}: its {kind} {path.name} cannot be used ({reason}): delete this folder and "
        "run again"
    )


def write_counts(path: Path, ids: Sequence[str], counts: NDArray[np.int64]) -> None:
    """Write pixel counts of each image, so that scores can be resampled.

    Parameters
    ----------
    path : Path
    ids : sequence of N str
        Ids of the images.
    counts : (N, 3, C) int64 array
        Counts from :func:`pipeline.metrics.segmentation.image_counts`.
    """
    tensors = {"counts": np.ascontiguousarray(counts, dtype=np.int64)}
    write_arrays(path, tensors, {"ids": list(ids)})


def read_counts(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Read a file of :func:`write_counts`: N ids and an (N, 3, C) array.

    Raises
    ------
    UserError
        If the file is damaged, or has no ids.
    """
    what = "safetensors file of counts"
    file = TensorFile(path, what)
    if "ids" not in file.description:
        raise damaged(path, what, "it has no image ids")
    return file.description["ids"], file.read(["counts"])["counts"]


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
        Stored as float16. Before rounding, they sum to 1 over the labels.
    """
    tensors: dict[str, NDArray[Any]] = {
        "classes": np.ascontiguousarray(numbers, dtype=np.uint8),
        "probabilities": np.ascontiguousarray(probabilities, dtype=np.float16),
    }
    write_arrays(path, tensors)


def read_soft_label(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Read a file of :func:`write_soft_label`: (L,) label values, (L, H, W) probabilities.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    file = TensorFile(path, "safetensors file of probabilities")
    numbers, probabilities = file.read(["classes", "probabilities"]).values()
    return numbers, probabilities


def write_weights(
    path: Path, tensors: Mapping[str, "Tensor"], description: Mapping[str, Any]
) -> None:
    """Write named tensors, with the settings that rebuild the model as a JSON description."""
    write_tensors(path, tensors, description)


def read_weights(path: Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read tensors and description, which is empty for files of other writers.

    Raises
    ------
    UserError
        If the file is absent, or not a complete safetensors file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file: expected a .safetensors file there")
    file = TensorFile(path, "safetensors weights file", framework="pt")
    return file.read(file.names), file.description


def read_network(path: Path, keys: Sequence[str]) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read the weights of a network, and check that its description has the expected keys.

    Raises
    ------
    UserError
        If the file is damaged, or belongs to another kind of network.
    """
    tensors, description = read_weights(path)
    missing = [key for key in keys if key not in description]
    if missing:
        raise UserError(
            f"{path}: a weights file without {', '.join(missing)}, expected "
            f"{', '.join(keys)}: it may belong to another kind of network; delete it and run again"
        )
    return tensors, description
