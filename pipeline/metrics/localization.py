"""Boxes and pixels of objects, and the metrics of weakly supervised localization.

A pair of image and class is localized if the predicted box and any true box of that class have
at least a given intersection over union (Russakovsky et al. 2015, "ImageNet Large Scale Visual
Recognition Challenge", section 4.2). The class is assumed to be known, as in "GT-known Loc".
Metrics that include the classification also use the rank of the class.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

#: (N, 4) boxes: left, top, right and bottom in pixels. The box of one pixel has right - left == 1.
Boxes = NDArray[np.float64]


def component_boxes(mask: NDArray[np.bool_]) -> Boxes:
    """Return the box of each 8-connected component of an (H, W) mask, largest component first.

    Returns
    -------
    (N, 4) float64 array
        Boxes. Components of equal size are ordered by their upper left corner, top first.

    Examples
    --------
    >>> mask = np.array([[1, 1, 0, 0], [1, 0, 0, 1]], bool)
    >>> component_boxes(mask).tolist()
    [[0.0, 0.0, 2.0, 2.0], [3.0, 1.0, 4.0, 2.0]]
    """
    # skimage.measure.regionprops finds the same boxes, ten times as slowly on noisy maps.
    count, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    found = statistics[1:count].astype(np.float64)
    left, top, _, _, area = found.T
    found = found[np.lexsort((left, top, -area))]
    corner, sides = found[:, :2], found[:, 2:4]
    return np.concatenate([corner, corner + sides], axis=1)


def box_overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Compute the (N, M) intersection over union of all pairs of (N, 4) and (M, 4) boxes.

    Examples
    --------
    >>> boxes = np.array([[0.0, 0.0, 2.0, 2.0]])
    >>> others = np.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    >>> box_overlaps(boxes, others).round(3).tolist()
    [[0.333, 0.0]]
    """
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
    """Compare the box of the largest component of a mask with the true boxes of the class.

    Parameters
    ----------
    predicted : (H, W) bool array
        The pixels of one class.
    true : (N, 4) float64 array
        At least one box.

    Returns
    -------
    float
        Largest intersection over union; 0 for an empty mask.
    """
    boxes = component_boxes(predicted)[:1]
    return float(box_overlaps(boxes, true).max(initial=0.0))


def localization_errors(
    overlaps: Sequence[float], thresholds: Sequence[float]
) -> dict[str, float | None]:
    """Compute the share of pairs that are not localized at each threshold; None without pairs."""
    values = np.asarray(overlaps)
    if not len(values):
        return {str(threshold): None for threshold in thresholds}
    return {str(threshold): float((values < threshold).mean()) for threshold in thresholds}


def map_boxes(values: NDArray[np.floating], threshold: float) -> Boxes:
    """Return the boxes of the components of a map above a share of its maximum.

    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 3.2: the
    regions above 20 % of the maximum, and the box of the largest of them.

    Parameters
    ----------
    values : (H, W) float array
        Non-negative map.
    threshold : float
        Share of the maximum, in [0, 1).

    Returns
    -------
    (N, 4) float64 array
        Boxes, largest component first. A map of zeros has no box.

    Raises
    ------
    ValueError
        If the map contains NaN.
    """
    _refuse_nan(values)
    return component_boxes(values > threshold * values.max(initial=0.0))


def threshold_overlaps(
    values: NDArray[np.floating], true: Boxes, thresholds: Sequence[float]
) -> NDArray[np.float64]:
    """Compare the boxes of a map at many thresholds with the true boxes of its class.

    Parameters
    ----------
    values : (H, W) float array
        Non-negative map.
    true : (N, 4) float64 array
        At least one box.
    thresholds : sequence of T float
        Shares of the maximum.

    Returns
    -------
    (2, T) float64 array
        Best intersection over union of the largest component's box, and of the boxes of all
        components.

    Raises
    ------
    ValueError
        If the map contains NaN.
    """
    result = np.zeros((2, len(thresholds)))
    for column, threshold in enumerate(thresholds):
        overlaps = box_overlaps(map_boxes(values, threshold), true)
        result[:, column] = overlaps[:1].max(initial=0.0), overlaps.max(initial=0.0)
    return result


