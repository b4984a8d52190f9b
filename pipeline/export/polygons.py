"""Polygons of a mask: every connected region as one ring, its holes included."""

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
    """Trace the outline of every region of a mask halfway between its pixels and the others.

    Pixel (i, j) is the square from (j, i) to (j + 1, i + 1). Its center is inside a region's
    ring, by the even-odd rule, exactly where the mask is true: as long as nothing is simplified.
    Pixels that touch at a corner only are regions of their own, holes that do so are one.

    Parameters
    ----------
    mask : (H, W) bool array
    tolerance : float
        Largest distance in pixels of a left out point from the simplified outline (Douglas and
        Peucker 1973); 0 keeps all points. A ring that would collapse is kept as it is.

    Returns
    -------
    list of (N, 2) float64 array
        One ring a region, of 3 points or more within [0, W] x [0, H]. A hole is reached from the
        outer ring over a bridge, which is walked there and back and so encloses nothing.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if width == 0:
        return []
    part = np.pad(mask[top : top + height, left : left + width], 1).astype(np.float64)
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
    kept = cv2.approxPolyDP(ring.astype(np.float32), tolerance, closed=True)
    return kept[:, 0].astype(np.float64) if len(kept) >= 3 else ring


def _joined(rings: Sequence[Ring]) -> Ring:
    """Walk the outer ring, the first, with a detour around each hole where it is nearest."""
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
