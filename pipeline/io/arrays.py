"""The only codec of arrays: class maps, label images, counts and weights on disk.

Two formats carry all data between stages: safetensors for floating-point arrays and
8-bit palette PNG for label images. Both know a damaged file: a PNG has a checksum of every
chunk, and a safetensors file has those of :mod:`pipeline.io.tensors`.
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
from pipeline.io.images import LABEL_IMAGES, UnreadableImageError, cell_side, open_image
from pipeline.io.palette import voc_palette
from pipeline.io.tensors import TensorFile, write_arrays, write_tensors

if TYPE_CHECKING:  # the label stages run without torch: importing it costs seconds a job
    from torch import Tensor

#: The bytes that a PNG begins with.
PNG = b"\x89PNG\r\n\x1a\n"
BACKGROUND = 0
IGNORE = 255


@dataclass(frozen=True)
class ClassMaps:
    """Maps of the classes that an image is labeled with.

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
    full : (K, H, W) float16 array or None
        The same maps fused at the image's resolution, where they are kept.
    """

    classes: NDArray[np.int64]
    values: NDArray[np.float16]
    size: tuple[int, int]
    agreement: NDArray[np.float32] | None = None
    full: NDArray[np.float16] | None = None


def write_maps(path: Path, maps: Iterable[tuple[str, ClassMaps]]) -> None:
    """Write a shard of maps.

    Of every image the tensors ``ID/classes``, ``ID/maps`` and ``ID/size``, and ``ID/agreement``
    and ``ID/full`` where the maps have them.
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
        If the file is not a whole safetensors file, or an image's maps are not finite or of a
        size that no stride makes of the image's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = TensorFile(path, "safetensors file of maps")
        keys = self._file.names
        self.ids = sorted(key.removesuffix("/size") for key in keys if key.endswith("/size"))
        #: What all images of the shard have beyond their classes, size and maps.
        self._more = [
            name
            for name in ("agreement", "full")
            if self.ids and {f"{image_id}/{name}" for image_id in self.ids} <= keys
        ]

    def __getitem__(self, image_id: str) -> ClassMaps:
        names = ["size", "maps", "classes", *self._more]
        tensors = list(self._file.read(f"{image_id}/{name}" for name in names).values())
        size, values, classes = tensors[:3]
        height, width = size.tolist()
        more = dict(zip(self._more, tensors[3:], strict=True))
        if not all(np.isfinite(part).all() for part in (values, *more.values())):
            raise UserError(
                f"{self._path}: maps of {image_id} hold values that are not finite, expected "
                "numbers in [0, 1]: make them again, with `precision: 32-true`"
            )
        try:
            cell_side((height, width), values.shape[1:])
        except UserError as error:
            raise UserError(f"{self._path}: {image_id}: {error}: make them again") from error
        return ClassMaps(classes, values, (height, width), **more)

    def of_size(self, image_id: str, size: tuple[int, int]) -> ClassMaps:
        """Give the maps of an image whose height and width are known from elsewhere.

        Raises
        ------
        UserError
            If the maps are of an image of another size.
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


def read_label(path: Path, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Read a label image of any writer: palette, 8-bit gray or black-and-white (0 and 1) PNG.

    Parameters
    ----------
    path : Path
    max_pixels : int, optional
        Pixels at most, by its header; None for masks that were let in before.

    Returns
    -------
    (H, W) uint8 array
        0 background, 1 to 254 classes, 255 ignore.

    Raises
    ------
    UserError
        If the file cannot be decoded, is too large, holds colors instead of class numbers, or is
        gray of 2 or 4 bits a pixel, which readers scale in different ways.
    """
    try:
        return _decoded(path, max_pixels)
    except UnreadableImageError as error:
        raise UserError(f"{path}: {error}") from error


def _decoded(path: Path, max_pixels: int | None = None) -> NDArray[np.uint8]:
    with open_image(path, LABEL_IMAGES, what="mask", max_pixels=max_pixels) as image:
        _check_chunks(path.read_bytes())
        _check_pixel_type(image)
        return np.array(image, dtype=np.uint8)


