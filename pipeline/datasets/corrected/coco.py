"""Corrected masks in a JSON file of COCO (Lin et al. 2014): polygons and run lengths."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.datasets.corrected.drawn import IGNORE_NAMES, DrawnImage, Shape
from pipeline.datasets.corrected.shapes import (
    Pixels,
    Size,
    points_of,
    polygon_pixels,
    run_pixels,
)
from pipeline.errors import UserError

KEYS = frozenset({"images", "annotations", "categories"})


def read_coco(path: Path, document: Mapping[str, Any]) -> Iterator[DrawnImage]:
    """Yield the images of a COCO file that have an annotation.

    Crowd regions count as any other region. The entry ``ignore`` of an image, which exports of
    this project write, is below all annotations.

    Parameters
    ----------
    path : Path
        For messages.
    document : mapping
        The file's content, with :data:`KEYS`.

    Raises
    ------
    UserError
        If an entry is incomplete.
    """
    images, names = {}, {}
    shapes: dict[Any, list[Shape]] = {}
    try:
        for entry in document["images"]:
            images[entry["id"]] = (str(entry["file_name"]), _size(entry), entry.get("ignore"))
        names = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        for entry in document["annotations"]:
            label = names[entry["category_id"]]
            pixels = partial(_pixels, entry.get("segmentation"))
            shapes.setdefault(entry["image_id"], []).append(Shape(label, pixels))
        found = [(*images[image_id], drawn) for image_id, drawn in shapes.items()]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path}: not complete COCO annotations ({type(error).__name__}: {error}), expected "
            "images with id and file_name, categories with id and name, and annotations with "
            "image_id, category_id and segmentation: export them again"
        ) from error
    for name, size, ignore, drawn in found:
        ignored = Shape(IGNORE_NAMES[0], partial(_remainder, ignore, drawn))
        # Other tools may use the key for something else.
        whole = [ignored, *drawn] if isinstance(ignore, Mapping) else drawn
        yield DrawnImage(path, name, size, whole, smallest_on_top=True)


def _size(entry: Mapping[str, Any]) -> Size | None:
    height, width = entry.get("height"), entry.get("width")
    return None if height is None or width is None else (int(height), int(width))


def _pixels(segmentation: Any, size: Size) -> Pixels:
    if isinstance(segmentation, Mapping):
        return run_pixels(segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(
            "it has no segmentation, expected polygons or run lengths: a box is not a mask"
        )
    return polygon_pixels([points_of(ring, size) for ring in segmentation], size)


def _remainder(ignore: Any, drawn: list[Shape], size: Size) -> Pixels:
    """Return the pixels to ignore that no annotation covers."""
    left = run_pixels(ignore, size)
    for shape in drawn:
        left &= ~shape.pixels(size)
    return left
