"""Corrected masks in the JSON files of labelme, one for each image."""

import base64
import binascii
import io
from collections.abc import Mapping
from functools import partial
from math import dist
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.datasets.corrected.drawn import DrawnImage, Shape
from pipeline.datasets.corrected.shapes import (
    Pixels,
    Points,
    Size,
    box_pixels,
    ellipse_pixels,
    placed,
    points_of,
    polygon_pixels,
)
from pipeline.errors import UserError

KEYS = frozenset({"shapes", "imagePath"})
AREAS = ("polygon", "rectangle", "oriented_rectangle", "circle", "mask")


def read_labelme(path: Path, document: Mapping[str, Any]) -> DrawnImage | None:
    """Read the shapes of one image.

    Parameters
    ----------
    path : Path
        For messages.
    document : mapping
        The file's content, with :data:`KEYS`.

    Returns
    -------
    DrawnImage or None
        None if nothing is drawn.

    Raises
    ------
    UserError
        If an entry is incomplete.
    """
    try:
        shapes = [Shape(str(item["label"]), partial(_pixels, item)) for item in document["shapes"]]
        height, width = document.get("imageHeight"), document.get("imageWidth")
        size = None if height is None or width is None else (int(height), int(width))
        image = str(document["imagePath"])
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not a complete file of labelme ({type(error).__name__}: {error}), expected "
            "shapes with a label: save it again"
        ) from error
    return DrawnImage(path, image, size, shapes) if shapes else None


def _pixels(shape: Mapping[str, Any], size: Size) -> Pixels:
    # Files of old versions have no type, and only polygons.
    kind = shape.get("shape_type") or "polygon"
    points = points_of(shape.get("points") or [], size)
    if kind in ("polygon", "oriented_rectangle"):
        return polygon_pixels([points], size)
    if kind not in AREAS:
        raise ValueError(f"its type is {kind!r:.40}, expected an area: {', '.join(AREAS)}")
    if len(points) != 2:
        raise ValueError(f"a {kind} has {len(points)} points, expected two")
    if kind == "rectangle":
        return box_pixels(points, size)
    if kind == "circle":
        radius = dist(*points)
        return ellipse_pixels(points[:1], (radius, radius), size)
    return _mask(shape.get("mask"), points, size)


def _mask(encoded: Any, corners: Points, size: Size) -> Pixels:
    """Decode a mask: a PNG between the first and the last pixel of its box, both included."""
    (left, top), (right, bottom) = corners.astype(int).tolist()
    expected = (right - left + 1, bottom - top + 1)
    if min(expected) < 1 or expected[0] > size[1] or expected[1] > size[0]:
        raise ValueError(
            f"its mask has a box of {expected[0]}x{expected[1]}, expected a part of the image of "
            f"{size[1]}x{size[0]}"
        )
    try:
        file = io.BytesIO(base64.b64decode(encoded, validate=True))
        with Image.open(file, formats=["PNG"]) as image:  # noqa: TID251 - bytes in memory
            # The header is checked before pixels are decoded.
            if image.size != expected:
                raise ValueError(
                    f"its mask is {image.width}x{image.height}, expected {expected[0]}x"
                    f"{expected[1]} as its box"
                )
            pixels = np.asarray(image.convert("L")) > 0
    except (TypeError, binascii.Error, OSError, SyntaxError) as error:
        raise ValueError(f"its mask is no complete PNG in base64 ({error})") from error
    return placed(pixels, left, top, size)
