"""Exports: label images in the formats that other projects take as they are.

A format is a function of the images with their label files, a target and a number of
processes. It writes its files below the target's folder and tells what it wrote of each image.
"""

from dataclasses import dataclass

from pipeline.export import coco, png, soft, voc, yolo
from pipeline.export.job import Writer


@dataclass(frozen=True)
class Format:
    """A format and what is said of it.

    Attributes
    ----------
    write : callable
    loading : str
        How to load it, in Markdown; ``{split}`` stands for a split.
    readers : str
        The readers of other projects that it was tried with, and how far it was the same to them.
    options : tuple of str
        The options that it obeys.
    soft : bool
        Whether it is made of soft labels instead of label images.
    """

    write: Writer
    loading: str
    readers: str
    options: tuple[str, ...] = ()
    soft: bool = False


#: Formats by the name they have in the configuration.
FORMATS: dict[str, Format] = {
    "voc": Format(voc.write_voc, voc.LOADING, voc.READERS, ("images",)),
    "coco": Format(
        coco.write_coco, coco.LOADING, coco.READERS, ("images", "polygons", "tolerance")
    ),
    "yolo": Format(yolo.write_yolo, yolo.LOADING, yolo.READERS, ("images", "tolerance")),
    "png": Format(png.write_png, png.LOADING, png.READERS),
    "soft": Format(soft.write_soft, soft.LOADING, soft.READERS, ("ignore_mask_below",), soft=True),
}
