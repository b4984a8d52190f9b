"""From figures that need no ground truth to an order in which a person should look."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

#: Images from which on a rank correlation says anything.
FEWEST = 3


def doubts(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put several figures of trust into one order of doubt.

    Figures have no common scale, so ranks are taken: an image's doubt is one minus the mean
    of its relative ranks in the figures that it has.

    Parameters
    ----------
    figures : (N, F) float64 array
        Higher is better; NaN where an image has no such figure.

    Returns
    -------
    (N,) float64 array
        In [0, 1], NaN for an image without any figure. Ties share their mean rank.
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
    """Give Spearman's rank correlation of two figures.

    Parameters
    ----------
    first, second : (N,) float64 array
        Pairs with a NaN are left out.

    Returns
    -------
    float or None
        In [-1, 1]; None where fewer than three pairs are left or one figure is constant.
    """
    pairs = np.array([first, second], np.float64)
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if pairs.shape[1] < FEWEST or (pairs == pairs[:, :1]).all(axis=1).any():
        return None
    return float(spearmanr(*pairs).statistic)
