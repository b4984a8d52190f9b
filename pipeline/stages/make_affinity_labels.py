"""Make the labels that teach affinities, of one shard, from its class maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import MapShard, write_label
from pipeline.datasets.manifest import Record, read_manifest
from pipeline.images import read_rgb
from pipeline.parallel import map_images
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.labels import confident_label
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def make_affinity_labels(
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    foreground: float,
    background: float,
    crf: Mapping[str, Any] | None,
    labels: Path,
    threads: int,
) -> None:
    """Write one label image ``ID.png`` per image of the shard, 255 where nothing is sure.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    maps : Path
        One shard of class maps.
    foreground, background : float
        Thresholds above which a pixel is surely foreground, and below which background.
    crf : mapping or None
        Settings of the dense CRF.
    labels : Path
        Output: a folder.
    threads : int
        Processes.
    """
    shard = MapShard(maps)
    records = {record.id: record for record in read_manifest(manifest, classes).records}
    settings = CrfSettings.from_config(crf) if crf else None
    work = _Labelling(shard, labels, foreground, background, settings)
    labels.mkdir(parents=True, exist_ok=True)
    wanted = [records[image_id] for image_id in shard.ids]
    for _ in map_images(work, wanted, workers=threads, what=f"affinity labels of {maps}"):
        pass


@dataclass(frozen=True)
class _Labelling:
    """The work on one image, as an object that processes can be sent."""

    shard: MapShard
    folder: Path
    foreground: float
    background: float
    crf: CrfSettings | None

    def __call__(self, record: Record) -> None:
        maps = self.shard[record.id]
        image = read_rgb(record.image, maps.size) if self.crf and len(maps.classes) else None
        label = confident_label(
            maps, image, foreground=self.foreground, background=self.background, crf=self.crf
        )
        write_label(self.folder / f"{record.id}.png", label)


if __name__ == "__main__":
    run_stage(make_affinity_labels, snakemake)
