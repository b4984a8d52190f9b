"""Exports: label images in formats that other projects read directly.

A format is a function of the images with their label files, a target and a number of
processes. It writes files below the target's folder and returns a summary of each image.
"""

from dataclasses import dataclass

from pipeline.export import coco, png, soft, voc, yolo
from pipeline.export.job import Writer


@dataclass(frozen=True)
class Format:
    """A format and its documentation.

    Attributes
    ----------
    write : callable
        Function that writes the export.
    loading : str
        Instructions to load the export, in Markdown; ``{split}`` stands for a split.
    readers : str
        Readers of other projects that the format was tested with, and the results.
    options : tuple of str
        The options that the format uses.
    soft : bool
        Whether the format is made from soft labels instead of label images.
    """

    write: Writer
    loading: str
    readers: str
    options: tuple[str, ...] = ()
    soft: bool = False


#: Formats by their name in the configuration.
FORMATS: dict[str, Format] = {
    "voc": Format(voc.write_voc, voc.LOADING, voc.READERS, ("images",)),
    "coco": Format(
        coco.write_coco, coco.LOADING, coco.READERS, ("images", "polygons", "tolerance")
    ),
    "yolo": Format(yolo.write_yolo, yolo.LOADING, yolo.READERS, ("images", "tolerance")),
    "png": Format(png.write_png, png.LOADING, png.READERS),
    "soft": Format(soft.write_soft, soft.LOADING, soft.READERS, ("ignore_mask_below",), soft=True),
}
