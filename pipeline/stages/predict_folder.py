"""Gather the masks of a folder's pictures beside a table and an overview of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipeline.datasets.manifest import SEPARATOR, Record, evenly_spaced, files_by_id, read_manifest
from pipeline.export.files import hard_link, write_class_values
from pipeline.io.arrays import read_made_label
from pipeline.io.files import replacing
from pipeline.io.images import read_rgb
from pipeline.io.tables import write_table
from pipeline.report.overlay import with_label
from pipeline.report.pictures import captioned_grid, framed, thumbnail
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Pictures of the overview, and the side of one in pixels.
SHOWN, SIDE = 24, 224
#: Letters that fit above one.
CAPTION = 32


def predict_folder(
    *,
    manifest: Path,
    classes: Path,
    shards: list[Path],
    images: str,
    result: Path,
    threads: int,
) -> None:
    """Write masks under the names and sub-folders of their pictures.

    Parameters
    ----------
    manifest, classes : Path
        The folder's pictures, with predicted labels where the masks are made of these, and
        the class names.
    shards : list of Path
        Folders of label images ``ID.png``.
    images : str
        The folder of the pictures.
    result : Path
        Output: a folder with ``masks/``, ``masks.csv`` (picture, mask, predicted labels, and
        the share of pixels of every class), ``classes.json`` and ``overview.jpg``.
    threads : int
        Processes.
    """
    data = read_manifest(manifest, classes)
    files = files_by_id([record.id for record in data.records], shards)
    masks = {record.id: _place(record, Path(images)) for record in data.records}
    for image_id, place in masks.items():
        hard_link(files[image_id], result / place)
    items = [files[record.id] for record in data.records]
    work = _Shares(len(data.classes) + 1)
    shares = map_images(work, items, workers=threads, what=f"shares of {images}")
    names = ["background", *data.classes]
    rows = (
        (record.image, masks[record.id], SEPARATOR.join(record.labels), *share)
        for record, share in zip(data.records, shares, strict=True)
    )
    write_table(result / "masks.csv", ("image", "mask", "labels", *names), rows)
    write_class_values(result / "classes.json", data.classes)
    with replacing(result / "overview.jpg") as partial:
        _overview(data.records, files).save(partial, format="JPEG", quality=88)


def _place(record: Record, images: Path) -> Path:
    return Path("masks") / record.image.relative_to(images).with_suffix(".png")


@dataclass(frozen=True)
class _Shares:
    """Counts an image's pixels by class, as shares of all."""

    classes: int

    def __call__(self, path: Path) -> list[float]:
        counts = np.bincount(read_made_label(path).ravel(), minlength=256)
        return [round(float(count), 6) for count in counts[: self.classes] / counts.sum()]


def _overview(records: Sequence[Record], files: Mapping[str, Path]) -> Image.Image:
    """Draw evenly spaced pictures, each beside its mask."""
    pictures, captions = [], []
    for record in evenly_spaced(records, SHOWN):
        photograph = thumbnail(read_rgb(record.image))
        masked = with_label(photograph, read_made_label(files[record.id]))
        pictures += [framed(photograph, SIDE), framed(masked, SIDE)]
        captions += [record.image.name[:CAPTION], ", ".join(record.labels)[:CAPTION]]
    return Image.fromarray(captioned_grid(pictures, captions, columns=6))


if __name__ == "__main__":
    run_stage(predict_folder, snakemake)
