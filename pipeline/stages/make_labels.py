"""Make the pseudo-labels of one shard from its class maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import MapShard, write_label
from pipeline.datasets.manifest import Record, read_manifest
from pipeline.images import read_rgb
from pipeline.parallel import map_images
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.labels import label_image
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
        Keys ``rule`` and ``value``.
    crf : mapping or None
        Settings of the dense CRF.
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
    settings = CrfSettings.from_config(crf) if crf else None
    work = _Labelling(shard, labels, background, settings, unsure_below)
    labels.mkdir(parents=True, exist_ok=True)
    wanted = [records[image_id] for image_id in shard.ids]
    for _ in map_images(work, wanted, workers=threads, what=f"labels of {maps}"):
        pass


@dataclass(frozen=True)
class _Labelling:
    """The work on one image, as an object that processes can be sent."""

    shard: MapShard
    folder: Path
    background: Mapping[str, Any]
    crf: CrfSettings | None
    unsure_below: float | None

    def __call__(self, record: Record) -> None:
        maps = self.shard[record.id]
        image = read_rgb(record.image, maps.size) if self.crf and len(maps.classes) else None
        label = label_image(
            maps,
            image,
            background=self.background,
            crf=self.crf,
            unsure_below=self.unsure_below,
        )
        write_label(self.folder / f"{record.id}.png", label)


if __name__ == "__main__":
    run_stage(make_labels, snakemake)
