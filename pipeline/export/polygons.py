"""Polygons of a mask: one ring for every connected region, including its holes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import cv2
import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree  # type: ignore[import-untyped, unused-ignore]

#: (N, 2) points x, y in pixels, 0 at the image's left and upper edge; not closed.
Ring = NDArray[np.float64]


def polygons(mask: NDArray[np.bool_], tolerance: float = 0.5) -> list[Ring]:
    """Compute the outline of every region of a mask, halfway between its pixels and the others.

    Pixel (i, j) is the square from (j, i) to (j + 1, i + 1). Without simplification, its center
    is inside a ring (by the even-odd rule) exactly where the mask is true. Regions that touch
    only at a corner are separate; holes that touch only at a corner are one hole.

    Parameters
    ----------
    mask : (H, W) bool array
    tolerance : float
        Maximum distance in pixels of a removed point from the simplified outline (Douglas and
        Peucker 1973); 0 keeps all points. Rings that would collapse are not simplified.

    Returns
    -------
    list of (N, 2) float64 array
        One ring per region, with at least 3 points within [0, W] x [0, H]. A bridge connects each
        hole with the outer ring; it is traversed in both directions and has no area.

    Examples
    --------
    >>> mask = np.zeros((4, 4), bool)
    >>> mask[1:3, 1:3] = True
    >>> polygons(mask)[0].tolist()
    [[1.0, 1.5], [2.5, 1.0], [3.0, 2.5], [1.5, 3.0]]
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if width == 0:
        return []
    part = np.pad(mask[top : top + height, left : left + width], 1).astype(np.float64)
    # skimage.measure.find_contours finds the same rings, but not which holes a region has.
    generator = contour_generator(z=part, fill_type=FillType.OuterOffset)
    filled = cast("tuple[list[Ring], list[NDArray[Any]]]", generator.filled(0.5, np.inf))
    # The padded pixel 0 is centered half a pixel before the part's edge.
    origin = np.array([left, top]) - 0.5
    return [
        _joined([_simplified(points[a : b - 1] + origin, tolerance) for a, b in pairwise(offsets)])
        for points, offsets in zip(*filled, strict=True)
    ]


def _simplified(ring: Ring, tolerance: float) -> Ring:
    if tolerance == 0:
        return ring
    # skimage.measure.approximate_polygon takes 70 times as long.
    kept = cv2.approxPolyDP(ring.astype(np.float32), tolerance, closed=True)
    return kept[:, 0].astype(np.float64) if len(kept) >= 3 else ring


def _joined(rings: Sequence[Ring]) -> Ring:
    """Join the outer ring (the first) with its holes, each by a bridge at the nearest points."""
    outer, *holes = rings
    tree = cKDTree(outer)
    detours = []
    for hole in holes:
        distances, nearest = tree.query(hole)
        start = int(distances.argmin())
        foot = int(nearest[start])
        around = np.roll(hole, -start, axis=0)
        detours.append((foot, np.concatenate([around, around[:1], outer[foot : foot + 1]])))
    pieces, done = [], 0
    for foot, detour in sorted(detours, key=lambda item: item[0]):
        pieces += [outer[done : foot + 1], detour]
        done = foot + 1
    return np.concatenate([*pieces, outer[done:]])
