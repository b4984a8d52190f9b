"""Check a data set and write its manifest, its class names and its lists of masks and boxes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.checks import checked_records
from pipeline.datasets.cub import read_cub
from pipeline.datasets.folder import read_folder
from pipeline.datasets.manifest import write_boxes, write_classes, write_manifest, write_masks
from pipeline.datasets.source import Source
from pipeline.datasets.voc import read_voc
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Readers by the ``kind`` of data set; each takes the section and the seed.
READERS: dict[str, Callable[[Mapping[str, Any], int], Source]] = {
    "folder": read_folder,
    "voc": lambda dataset, _seed: read_voc(dataset),
    "cub": lambda dataset, _seed: read_cub(dataset),
}


def prepare_dataset(
    *,
    sources: list[Path],
    dataset: Mapping[str, Any],
    seed: int,
    manifest: Path,
    classes: Path,
    masks: Path,
    boxes: Path,
    threads: int,
) -> None:
    """Write what training may see (manifest, classes) apart from what only scoring may see.

    Parameters
    ----------
    sources : list of Path
        Files whose change makes the manifest stale; read through ``dataset``.
    dataset : mapping
        The configuration's section ``dataset``.
    seed : int
        Seed of a split that the data set does not give.
    manifest, classes, masks, boxes : Path
        Outputs. The lists of masks and of boxes may be empty.
    threads : int
        Files decoded at the same time.

    Raises
    ------
    UserError
        If anything is wrong with the data set; nothing is written then.
    """
    del sources
    source = READERS[dataset["kind"]](dataset, seed)
    records = checked_records(source, threads)
    write_manifest(manifest, records)
    write_classes(classes, source.classes)
    found = {item.id: item.mask for item in source.candidates if item.mask is not None}
    write_masks(masks, found)
    write_boxes(boxes, {item.id: item.boxes for item in source.candidates})


if __name__ == "__main__":
    run_stage(prepare_dataset, snakemake)
