"""Make the regions of one shard of images: superpixels, or the user's masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.manifest import Record, read_manifest
from pipeline.datasets.region_files import read_regions
from pipeline.io.images import read_rgb
from pipeline.io.regions import Regions, write_regions
from pipeline.refinement.superpixels import superpixels
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def make_regions(
    *,
    manifest: Path,
    classes: Path,
    settings: Mapping[str, Any],
    split: str,
    shard: int,
    shards: int,
    regions: Path,
    threads: int,
) -> None:
    """Write the regions of all images of the shard.

    Parameters
    ----------
    settings : mapping
        An entry of ``regions``: key ``kind``, and the settings of that kind.
    regions : Path
        Output (safetensors): the regions of each image.
    manifest, classes, split, shard, shards, threads
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If the user's masks of an image are missing, damaged or of another size.
    """
    records = read_manifest(manifest, classes).of_shard(split, shard, shards)
    what = f"regions of {split}, shard {shard}"
    found = map_images(_Work(settings), records, workers=threads, what=what)
    ids = [record.id for record in records]
    write_regions(regions, zip(ids, found, strict=True))


@dataclass(frozen=True)
class _Work:
    """Computes or reads the regions of one image."""

    settings: Mapping[str, Any]

    def __call__(self, record: Record) -> Regions:
        if self.settings["kind"] == "folder":
            return read_regions(Path(self.settings["folder"]), record)
        return superpixels(read_rgb(record.image, (record.height, record.width)), self.settings)


if __name__ == "__main__":
    run_stage(make_regions, snakemake)
