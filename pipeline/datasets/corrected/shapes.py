"""Pixels of the shapes that annotation tools draw.

Pixel (i, j) is the square from (j, i) to (j + 1, i + 1). It belongs to a shape if its center does.
Polygons are drawn by pycocotools, which rounds their corners to a fifth of a pixel.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco  # type: ignore[import-untyped, unused-ignore]

from pipeline.io.run_lengths import mask_runs

#: Height and width of an image.
Size = tuple[int, int]
Pixels = NDArray[np.bool_]
#: (N, 2) points x, y in pixels from the image's upper left corner.
Points = NDArray[np.float64]


def points_of(values: Any, size: Size) -> Points:
    """Return the points of a shape.

    Parameters
    ----------
    values : sequence of float, or of pairs of float
        x and y in turn.
    size : (int, int)

    Raises
    ------
    ValueError
        If the values are no finite numbers in pairs, or lie farther outside of the image than it
        is wide and high.
    """
    try:
        flat = np.array(values, np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("its points are no numbers, expected pairs of x and y") from error
    if len(flat) % 2 or not np.isfinite(flat).all():
        raise ValueError("its points are not complete, expected pairs of finite x and y")
    points: Points = flat.reshape(-1, 2)
    limits = np.array([size[1], size[0]], np.float64)
    outside = ((points < -limits) | (points > 2 * limits)).any(axis=1)
    if outside.any():
        x, y = points[outside][0].tolist()
        raise ValueError(
            f"its point ({x:g}, {y:g}) is far outside of the image of {size[1]}x{size[0]}, "
            "expected pixels of this image"
        )
    return points


def polygon_pixels(rings: Sequence[Points], size: Size) -> Pixels:
    """Return the pixels inside of any of several rings, each by the even-odd rule.

    Parameters
    ----------
    rings : sequence of (N, 2) float64 array
        As :func:`points_of` returns them.
    size : (int, int)

    Returns
    -------
    (H, W) bool array

    Raises
    ------
    ValueError
        If a ring has fewer than three points, or is longer than the outline of any region.
    """
    if not rings:
        raise ValueError("it has no polygon, expected one or more")
    longest = 4 * (size[0] + 1) * (size[1] + 1)
    for ring in rings:
        if len(ring) < 3:
            raise ValueError(f"a polygon has {len(ring)} points, expected three or more")
        if np.abs(ring - np.roll(ring, 1, axis=0)).sum() > longest:
            raise ValueError("a polygon is longer than the outline of any region of the image")
    drawn = coco.merge(coco.frPyObjects([ring.ravel().tolist() for ring in rings], *size))
    return run_pixels({"size": list(size), "counts": drawn["counts"].decode("ascii")}, size)


def box_pixels(corners: Points, size: Size) -> Pixels:
    """Return the pixels of a box from two opposite corners, a (2, 2) array."""
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    return np.outer((top <= y) & (y < bottom), (left <= x) & (x < right))


def ellipse_pixels(
    center: Points, radii: tuple[float, float], size: Size, degrees: float = 0
) -> Pixels:
    """Return the pixels of an ellipse.

    Parameters
    ----------
    center : (1, 2) float64 array
    radii : (float, float)
        Before the rotation: along x and along y.
    size : (int, int)
    degrees : float
        Rotation from x to y, which is clockwise in an image.

    Raises
    ------
    ValueError
        If a radius is not positive and finite.
    """
    if not all(np.isfinite(radius) and radius > 0 for radius in radii):
        raise ValueError(f"its radii are {radii[0]:g} and {radii[1]:g}, expected lengths above 0")
    x = np.arange(size[1]) + 0.5 - center[0, 0]
    y = np.arange(size[0])[:, None] + 0.5 - center[0, 1]
    (cos, _), (sin, _) = _rotation(degrees)
    # Rotated back, so that the axes are those of the image.
    along, across = (x * cos + y * sin) / radii[0], (y * cos - x * sin) / radii[1]
    inside: Pixels = along**2 + across**2 <= 1
    return inside


def rotated_box(corners: Points, degrees: float) -> Points:
    """Return the (4, 2) corners of a box after a rotation about its center."""
    (left, top), (right, bottom) = corners
    ring = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    center = ring.mean(axis=0)
    turned: Points = (ring - center) @ _rotation(degrees).T + center
    return turned


def run_pixels(segmentation: Any, size: Size) -> Pixels:
    """Return the pixels of COCO's run lengths, column by column.

    Raises
    ------
    ValueError
        If they are damaged, or of a mask of another size.
    """
    starts, lengths = mask_runs(segmentation, size)
    steps = np.zeros(size[0] * size[1] + 1, np.int8)
    steps[starts] += 1
    steps[starts + lengths] -= 1
    return np.cumsum(steps[:-1]).astype(bool).reshape(size, order="F")


def placed(mask: Pixels, left: int, top: int, size: Size) -> Pixels:
    """Return a mask of a part of an image as a mask of the whole image.

    Raises
    ------
    ValueError
        If the part is not inside of the image.
    """
    height, width = mask.shape
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError(
            f"its mask of {width}x{height} at ({left}, {top}) extends beyond the image of "
            f"{size[1]}x{size[0]}, expected a mask inside of it"
        )
    whole = np.zeros(size, bool)
    whole[top : top + height, left : left + width] = mask
    return whole


def _rotation(degrees: float) -> NDArray[np.float64]:
    if not np.isfinite(degrees):
        raise ValueError(f"its rotation is {degrees}, expected degrees")
    turn = np.deg2rad(degrees)
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
