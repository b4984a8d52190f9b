"""Corrected masks in an XML file of CVAT, format "CVAT for images 1.1"."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from pipeline.datasets.corrected.drawn import DrawnImage, Shape
from pipeline.datasets.corrected.shapes import (
    Pixels,
    Size,
    box_pixels,
    ellipse_pixels,
    placed,
    points_of,
    polygon_pixels,
    rotated_box,
)
from pipeline.errors import UserError

AREAS = ("polygon", "box", "ellipse", "mask")
#: Labels of a whole image, which have no pixels.
TAG = "tag"


def read_cvat(path: Path, root: Element) -> Iterator[DrawnImage]:
    """Yield the images of a CVAT file that have a shape; the highest ``z_order`` is on top.

    Parameters
    ----------
    path : Path
        For messages.
    root : Element
        The root, ``<annotations>``.

    Raises
    ------
    UserError
        If it is another format of CVAT, or an entry is incomplete.
    """
    if root.find("track") is not None:
        raise UserError(
            f"{path}: annotations of a video, expected the format CVAT for images 1.1: export again"
        )
    for node in root.iter("image"):
        try:
            name = node.attrib["name"]
            size = int(node.attrib["height"]), int(node.attrib["width"])
            nodes = sorted(
                (item for item in node if item.tag != TAG),
                key=lambda item: int(item.get("z_order", "0")),
            )
            shapes = [Shape(item.attrib["label"], partial(_pixels, item)) for item in nodes]
        except (LookupError, ValueError) as error:
            raise UserError(
                f"{path}: not complete annotations of CVAT ({type(error).__name__}: {error}), "
                "expected <image> with name, width and height, and shapes with a label: export "
                "them again"
            ) from error
        if shapes:
            yield DrawnImage(path, name, size, shapes)


def _pixels(node: Element, size: Size) -> Pixels:
    if node.tag == "polygon":
        pairs = [pair.split(",") for pair in node.get("points", "").split(";")]
        return polygon_pixels([points_of(pairs, size)], size)
    if node.tag == "mask":
        return _mask(node, size)
    degrees = float(node.get("rotation", "0"))
    if node.tag == "box":
        corners = points_of([_text(node, name) for name in ("xtl", "ytl", "xbr", "ybr")], size)
        if degrees:
            return polygon_pixels([rotated_box(corners, degrees)], size)
        return box_pixels(corners, size)
    if node.tag == "ellipse":
        center = points_of([_text(node, name) for name in ("cx", "cy")], size)
        rx, ry = (float(_text(node, name)) for name in ("rx", "ry"))
        return ellipse_pixels(center, (rx, ry), size, degrees)
    raise ValueError(f"it is a <{node.tag:.40}>, expected an area: {', '.join(AREAS)}")


def _mask(node: Element, size: Size) -> Pixels:
    """Decode a mask: lengths of runs of 0 and 1 in turn, row by row in its box, 0 first."""
    left, top, width, height = (
        int(_text(node, name)) for name in ("left", "top", "width", "height")
    )
    if not (0 < width <= size[1] and 0 < height <= size[0]):
        raise ValueError(
            f"its mask is {width}x{height}, expected at most {size[1]}x{size[0]} as its image"
        )
    lengths = [int(length) for length in _text(node, "rle").split(",")]
    if min(lengths) < 0 or sum(lengths) != width * height:
        raise ValueError(
            f"its run lengths sum to {sum(lengths)} pixels, expected {width} x {height} lengths of "
            "0 or more"
        )
    values = np.arange(len(lengths)) % 2 == 1
    return placed(np.repeat(values, lengths).reshape(height, width), left, top, size)


def _text(node: Element, name: str) -> str:
    text = node.get(name)
    if text is None:
        raise ValueError(f"a <{node.tag}> has no {name}, expected one")
    return text
