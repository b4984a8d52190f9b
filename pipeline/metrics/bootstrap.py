"""Paired bootstrap over images for differences in mIoU (Efron and Tibshirani 1993).

Images are resampled with replacement, and all methods use the same resamples. The pixel counts
are summed and the mIoU is computed again, since it is not a mean over images. The result measures
the variation on other images of the same kind. It does not measure the variation between
trainings: the interval does not include the spread over seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.segmentation import Counts, mean_iou

#: Largest number of elements in one array of drawn images or weights: 32 MiB.
CHUNK = 1 << 22
#: Quantiles of the 95 % percentile interval.
BOUNDS = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """The mIoU of a method, averaged over its runs.

    Attributes
    ----------
    miou : float
        mIoU on the original images, in [0, 1].
    resampled : (S,) float64 array
        mIoU on each of S resamples; NaN for a resample without scored pixels.
    """

    miou: float
    resampled: NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A difference between two mIoU values.

    Attributes
    ----------
    difference : float
        Difference on the original images, in [-1, 1].
    low, high : float
        Ends of the 95 % percentile interval.
    p : float
        Two-sided p-value, from 2 / (S + 1) to 1 for S resamples. ``p``, ``low`` and ``high`` are
        NaN if there is only one image.
    """

    difference: float
    low: float
    high: float
    p: float


def estimates(
    methods: Sequence[Sequence[Counts]], *, samples: int = 2000, seed: int = 0
) -> list[Estimate]:
    """Compute the mIoU of several methods on the same resamples of the same images.

    Parameters
    ----------
    methods : sequence of sequences of (N, 3, C) int64 arrays
        Counts of the runs of each method.
    samples : int
        Number of resamples.
    seed : int
        Seed of the resampling.

    Returns
    -------
    list of Estimate
        One estimate for each method.

    Raises
    ------
    ValueError
        If a method has no run, if there is no image, or if the ground truth counts of two runs
        differ, which means that the images or masks differ.
    """
    runs = [run for method in methods for run in method]
    if not runs or not all(methods) or not len(runs[0]):
        raise ValueError("a method has no run or no image, expected one or more of each")
    for run in runs[1:]:
        if not np.array_equal(run[:, 2], runs[0][:, 2]):
            raise ValueError(
                f"true counts of {len(run)} images are not those of the {len(runs[0])} images "
                "they are paired with, expected the same images in the same order"
            )
    whole = np.array([float(mean_iou(run.sum(axis=0))) for run in runs])
    resampled = _resampled(runs, samples, seed)
    ends = np.cumsum([len(method) for method in methods])
    slices = [slice(end - len(method), end) for end, method in zip(ends, methods, strict=True)]
    return [
        Estimate(float(whole[runs_of_method].mean()), resampled[runs_of_method].mean(axis=0))
        for runs_of_method in slices
    ]


def difference(a: Estimate, b: Estimate) -> Difference:
    """Compare two estimates from the same call of :func:`estimates`.

    The p-value is twice the smaller of two shares, and at most 1: the share of resamples with a
    difference of at most 0, and the share with a difference of at least 0. One is added to the
    counts and to the number of resamples, so that the p-value is never 0 (Davison and Hinkley
    1997, section 4.2).
    """
    point = a.miou - b.miou
    drawn = a.resampled - b.resampled
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Difference(point, np.nan, np.nan, np.nan)
    low, high = np.quantile(drawn, BOUNDS)
    tail = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    p = min(1.0, 2 * (tail + 1) / (len(drawn) + 1))
    return Difference(point, float(low), float(high), p)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for the number of comparisons (Holm 1979).

    Parameters
    ----------
    p : sequence of float
        The p-values in any order; NaN for a comparison that was not possible.

    Returns
    -------
    list of float
        Corrected p-values in the same order, at most 1. NaN values stay and do not count.

    Examples
    --------
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)[: np.count_nonzero(np.isfinite(values))]  # NaN values come last
    factors = np.arange(len(order), 0, -1)
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return [float(value) for value in corrected]


def _resampled(runs: Sequence[Counts], samples: int, seed: int) -> NDArray[np.float64]:
    """Compute the (runs, samples) mIoU of the resamples."""
    images = len(runs[0])
    if images == 1:
        return np.full((len(runs), samples), np.nan)
    columns: list[list[NDArray[np.float64]]] = [[] for _ in runs]
    for weights in _weights(images, samples, seed):
        for run, parts in zip(runs, columns, strict=True):
            # Sums of integers below 2^53 are exact in any order, so all machines agree.
            sums = weights @ run.reshape(images, -1).astype(np.float64)
            parts.append(mean_iou(sums.reshape(-1, *run.shape[1:])))
    return np.stack([np.concatenate(parts) for parts in columns])


def _weights(images: int, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield (some samples, images) counts of each image in each resample."""
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // images)
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = rng.integers(images, size=(rows, images))
        drawn += images * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.float64)
