"""Paired bootstrap over images: how sure a difference in mIoU is (Efron and Tibshirani 1993).

Images are resampled with replacement, the same ones for every method, the counts of pixels
are summed and the mIoU is computed anew, for it is no mean over images. This measures how the
figure would move on other images of the same kind. It does not measure how it would move with
another training: that is what several seeds show, and the interval knows nothing of their
spread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.segmentation import Counts, mean_iou

#: Elements of one array of drawn images or weights: 32 MiB.
CHUNK = 1 << 22
#: Quantiles that bound the 95 % percentile interval.
BOUNDS = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """The mIoU of a method, averaged over its runs.

    Attributes
    ----------
    miou : float
        On the images as they are, in [0, 1].
    resampled : (S,) float64 array
        On each of S resamples; NaN where one holds no scored pixel.
    """

    miou: float
    resampled: NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A difference of two mIoU.

    Attributes
    ----------
    difference : float
        On the images as they are, in [-1, 1].
    low, high : float
        Ends of the 95 % percentile interval.
    p : float
        Two-sided, from 2 / (S + 1) to 1 for S resamples. With ``low`` and ``high`` it is
        NaN where there is but one image: nothing can be resampled.
    """

    difference: float
    low: float
    high: float
    p: float


def paired_difference(
    a: Sequence[Counts], b: Sequence[Counts], samples: int = 2000, seed: int = 0
) -> Difference:
    """Compare two methods on the same images.

    Parameters
    ----------
    a, b : sequence of (N, 3, C) int64 arrays
        Counts of each method's runs, as :func:`pipeline.metrics.segmentation.image_counts`
        gives them; the two may have different numbers of runs.
    samples : int
        Resamples.
    seed : int
        Of the resampling.

    Returns
    -------
    Difference
        The mIoU of ``a`` less that of ``b``.

    Raises
    ------
    ValueError
        As :func:`estimates`.
    """
    one, two = estimates([a, b], samples=samples, seed=seed)
    return difference(one, two)


def estimates(
    methods: Sequence[Sequence[Counts]], *, samples: int = 2000, seed: int = 0
) -> list[Estimate]:
    """Compute the mIoU of several methods on the same resamples of the same images.

    Parameters
    ----------
    methods : sequence of sequences of (N, 3, C) int64 arrays
        Counts of the runs of each method.
    samples : int
        Resamples.
    seed : int
        Of the resampling.

    Raises
    ------
    ValueError
        If a method has no run, there is no image, or the true counts of two runs differ, so
        that they are of other images or masks.
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
    return [Estimate(float(whole[own].mean()), resampled[own].mean(axis=0)) for own in slices]


def difference(a: Estimate, b: Estimate) -> Difference:
    """Compare two estimates of one call of :func:`estimates`.

    The p-value is twice the smaller share of resamples whose difference is at most 0 or at
    least 0, at most 1; one is added to both counts and to the number of resamples, so that it
    is never 0 (Davison and Hinkley 1997, section 4.2).
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
    """Correct the p-values of a family of comparisons for their number (Holm 1979).

    Parameters
    ----------
    p : sequence of float
        In any order; NaN stands for a comparison that could not be made.

    Returns
    -------
    list of float
        In the same order, at most 1; NaN stays and does not count.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)[: np.count_nonzero(np.isfinite(values))]  # NaN is sorted last
    factors = np.arange(len(order), 0, -1)
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return [float(value) for value in corrected]


def _resampled(runs: Sequence[Counts], samples: int, seed: int) -> NDArray[np.float64]:
    """Give the (runs, samples) mIoU of the resamples."""
    images = len(runs[0])
    if images == 1:
        return np.full((len(runs), samples), np.nan)
    columns: list[list[NDArray[np.float64]]] = [[] for _ in runs]
    for weights in _weights(images, samples, seed):
        for run, parts in zip(runs, columns, strict=True):
            # Sums of integers below 2^53 are exact in any order, so that every machine agrees.
            sums = weights @ run.reshape(images, -1).astype(np.float64)
            parts.append(mean_iou(sums.reshape(-1, *run.shape[1:])))
    return np.stack([np.concatenate(parts) for parts in columns])


def _weights(images: int, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each image is in each resample, (some of the samples, images)."""
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // images)
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = rng.integers(images, size=(rows, images))
        drawn += images * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.float64)
