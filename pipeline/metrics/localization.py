"""Boxes of objects, and the localisation error that judges them.

An (image, class) pair is localised when the predicted box and any true box of that class
overlap by a given intersection over union (Russakovsky et al. 2015, "ImageNet Large Scale
Visual Recognition Challenge", section 4.2). The class is given, as in "GT-known Loc".
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

#: (N, 4) boxes: left, top, right, bottom edges in pixels; one pixel has right - left == 1.
Boxes = NDArray[np.float64]


def component_boxes(mask: NDArray[np.bool_]) -> Boxes:
    """Give the box around each 8-connected component of an (H, W) mask, largest component first.

    Returns
    -------
    (N, 4) float64 array
        Components of equal size are in reading order.
    """
    count, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    found = statistics[1:count].astype(np.float64)
    found = found[np.argsort(-found[:, cv2.CC_STAT_AREA], kind="stable")]
    corner, sides = found[:, :2], found[:, 2:4]
    return np.concatenate([corner, corner + sides], axis=1)


def box_overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Give the intersection over union of all pairs of (N, 4) and (M, 4) boxes: (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(item[:, 2:] - item[:, :2]).prod(axis=1) for item in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - common
    overlaps: NDArray[np.float64] = np.divide(
        common, union, out=np.zeros_like(common), where=union > 0
    )
    return overlaps


def best_overlap(predicted: NDArray[np.bool_], true: Boxes) -> float:
    """Compare the box around a mask's largest component with the true boxes of its class.

    Parameters
    ----------
    predicted : (H, W) bool array
        The pixels of one class.
    true : (N, 4) float64 array
        At least one.

    Returns
    -------
    float
        The largest intersection over union; 0 for an empty mask.
    """
    boxes = component_boxes(predicted)[:1]
    return float(box_overlaps(boxes, true).max(initial=0.0))


def localization_errors(
    overlaps: Sequence[float], thresholds: Sequence[float]
) -> dict[str, float | None]:
    """Give the share of pairs that are not localised, for each threshold; None without pairs."""
    values = np.asarray(overlaps)
    if not len(values):
        return {str(threshold): None for threshold in thresholds}
    return {str(threshold): float((values < threshold).mean()) for threshold in thresholds}
