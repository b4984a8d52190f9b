"""Label images of one shard of class maps, whatever makes a label of a map."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import Record, read_manifest
from pipeline.io.arrays import ClassMaps, MapShard
from pipeline.io.images import read_rgb
from pipeline.runtime.parallel import map_images

Label = TypeVar("Label")
Summary = TypeVar("Summary")


@dataclass(frozen=True)
class Labeler(Generic[Label, Summary]):
    """The work on one image, as an object that processes can be sent.

    Attributes
    ----------
    label : callable
        Makes a label of an image's maps and its (H, W, 3) photograph, or None for that.
    write : callable
        Writes a label at a path without extension, and says of it what is to be kept.
    needs_image : bool
        Whether the photograph is looked at; it is not opened otherwise, nor where an image
        has no class.
    """

    label: Callable[[ClassMaps, NDArray[np.uint8] | None], Label]
    write: Callable[[Path, Label], Summary]
    needs_image: bool


def label_shard(
    labeler: Labeler[Label, Summary],
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    labels: Path,
    threads: int,
) -> dict[str, Summary]:
    """Label every image of a shard.

    Parameters
    ----------
    labeler : Labeler
        Picklable when there are several threads.
    manifest, classes : Path
        Images, and the class names.
    maps : Path
        One shard of class maps.
    labels : Path
        Output: a folder.
    threads : int
        Processes.

    Returns
    -------
    dict
        What ``labeler.write`` gave, by image id.

    Raises
    ------
    UserError
        If a photograph is no longer of the size that its maps were made of.
    """
    shard = MapShard(maps)
    records = {record.id: record for record in read_manifest(manifest, classes).records}
    work = _Work(shard, labels, labeler)
    labels.mkdir(parents=True, exist_ok=True)
    wanted = [records[image_id] for image_id in shard.ids]
    summaries = map_images(work, wanted, workers=threads, what=f"labels of {maps}")
    return dict(zip(shard.ids, summaries, strict=True))


@dataclass(frozen=True)
class _Work(Generic[Label, Summary]):
    shard: MapShard
    folder: Path
    labeler: Labeler[Label, Summary]

    def __call__(self, record: Record) -> Summary:
        maps = self.shard.of_size(record.id, (record.height, record.width))
        wanted = self.labeler.needs_image and len(maps.classes) > 0
        image = read_rgb(record.image, maps.size) if wanted else None
        return self.labeler.write(self.folder / record.id, self.labeler.label(maps, image))
