"""Agreement between results for the same image, without ground truth."""

import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import IGNORE


def label_agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Compute the mean intersection over union of two label images.

    Parameters
    ----------
    first, second : (H, W) uint8 array
        Label values. Pixels that are 255 in either image are left out.

    Returns
    -------
    float
        Mean over the labels in either image, including the background, in [0, 1]; NaN if no
        pixel is left.

    Raises
    ------
    ValueError
        If the sizes differ.

    Examples
    --------
    >>> first = np.array([[0, 0, 1, 1]], np.uint8)
    >>> second = np.array([[0, 1, 1, 1]], np.uint8)
    >>> round(label_agreement(first, second), 3)  # (1 / 2 + 2 / 3) / 2
    0.583
    """
    if first.shape != second.shape:
        raise ValueError(f"labels are {first.shape} and {second.shape}, expected equal sizes")
    known = (first != IGNORE) & (second != IGNORE)
    pairs = first[known].astype(np.intp) * 256 + second[known]
    counts = np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
    both = np.diagonal(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    present = either > 0
    return float((both[present] / either[present]).mean()) if present.any() else float("nan")


def map_agreement(views: NDArray[np.floating]) -> NDArray[np.float32]:
    """Compute the agreement between several views of a class map and their mean.

    The measure is Ruzicka's similarity, the intersection over union of fuzzy sets: the sum
    of the smaller values divided by the sum of the larger values. It needs no threshold.

    Parameters
    ----------
    views : (V, K, h, w) float array
        Non-negative maps of K classes in V views. Each map is first divided by its maximum, so
        that its scale does not matter.

    Returns
    -------
    (K,) float32 array
        Mean over the views, in [0, 1]; 0 for a class without evidence in all views.
    """
    peaks = views.max(axis=(2, 3), keepdims=True, initial=0)
    scaled = views / np.where(peaks > 0, peaks, 1)
    mean = scaled.mean(axis=0)
    smaller = np.minimum(scaled, mean).sum(axis=(2, 3), dtype=np.float64)
    larger = np.maximum(scaled, mean).sum(axis=(2, 3), dtype=np.float64)
    shares = np.divide(smaller, larger, out=np.zeros_like(smaller), where=larger > 0)
    return np.asarray(shares.mean(axis=0), np.float32)