def max_box_accuracy(overlaps: NDArray[np.float64], overlap: float) -> tuple[float, int]:
    """Compute the largest share of localized pairs over all thresholds.

    Choe et al. 2020, "Evaluating Weakly Supervised Object Localization Methods Right":
    MaxBoxAcc is this share at an overlap of .5, for the boxes of the largest components.
    MaxBoxAccV2 is its mean over overlaps of .3, .5 and .7, for the boxes of all components.

    Parameters
    ----------
    overlaps : (P, T) float array
        Intersection over union of P pairs at T thresholds; P and T are at least 1.
    overlap : float
        Intersection over union from which a pair is localized (delta).

    Returns
    -------
    accuracy : float
        Largest share of localized pairs.
    best : int
        Index of its threshold.
    """
    shares = (overlaps >= overlap).mean(axis=0)
    best = int(shares.argmax())
    return float(shares[best]), best


def label_ranks(scores: NDArray[np.floating], labels: Sequence[int]) -> NDArray[np.int64]:
    """Rank each label of an image among the classes that are absent from the image.

    For an image with one label this is the rank among all classes. With several labels, each is
    ranked without the others, so that labels do not lower each other's rank.

    Parameters
    ----------
    scores : (C,) float array
        Class scores.
    labels : sequence of K int
        Class indices from 0.

    Returns
    -------
    (K,) int64 array
        Ranks from 1. Classes with an equal score rank before the label.

    Raises
    ------
    ValueError
        If a score is NaN.
    """
    _refuse_nan(scores)
    others = np.delete(scores, labels)
    return np.array([1 + (others >= scores[label]).sum() for label in labels], np.int64)


def top5_overlap(overlaps: Mapping[str, float], rank: int) -> float:
    """Return the best overlap for one class among the five boxes of top-5 localization.

    Zhou et al. 2016, section 3.2: the five boxes are a tight and a loose box of each of the first
    two predicted classes, and a loose box of the third.

    Parameters
    ----------
    overlaps : mapping
        Intersection over union of the ``tight`` and of the ``loose`` box.
    rank : int
        Rank of the class among the predicted classes, from 1.

    Returns
    -------
    float
        Best intersection over union; 0 if the class has no box.
    """
    if rank <= 2:
        return max(overlaps["tight"], overlaps["loose"])
    return overlaps["loose"] if rank == 3 else 0.0


def pixel_histograms(
    values: NDArray[np.floating],
    ground_truth: NDArray[np.bool_],
    scored: NDArray[np.bool_],
    bins: int,
) -> NDArray[np.int64]:
    """Compute the histograms of a map's values off and on the object.

    Parameters
    ----------
    values : (H, W) float array
        Map in [0, 1].
    ground_truth : (H, W) bool array
        Pixels of the class.
    scored : (H, W) bool array
        Pixels that count.
    bins : int
        Number of bins of equal width. The last one includes 1.

    Returns
    -------
    (2, bins) int64 array
        Histograms of pixels off and on the object. Histograms of several maps may be added.

    Raises
    ------
    ValueError
        If the map contains NaN.
    """
    _refuse_nan(values)
    columns = np.minimum((values[scored] * bins).astype(np.int64), bins - 1)
    places = columns + bins * ground_truth[scored]
    return np.bincount(places, minlength=2 * bins).reshape(2, bins).astype(np.int64)


def pixel_average_precision(histograms: NDArray[np.int64]) -> float | None:
    """Compute the area under the precision-recall curve of pixels.

    Choe et al. 2020: PxAP = sum_l precision_l (recall_l - recall_(l-1)).

    Parameters
    ----------
    histograms : (2, bins) int64 array
        Result of :func:`pixel_histograms`.

    Returns
    -------
    float or None
        PxAP in [0, 1]; None if no pixel is on an object.
    """
    false, true = histograms[:, ::-1].cumsum(axis=1).astype(np.float64)
    if not true[-1]:
        return None
    found = true + false
    precision = np.divide(true, found, out=np.zeros_like(true), where=found > 0)
    return float((precision * np.diff(true, prepend=0.0)).sum() / true[-1])


def _refuse_nan(values: NDArray[np.floating]) -> None:
    """Raise a ValueError if there are NaN values."""
    if np.isnan(values).any():
        raise ValueError(f"{np.isnan(values).sum()} of {values.size} values are NaN, expected none")
