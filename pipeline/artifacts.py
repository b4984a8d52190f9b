"""The only codec of arrays: class maps, label images, counts and weights on disk.

Two formats carry all data between stages: safetensors for floating-point arrays and
8-bit palette PNG for label images. Both know a damaged file: PNG has checksums of its
own, and a safetensors file has one of every tensor in its description.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from pipeline.files import damaged, replacing
from pipeline.images import cell_side

if TYPE_CHECKING:  # the label stages run without torch: importing it costs seconds a job
    from torch import Tensor

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
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"crc32": json.dumps(_checksums(tensors))})


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
        try:
            with safe_open(path, framework="np") as file:
                keys = set(file.keys())
                self._checksums = _checksums_in(file)
        except SafetensorError as error:
            raise damaged(path, "safetensors file of maps", error) from error
        self.ids = sorted(key.removesuffix("/size") for key in keys if key.endswith("/size"))
        #: What all images of the shard have beyond their classes, size and maps.
        self._more = [
            name
            for name in ("agreement", "full")
            if self.ids and {f"{image_id}/{name}" for image_id in self.ids} <= keys
        ]

    def __getitem__(self, image_id: str) -> ClassMaps:
        names = ["size", "maps", "classes", *self._more]
        tensors = self._tensors([f"{image_id}/{name}" for name in names])
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

    def _tensors(self, keys: Sequence[str]) -> list[Any]:
        try:
            with safe_open(self._path, framework="np") as file:
                tensors = {key: file.get_tensor(key) for key in keys}
            _verify(tensors, self._checksums)
        except (SafetensorError, ValueError) as error:
            raise damaged(self._path, "safetensors file of maps", error) from error
        return list(tensors.values())

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
        return _decoded(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _decoded(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.mode not in {"P", "L"}:
                raise ValueError(
                    f"a mask is {image.mode}, expected one channel of class numbers (palette or "
                    "8-bit grey PNG): save class numbers, not colours"
                )
            return np.array(image, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"not a whole mask ({error}): replace the file") from error


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
    except ValueError as error:
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
    with replacing(path) as partial:
        tensors = {"counts": np.ascontiguousarray(counts, dtype=np.int64)}
        save_file(tensors, partial, metadata={"ids": json.dumps(list(ids))})


def read_counts(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Read what :func:`write_counts` wrote: N ids, and an (N, 3, C) array."""
    try:
        with safe_open(path, framework="np") as file:
            return json.loads(file.metadata()["ids"]), file.get_tensor("counts")
    except SafetensorError as error:
        raise damaged(path, "safetensors file of counts", error) from error


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
        raise damaged(path, "safetensors file of probabilities", error) from error


def write_weights(
    path: Path, tensors: Mapping[str, "Tensor"], description: Mapping[str, Any]
) -> None:
    """Write named tensors with a JSON description of what rebuilds the model that holds them."""
    from safetensors.torch import save_file as save_tensors

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    arrays = {name: tensor.numpy() for name, tensor in whole.items()}
    # One entry: safetensors writes several in a random order, and other bytes each time.
    metadata = {"description": json.dumps({**description, "crc32": _checksums(arrays)})}
    with replacing(path) as partial:
        save_tensors(whole, partial, metadata=metadata)


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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        checksums = description.pop("crc32", {})
        _verify({name: tensors[name].numpy() for name in checksums.keys() & tensors}, checksums)
        return tensors, description
    except (SafetensorError, ValueError) as error:
        raise damaged(path, "safetensors weights file", error) from error


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


def _checksums(tensors: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Give the CRC-32 of every tensor's bytes."""
    return {name: _crc32(tensor) for name, tensor in tensors.items()}


def _checksums_in(file: Any) -> dict[str, int]:
    """Read the checksums of a file; files of other writers have none."""
    found: dict[str, int] = json.loads((file.metadata() or {}).get("crc32", "{}"))
    return found


def _verify(tensors: Mapping[str, NDArray[Any]], checksums: Mapping[str, int]) -> None:
    """Raise ValueError if a tensor is not what was written."""
    for name, tensor in tensors.items():
        if name in checksums and _crc32(tensor) != checksums[name]:
            raise ValueError(f"{name} is not what was written")


def _crc32(tensor: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(tensor).view(np.uint8).data if tensor.size else b"")
