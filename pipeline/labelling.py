"""Label images of one shard of class maps, whatever makes a label of a map."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import ClassMaps, MapShard, write_label
from pipeline.datasets.manifest import Record, read_manifest
from pipeline.images import read_rgb
from pipeline.parallel import map_images

#: Makes an (H, W) uint8 label of an image's maps and its photograph, or None for that.
Labeller = Callable[[ClassMaps, NDArray[np.uint8] | None], NDArray[np.uint8]]


def label_shard(
    labeller: Labeller,
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    labels: Path,
    needs_image: bool,
    threads: int,
) -> None:
    """Write one label image ``ID.png`` per image of a shard.

    Parameters
    ----------
    labeller : callable
        Picklable when there are several threads.
    manifest, classes : Path
        Images, and the class names.
    maps : Path
        One shard of class maps.
    labels : Path
        Output: a folder.
    needs_image : bool
        Whether the labeller looks at the photograph; it is not opened otherwise, nor where
        an image has no label.
    threads : int
        Processes.

    Raises
    ------
    UserError
        If a photograph is no longer of the size that its maps were made of.
    """
    shard = MapShard(maps)
    records = {record.id: record for record in read_manifest(manifest, classes).records}
    work = _Labelling(shard, labels, labeller, needs_image)
    labels.mkdir(parents=True, exist_ok=True)
    wanted = [records[image_id] for image_id in shard.ids]
    for _ in map_images(work, wanted, workers=threads, what=f"labels of {maps}"):
        pass


@dataclass(frozen=True)
class _Labelling:
    """The work on one image, as an object that processes can be sent."""

    shard: MapShard
    folder: Path
    labeller: Labeller
    needs_image: bool

    def __call__(self, record: Record) -> None:
        maps = self.shard[record.id]
        wanted = self.needs_image and len(maps.classes) > 0
        image = read_rgb(record.image, maps.size) if wanted else None
        write_label(self.folder / f"{record.id}.png", self.labeller(maps, image))
