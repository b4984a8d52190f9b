"""Scores of label images against masks, from one matrix of pixel counts.

- Pixels with the ground truth value 255 are never scored.
- Counts are 64-bit integers.
- A class that is absent from both prediction and ground truth is left out of the mean. A class
  that is absent from the prediction only counts as 0.
- A pixel with the prediction 255 is a false negative of its true class.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import IGNORE

Counts = NDArray[np.int64]


def confusion_matrix(
    ground_truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int
) -> Counts:
    """Count pixels by true and predicted class.

    Parameters
    ----------
    ground_truth, predicted : (H, W) uint8 array
        Class numbers; 255 for void (ground truth) or uncertain pixels (prediction).
    classes : int
        Number of classes with the background.

    Returns
    -------
    (classes, classes + 1) int64 array
        Rows are the ground truth. The last column counts predictions of 255.

    Raises
    ------
    ValueError
        If the sizes differ, or a value is neither a class nor 255.

    Examples
    --------
    >>> ground_truth = np.array([[0, 0, 1, 255]], np.uint8)
    >>> prediction = np.array([[0, 1, 1, 1]], np.uint8)
    >>> confusion_matrix(ground_truth, prediction, 2)[:, :2].tolist()
    [[1, 1], [0, 1]]
    """
    if ground_truth.shape != predicted.shape:
        raise ValueError(
            f"prediction is {predicted.shape}, expected {ground_truth.shape}, the mask's size"
        )
    scored = ground_truth != IGNORE
    rows = ground_truth[scored].astype(np.int64)
    columns = predicted[scored].astype(np.int64)
    columns[columns == IGNORE] = classes
    checks = (("ground truth", rows, classes - 1), ("prediction", columns, classes))
    for name, values, limit in checks:
        if values.size and values.max() > limit:
            raise ValueError(f"{name} has the value {values.max()}, expected 0 to {classes - 1}")
    counts = np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1))
    return counts.astype(np.int64).reshape(classes, classes + 1)


def scores_of(confusion: Counts, names: Sequence[str]) -> dict[str, Any]:
    """Compute all scores from a confusion matrix.

    Parameters
    ----------
    confusion : (C, C + 1) int64 array
        Sum over images of :func:`confusion_matrix`.
    names : sequence of C str
        Class names, the background first.

    Returns
    -------
    dict
        ``miou``, ``pixel_accuracy``, the mean ``false_positive_share`` and
        ``false_negative_share`` (shares of the union of each class, by which Puzzle-CAM reports
        over- and under-activation), ``classes``, ``absent_classes``, ``confusion`` and
        ``uncertain_pixels``. Shares are in [0, 1]; None if a denominator is 0.

    Examples
    --------
    >>> ground_truth = np.array([[0, 0, 1, 255]], np.uint8)
    >>> prediction = np.array([[0, 1, 1, 1]], np.uint8)
    >>> scores = scores_of(confusion_matrix(ground_truth, prediction, 2), ["background", "cat"])
    >>> scores["miou"]
    0.5
    """
    square, uncertain = confusion[:, :-1], confusion[:, -1]
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
        "uncertain_pixels": int(uncertain.sum()),
    }


def image_counts(confusions: Sequence[Counts] | Counts) -> Counts:
    """Reduce confusion matrices to the counts that the IoU is computed from.

    Parameters
    ----------
    confusions : sequence of N (C, C + 1) int64 arrays
        Results of :func:`confusion_matrix`.

    Returns
    -------
    (N, 3, C) int64 array
        Numbers of correct, predicted and true pixels of each class. They can be summed over
        images; see :func:`mean_iou`.
    """
    counts = np.asarray(confusions)
    square = counts[:, :, :-1]
    right = np.diagonal(square, axis1=1, axis2=2)
    return np.stack([right, square.sum(axis=1), counts.sum(axis=2)], axis=1)


def mean_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the mIoU from pixel counts.

    Parameters
    ----------
    counts : (..., 3, C) array
        Sums of :func:`image_counts` over images, possibly weighted.

    Returns
    -------
    (...) float64 array
        Mean over the classes that are present in the ground truth or the prediction; NaN if
        there are none.
    """
    right, predicted, true = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    shares = _ratio(right, predicted + true - right)
    present = np.isfinite(shares)
    return np.asarray(_ratio(np.where(present, shares, 0).sum(-1), present.sum(-1)))


def threshold_counts(
    ground_truth: NDArray[np.uint8],
    maps: NDArray[np.float32],
    numbers: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    classes: int,
) -> Counts:
    """Count pixels by true and predicted class, for all background thresholds at once.

    A pixel is foreground if the score of its strongest class is above the threshold. One
    histogram over (ground truth, strongest class, interval between thresholds) is enough: the
    foreground of a threshold is the sum over all intervals above it.

    Parameters
    ----------
    ground_truth : (H, W) uint8 array
    maps : (K, H, W) float32 array
        Class maps at full resolution.
    numbers : (K,) int64 array
        Class numbers of the maps.
    thresholds : (T,) float array
        Thresholds in ascending order.
    classes : int
        Number of classes with the background.

    Returns
    -------
    (T, classes, classes + 1) int64 array
        One confusion matrix for each threshold.
    """
    scored = ground_truth != IGNORE
    rows = ground_truth[scored].astype(np.int64)
    steps = len(thresholds)
    if len(numbers):
        strongest = maps.max(axis=0)[scored].astype(np.float64)
        winner = numbers[maps.argmax(axis=0)[scored]]
        passed = np.searchsorted(thresholds, strongest, side="left")
    else:
        winner, passed = np.zeros_like(rows), np.zeros_like(rows)
    flat = (rows * classes + winner) * (steps + 1) + passed
    histogram = np.bincount(flat, minlength=classes * classes * (steps + 1))
    histogram = histogram.reshape(classes, classes, steps + 1)
    # A score that passed p thresholds is above the thresholds 0 to p - 1.
    above = histogram[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
    counts = np.zeros((steps, classes, classes + 1), np.int64)
    counts[:, :, :classes] = above.transpose(2, 0, 1)
    counts[:, :, 0] += histogram.sum(axis=(1, 2))[None] - above.sum(axis=1).T
    return counts


def _ratio(part: Any, whole: Any) -> Any:
    """Divide arrays; NaN where the denominator is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


def _mean(values: NDArray[np.float64], present: NDArray[np.bool_]) -> float | None:
    """Return the mean over the present classes; None if there are none."""
    return float(values[present].mean()) if present.any() else None


def _number(value: Any) -> float | None:
    """Return a value as a float; None for NaN."""
    return None if np.isnan(value) else float(value)
