"""Class weights for the loss of the segmentation network."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import BACKGROUND


def count_pixels(labels: Iterable[NDArray[np.uint8]], classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class.

    Parameters
    ----------
    labels : iterable of (H, W) uint8 array
        Label images; uncertain pixels (255) do not count.
    classes : int
        Number of classes with the background.

    Returns
    -------
    (classes,) int64 array
    """
    counts = np.zeros(classes, np.int64)
    for label in labels:
        counts += np.bincount(label.ravel(), minlength=256)[:classes]
    return counts


def class_weights(counts: NDArray[np.int64], power: float) -> NDArray[np.float32]:
    """Compute class weights as a power of the inverse share of the foreground.

    The mIoU weights all classes equally, but the cross entropy weights all pixels equally.
    A class with few pixels is easily not learned at all. The background has the weight 1, and
    so has the foreground on average: the weights change the balance between classes, not the
    balance of foreground and background.

    Parameters
    ----------
    counts : (C,) int64 array
        Pixels of each class, background first.
    power : float
        0 gives all classes the same weight. With 1, all foreground classes contribute equally.

    Returns
    -------
    (C,) float32 array
        Class weights. Their mean over the foreground pixels is 1. A class without pixels has
        the weight 1.
    """
    weights = np.ones(len(counts))
    present = (counts > 0) & (np.arange(len(counts)) != BACKGROUND)
    share = counts[present] / max(1, counts[present].sum())
    weights[present] = share**-power / np.sum(share ** (1 - power))
    return weights.astype(np.float32)