def _check_chunks(content: bytes) -> None:
    """Raise ValueError if a chunk of a PNG is damaged, which Pillow overlooks in pixels.

    A chunk is the length of its data, four letters, the data and the CRC-32 of letters and data
    (PNG specification, 5.3).
    """
    at, kind = len(PNG), b""
    while content.startswith(PNG) and kind != b"IEND":
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(content):
            raise ValueError("it ends early")
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError("a checksum of it is wrong")
        at = end + 4


def _check_pixel_type(image: Image.Image) -> None:
    """Refuse a mask, before it is decoded, whose values are no class numbers."""
    if image.mode not in {"P", "L", "1"}:
        raise UnreadableImageError(
            f"a mask is {image.mode}, expected one channel of class numbers (palette or "
            "8-bit gray PNG): save class numbers, not colors"
        )
    stored = str([tile[3] for tile in getattr(image, "tile", ())][:1])
    bits = next((bits for bits in (2, 4) if f"L;{bits}" in stored), None)
    if bits is not None:
        raise UnreadableImageError(
            f"a mask is gray of {bits} bits a pixel, whose values some readers scale to 255 and "
            "others do not, expected 8 bits: save it as a palette or 8-bit gray PNG"
        )


def read_made_label(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read a label image that a job has made, in a folder that is its output.

    Parameters
    ----------
    path : Path
    size : (int, int), optional
        Height and width of its photograph.

    Raises
    ------
    UserError
        If the file is damaged or of another size. It names the folder, since Snakemake makes
        what it misses, and of a folder it misses only the whole.
    """
    try:
        label = _decoded(path)
    except UnreadableImageError as error:
        raise _bad_label(path, str(error)) from error
    if size is not None and label.shape != tuple(size):
        raise _bad_label(path, f"it is {label.shape}, expected {tuple(size)} as its photograph")
    return label


def _bad_label(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path.parent}: its label {path.name} cannot be used ({reason}): delete this folder and "
        "run again"
    )


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
    tensors = {"counts": np.ascontiguousarray(counts, dtype=np.int64)}
    write_arrays(path, tensors, {"ids": list(ids)})


def read_counts(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Read what :func:`write_counts` wrote: N ids, and an (N, 3, C) array.

    Raises
    ------
    UserError
        If the file is damaged, or has no ids.
    """
    what = "safetensors file of counts"
    file = TensorFile(path, what)
    if "ids" not in file.description:
        raise damaged(path, what, "it names no images")
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
        Rounded to float16; they sum to 1 over the labels up to that rounding.
    """
    tensors: dict[str, NDArray[Any]] = {
        "classes": np.ascontiguousarray(numbers, dtype=np.uint8),
        "probabilities": np.ascontiguousarray(probabilities, dtype=np.float16),
    }
    write_arrays(path, tensors)


def read_soft_label(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Read what :func:`write_soft_label` wrote: (L,) label values, (L, H, W) probabilities.

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
    """Write named tensors with a JSON description of what rebuilds the model that holds them."""
    write_tensors(path, tensors, description)


def read_weights(path: Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read tensors and description; a safetensors file of another writer has an empty description.

    Raises
    ------
    UserError
        If the file is absent, or no whole safetensors file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file: expected a .safetensors file there")
    file = TensorFile(path, "safetensors weights file", framework="pt")
    return file.read(file.names), file.description


def read_network(path: Path, keys: Sequence[str]) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read the weights of a network whose description has the keys that rebuild it.

    Raises
    ------
    UserError
        If the file is damaged, or of another kind of network.
    """
    tensors, description = read_weights(path)
    lacking = [key for key in keys if key not in description]
    if lacking:
        raise UserError(
            f"{path}: a network's file without {', '.join(lacking)}, expected "
            f"{', '.join(keys)}: of another kind? delete it and run again"
        )
    return tensors, description
