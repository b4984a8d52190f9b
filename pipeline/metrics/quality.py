"""Label quality without ground truth: ranking of images by doubt, and rank correlation."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

#: Smallest number of images for a rank correlation.
MIN_IMAGES = 3


def doubts(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Combine several quality figures into one doubt for each image.

    The figures have no common scale, so their ranks are used. The doubt of an image is one minus
    the mean of its relative ranks.

    Parameters
    ----------
    figures : (N, F) float64 array
        Figures of each image; higher is better. NaN if an image has no such figure.

    Returns
    -------
    (N,) float64 array
        Doubts in [0, 1]; NaN for an image without figures. Ties share their mean rank.
    """
    ranks = np.full(figures.shape, np.nan)
    for column, values in enumerate(figures.T):
        known = np.isfinite(values)
        ranks[known, column] = (rankdata(values[known]) - 0.5) / max(known.sum(), 1)
    count = np.isfinite(ranks).sum(axis=1)
    total = np.nansum(ranks, axis=1)
    trust = np.divide(total, count, out=np.full(len(figures), np.nan), where=count > 0)
    return np.asarray(1 - trust)


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Compute Spearman's rank correlation of two figures.

    Parameters
    ----------
    first, second : (N,) float64 array
        Values of the figures. Pairs with NaN are left out.

    Returns
    -------
    float or None
        Correlation in [-1, 1]; None if fewer than three pairs are left or a figure is constant.

    Examples
    --------
    >>> rank_correlation(np.array([0.1, 0.5, 0.9]), np.array([1.0, 2.0, 30.0]))
    1.0
    """
    pairs = np.array([first, second], np.float64)
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if pairs.shape[1] < MIN_IMAGES or (pairs == pairs[:, :1]).all(axis=1).any():
        return None
    return float(spearmanr(*pairs).statistic)
