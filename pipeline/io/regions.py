"""Class-agnostic regions of images, and their files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.io.files import damaged
from pipeline.io.run_lengths import Runs
from pipeline.io.tensors import TensorFile, write_arrays

WHAT = "safetensors file of regions"


@dataclass(frozen=True)
class Regions:
    """Regions of one image as runs of pixels. They may overlap, and leave pixels out.

    Attributes
    ----------
    size : (int, int)
        Height H and width W of the image. Pixels are counted column by column, as in COCO.
    starts, lengths : (N,) int64 array
        First pixel and number of pixels of each run, the runs of a region one after another.
    counts : (R,) int64 array
        Number of runs of each region, at least 1. R may be 0.
    """

    size: tuple[int, int]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(R,) int64 array: position of the first run of each region."""
        offsets: NDArray[np.int64] = np.cumsum(self.counts) - self.counts
        return offsets

    @property
    def areas(self) -> NDArray[np.int64]:
        """(R,) int64 array: number of pixels of each region."""
        if not len(self):
            return self.counts
        return np.add.reduceat(self.lengths, self.offsets)


def regions_of_masks(size: tuple[int, int], masks: Iterable[Runs]) -> Regions:
    """Collect masks, given by their runs, as regions; empty masks are left out."""
    kept = [runs for runs in masks if len(runs[0])]
    empty = np.zeros(0, np.int64)
    return Regions(
        size,
        starts=np.concatenate([empty, *(starts for starts, _ in kept)]),
        lengths=np.concatenate([empty, *(lengths for _, lengths in kept)]),
        counts=np.array([len(starts) for starts, _ in kept], np.int64),
    )


def regions_of_partition(partition: NDArray[np.integer[Any]]) -> Regions:
    """Convert an (H, W) integer array, equal inside of a region, to regions in ascending order.

    Examples
    --------
    >>> regions = regions_of_partition(np.array([[0, 1], [0, 0]]))
    >>> regions.starts.tolist(), regions.lengths.tolist(), regions.counts.tolist()
    ([0, 3, 2], [2, 1, 1], [2, 1])
    """
    flat = partition.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 1))
    lengths = np.diff(starts, append=len(flat))
    numbers = flat[starts]
    order = np.argsort(numbers, kind="stable")
    _, counts = np.unique(numbers, return_counts=True)
    height, width = partition.shape
    return Regions((height, width), starts[order], lengths[order], counts.astype(np.int64))


def joined(parts: Sequence[Regions]) -> Regions:
    """Join regions of the same image, for example superpixels of several scales."""
    return Regions(
        parts[0].size,
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def write_regions(path: Path, regions: Iterable[tuple[str, Regions]]) -> None:
    """Write a shard of regions.

    The file has the tensors ``ID/size``, ``ID/starts``, ``ID/lengths`` and ``ID/counts`` for each
    image, as 32-bit numbers.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for image_id, item in regions:
        tensors[f"{image_id}/size"] = np.array(item.size, np.int32)
        tensors[f"{image_id}/starts"] = item.starts.astype(np.int32)
        tensors[f"{image_id}/lengths"] = item.lengths.astype(np.int32)
        tensors[f"{image_id}/counts"] = item.counts.astype(np.int32)
    write_arrays(path, tensors)


class RegionShard:
    """Regions of one shard, read from disk one image at a time.

    Raises
    ------
    UserError
        If the file is not a complete safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = TensorFile(path, WHAT)

    def of_size(self, image_id: str, size: tuple[int, int]) -> Regions:
        """Return the regions of an image, and check them against its height and width.

        Raises
        ------
        UserError
            If the image has no regions here, they are of an image of another size, or they are
            damaged.
        """
        if f"{image_id}/size" not in self._file.names:
            raise UserError(
                f"{self._path}: no regions of {image_id}, expected those of all images of the "
                "shard: delete this file and run again"
            )
        names = [f"{image_id}/{name}" for name in ("size", "starts", "lengths", "counts")]
        stored, starts, lengths, counts = self._file.read(names).values()
        if tuple(stored.tolist()) != tuple(size):
            raise UserError(
                f"{self._path}: regions of {image_id} are of an image of {tuple(stored.tolist())}, "
                f"expected {tuple(size)}: delete this file and run again"
            )
        found = Regions(size, *(part.astype(np.int64) for part in (starts, lengths, counts)))
        if not _consistent(found):
            raise damaged(self._path, WHAT, f"runs of {image_id} do not fit its size")
        return found


def _consistent(regions: Regions) -> bool:
    """Return whether all runs are within the image, and every region has some."""
    height, width = regions.size
    ends = regions.starts + regions.lengths
    runs = (regions.starts >= 0) & (regions.lengths > 0) & (ends <= height * width)
    whole = len(runs) == regions.counts.sum() == len(regions.lengths)
    return bool(whole and runs.all() and (regions.counts > 0).all())
