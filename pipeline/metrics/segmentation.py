"""Scores of label images against masks, from one matrix of pixel counts.

The rules: pixels of truth 255 are never scored; counts are 64-bit; a class absent from
both prediction and truth is left out of the mean, one absent from the prediction alone
counts 0; a pixel that the prediction leaves at 255 is a miss of its true class.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import IGNORE

Counts = NDArray[np.int64]


def confusion_matrix(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int
) -> Counts:
    """Count pixels by true and predicted class.

    Parameters
    ----------
    truth, predicted : (H, W) uint8 array
        Class numbers, 255 for void (truth) or unsure (prediction).
    classes : int
        Number of classes with the background.

    Returns
    -------
    (classes, classes + 1) int64 array
        Rows are the truth; the last column counts predictions of 255.

    Raises
    ------
    ValueError
        If the sizes differ, or a value is neither a class nor 255.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"prediction is {predicted.shape}, expected {truth.shape}, the mask's size"
        )
    known = truth != IGNORE
    rows = truth[known].astype(np.int64)
    columns = predicted[known].astype(np.int64)
    columns[columns == IGNORE] = classes
    for name, values, limit in (("truth", rows, classes - 1), ("prediction", columns, classes)):
        if values.size and values.max() > limit:
            raise ValueError(f"{name} has the value {values.max()}, expected 0 to {classes - 1}")
    counts = np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1))
    return counts.astype(np.int64).reshape(classes, classes + 1)


def scores_of(confusion: Counts, names: Sequence[str]) -> dict[str, Any]:
    """Compute all scores from a confusion matrix.

    Parameters
    ----------
    confusion : (C, C + 1) int64 array
        As :func:`confusion_matrix` counts, summed over images.
    names : sequence of C str
        Class names, the background first.

    Returns
    -------
    dict
        ``miou``, ``pixel_accuracy``, the mean ``false_positive_share`` and
        ``false_negative_share`` (of each class's union, as Puzzle-CAM reports over- and
        under-activation), ``classes``, ``absent_classes``, ``confusion`` and
        ``unsure_pixels``. Shares are in [0, 1]; None where a denominator is 0.
    """
    square, unsure = confusion[:, :-1], confusion[:, -1]
    true_positive = np.diag(square)
    true, predicted = confusion.sum(axis=1), square.sum(axis=0)
    union = true + predicted - true_positive
    present = union > 0
    columns = {
        "iou": _ratio(true_positive, union),
        "precision": _ratio(true_positive, predicted),
        "recall": _ratio(true_positive, true),
        "false_positive_share": _ratio(predicted - true_positive, union),
        "false_negative_share": _ratio(true - true_positive, union),
    }
    rows = [
        {"name": name}
        | {key: _number(values[k]) for key, values in columns.items()}
        | {"pixels_true": int(true[k]), "pixels_predicted": int(predicted[k])}
        for k, name in enumerate(names)
    ]
    return {
        "miou": _mean(columns["iou"], present),
        "pixel_accuracy": _number(_ratio(true_positive.sum(), true.sum())),
        "false_positive_share": _mean(columns["false_positive_share"], present),
        "false_negative_share": _mean(columns["false_negative_share"], present),
        "classes": rows,
        "absent_classes": [name for name, here in zip(names, present, strict=True) if not here],
        "confusion": square.tolist(),
        "unsure_pixels": int(unsure.sum()),
    }


def image_counts(confusions: Sequence[Counts] | Counts) -> Counts:
    """Keep of each image's confusion matrix what intersections over union are made of.

    Parameters
    ----------
    confusions : sequence of N (C, C + 1) int64 arrays
        As :func:`confusion_matrix` counts.

    Returns
    -------
    (N, 3, C) int64 array
        Pixels of each class that are right, that are predicted, and that are true. Sums over
        images are those of the whole; see :func:`mean_iou`.
    """
    counts = np.asarray(confusions)
    square = counts[:, :, :-1]
    right = np.diagonal(square, axis1=1, axis2=2)
    return np.stack([right, square.sum(axis=1), counts.sum(axis=2)], axis=1)


def mean_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the mIoU of counts of pixels.

    Parameters
    ----------
    counts : (..., 3, C) array
        Sums of :func:`image_counts` over images, possibly weighted.

    Returns
    -------
    (...) float64 array
        Mean over the classes that are true or predicted somewhere, NaN where there is none.
    """
    right, predicted, true = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    shares = _ratio(right, predicted + true - right)
    present = np.isfinite(shares)
    return np.asarray(_ratio(np.where(present, shares, 0).sum(-1), present.sum(-1)))


def threshold_counts(
    truth: NDArray[np.uint8],
    maps: NDArray[np.float32],
    numbers: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    classes: int,
) -> Counts:
    """Count pixels by true and predicted class for every background threshold at once.

    A pixel is foreground where its strongest class scores above the threshold. One
    histogram over (truth, strongest class, interval between thresholds) serves them all:
    the foreground of a threshold is the sum over the intervals above it.

    Parameters
    ----------
    truth : (H, W) uint8 array
    maps : (K, H, W) float32 array
        Class scores at full resolution.
    numbers : (K,) int64 array
        Class numbers of the maps.
    thresholds : (T,) float array
        Ascending.
    classes : int
        Number of classes with the background.

    Returns
    -------
    (T, classes, classes + 1) int64 array
        One confusion matrix per threshold.
    """
    known = truth != IGNORE
    rows = truth[known].astype(np.int64)
    steps = len(thresholds)
    if len(numbers):
        strongest = maps.max(axis=0)[known].astype(np.float64)
        winner = numbers[maps.argmax(axis=0)[known]]
        passed = np.searchsorted(thresholds, strongest, side="left")
    else:
        winner, passed = np.zeros_like(rows), np.zeros_like(rows)
    flat = (rows * classes + winner) * (steps + 1) + passed
    histogram = np.bincount(flat, minlength=classes * classes * (steps + 1))
    histogram = histogram.reshape(classes, classes, steps + 1)
    # Thresholds 0 to p - 1 are below a score that passed p of them.
    above = histogram[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
    counts = np.zeros((steps, classes, classes + 1), np.int64)
    counts[:, :, :classes] = above.transpose(2, 0, 1)
    counts[:, :, 0] += histogram.sum(axis=(1, 2))[None] - above.sum(axis=1).T
    return counts


def _ratio(part: Any, whole: Any) -> Any:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


def _mean(values: NDArray[np.float64], present: NDArray[np.bool_]) -> float | None:
    return float(values[present].mean()) if present.any() else None


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
