"""Weights of classes in the loss of the segmentation network."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import BACKGROUND


def count_pixels(labels: Iterable[NDArray[np.uint8]], classes: int) -> NDArray[np.int64]:
    """Count the pixels of every class.

    Parameters
    ----------
    labels : iterable of (H, W) uint8 array
        Label images; what is no class (255, unsure) does not count.
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
    """Weigh classes by the inverse of their share of the foreground, to some power.

    The mean intersection over union counts every class alike, the cross entropy every pixel:
    what has few of them is easily not learned at all. The background keeps a weight of 1, and
    so does the foreground as a whole: how large things are is not to change, only which.

    Parameters
    ----------
    counts : (C,) int64 array
        Pixels of every class, the background first.
    power : float
        0 weighs all alike; 1 gives all classes of the foreground the same say.

    Returns
    -------
    (C,) float32 array
        The mean over the foreground's pixels is 1. A class without pixels has a weight of 1.
    """
    weights = np.ones(len(counts))
    seen = (counts > 0) & (np.arange(len(counts)) != BACKGROUND)
    share = counts[seen] / max(1, counts[seen].sum())
    weights[seen] = share**-power / np.sum(share ** (1 - power))
    return weights.astype(np.float32)
