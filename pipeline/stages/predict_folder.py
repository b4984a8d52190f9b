"""Collect the predicted masks of a folder's images, with a table and an overview."""

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
from pipeline.report.drawing import captioned_grid, framed, thumbnail
from pipeline.report.overlay import with_label
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Number of images of the overview, and their side in pixels.
SHOWN, SIDE = 24, 224
#: Number of letters that fit above an image.
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
    """Write masks with the names and sub-folders of their images.

    Parameters
    ----------
    manifest, classes : Path
        The folder's images, with predicted labels if the masks are made from them, and the
        class names.
    shards : list of Path
        Folders of label images ``ID.png``.
    images : str
        The folder of the images.
    result : Path
        Output: a folder with ``masks/``, ``masks.csv`` (image, mask, predicted labels, and the
        share of pixels of every class), ``classes.json`` and ``overview.jpg``.
    threads : int
        Number of processes.
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
    """Computation of the share of each class in an image's pixels."""

    classes: int

    def __call__(self, path: Path) -> list[float]:
        counts = np.bincount(read_made_label(path).ravel(), minlength=256)
        return [round(float(count), 6) for count in counts[: self.classes] / counts.sum()]


def _overview(records: Sequence[Record], files: Mapping[str, Path]) -> Image.Image:
    """Draw evenly spaced images, each next to its mask."""
    tiles, captions = [], []
    for record in evenly_spaced(records, SHOWN):
        image = thumbnail(read_rgb(record.image))
        masked = with_label(image, read_made_label(files[record.id]))
        tiles += [framed(image, SIDE), framed(masked, SIDE)]
        captions += [record.image.name[:CAPTION], ", ".join(record.labels)[:CAPTION]]
    return Image.fromarray(captioned_grid(tiles, captions, columns=6))


if __name__ == "__main__":
    run_stage(predict_folder, snakemake)
