"""Make the pseudo-labels of one shard from its class maps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import MapShard, write_label
from pipeline.datasets.manifest import Record, read_manifest
from pipeline.images import read_rgb
from pipeline.parallel import map_images
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.graph_cut import GraphCutSettings
from pipeline.refinement.labels import graph_cut_label, label_image
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def make_labels(
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    background: Mapping[str, Any],
    crf: Mapping[str, Any] | None,
    graph_cut: Mapping[str, Any] | None,
    unsure_below: float | None,
    labels: Path,
    threads: int,
) -> None:
    """Write one label image ``ID.png`` per image of the shard.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    maps : Path
        One shard of class maps.
    background : mapping
        Keys ``rule`` and ``value``; a graph cut does not need it.
    crf : mapping or None
        Settings of the dense CRF.
    graph_cut : mapping or None
        Settings of the graph cut, which stands in for threshold and CRF.
    unsure_below : float or None
        Winning probability below which a pixel is left at 255.
    labels : Path
        Output: a folder.
    threads : int
        Processes.

    Raises
    ------
    UserError
        If a photograph is no longer of the size that its maps were made of.
    """
    shard = MapShard(maps)
    records = {record.id: record for record in read_manifest(manifest, classes).records}
    way: Callable[..., NDArray[np.uint8]] = (
        partial(graph_cut_label, settings=GraphCutSettings.from_config(graph_cut))
        if graph_cut is not None
        else partial(
            label_image, background=background, crf=CrfSettings.from_config(crf) if crf else None
        )
    )
    needs_image = crf is not None or graph_cut is not None
    work = _Labelling(shard, labels, partial(way, unsure_below=unsure_below), needs_image)
    labels.mkdir(parents=True, exist_ok=True)
    wanted = [records[image_id] for image_id in shard.ids]
    for _ in map_images(work, wanted, workers=threads, what=f"labels of {maps}"):
        pass


@dataclass(frozen=True)
class _Labelling:
    """The work on one image, as an object that processes can be sent."""

    shard: MapShard
    folder: Path
    way: Callable[..., NDArray[np.uint8]]
    needs_image: bool

    def __call__(self, record: Record) -> None:
        maps = self.shard[record.id]
        # No photograph is opened where nothing looks at it.
        wanted = self.needs_image and len(maps.classes) > 0
        image = read_rgb(record.image, maps.size) if wanted else None
        write_label(self.folder / f"{record.id}.png", self.way(maps, image))


if __name__ == "__main__":
    run_stage(make_labels, snakemake)
