"""Votes within regions: the pixels of each superpixel or mask choose its label.

A region is stored as runs of pixels. Its sum is computed from cumulative sums at the ends of its
runs, so thousands of overlapping masks take little longer than a few. All sums are of whole numbers
below 2 ** 53 and therefore exact: results do not depend on the order of the pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.regions import Regions

#: Parts that a probability of 1 is divided into.
UNIT = 2.0**24

Maps = NDArray[np.float32]
Positions = NDArray[np.intp]


@dataclass(frozen=True)
class RegionSettings:
    """Settings of a vote: the keys of a refinement's ``regions`` section except ``source``.

    Attributes
    ----------
    rule : {"majority", "mean", "overlap"}
        Majority of the labels, mean of the probabilities, or assignment of regions to classes
        (Chen et al. 2023, arXiv 2305.05803).
    when : {"before-crf", "after-crf", "both"}
        Whether the vote changes the input of the dense CRF, its result, or both.
    min_share : float
        Rule ``overlap``: a region is assigned to its most frequent class if more than this share
        of its pixels has that class.
    min_coverage : float
        Rule ``overlap``: a region is also assigned to its most frequent class if it contains at
        least this share of all pixels of that class.
    unclaimed : {"keep", "background"}
        Rule ``overlap``: label of pixels that are only in regions without a class.
    """

    rule: str = "majority"
    when: str = "after-crf"
    min_share: float = 0.5
    min_coverage: float = 0.85
    unclaimed: str = "keep"

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> "RegionSettings":
        """Create the settings from a ``regions`` section of a refinement."""
        return cls(**{key: value for key, value in section.items() if key != "source"})

    @property
    def before_crf(self) -> bool:
        """Whether regions vote before the dense CRF."""
        return self.when in {"before-crf", "both"}

    @property
    def after_crf(self) -> bool:
        """Whether regions vote after the dense CRF."""
        return self.when in {"after-crf", "both"}


def vote(
    winners: Positions, probabilities: Maps, regions: Regions, settings: RegionSettings
) -> tuple[Positions, Maps]:
    """Label the pixels of regions by a vote within each region.

    Parameters
    ----------
    winners : (H, W) integer array
        Positions of the labels of all pixels; not changed.
    probabilities : (L, H, W) float32 array
        Probabilities of the labels, the background first, which sum to 1; not changed.
    regions : Regions
        Of the same image.
    settings : RegionSettings

    Returns
    -------
    winners : (H, W) integer array
    probabilities : (L, H, W) float32 array
        Pixels in no region keep both. With several regions at a pixel, the rules ``majority`` and
        ``mean`` average over them. Ties go to the background, then to the lower class number.
    """
    if len(probabilities) == 1 or not len(regions):
        return winners, probabilities
    if settings.rule == "overlap":
        voted, decided = _assigned(winners, len(probabilities), regions, settings)
    else:
        majority = settings.rule == "majority"
        voted = _one_hot(winners, len(probabilities)) if majority else probabilities
        voted, decided = _averaged(voted, regions)
    chosen = np.where(decided, voted.argmax(axis=0), winners)
    return chosen, np.where(decided, voted, probabilities).astype(np.float32)


def region_sums(values: NDArray[np.float64], regions: Regions) -> NDArray[np.float64]:
    """Sum (L, P) values over the pixels of R regions, to (L, R).

    Parameters
    ----------
    values : (L, P) float64 array
        Whole numbers, with pixels column by column.
    regions : Regions
        At least one.
    """
    sums = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
    runs = sums[:, regions.starts + regions.lengths] - sums[:, regions.starts]
    return np.add.reduceat(runs, regions.offsets, axis=1)


def sums_at_pixels(values: NDArray[np.float64], regions: Regions) -> NDArray[np.float64]:
    """Sum (L, R) values over the regions that contain each of P pixels, to (L, P).

    Parameters
    ----------
    values : (L, R) float64 array
        Whole numbers.
    regions : Regions
    """
    count = regions.size[0] * regions.size[1]
    ends = regions.starts + regions.lengths
    sums = np.empty((len(values), count))
    for position, of_runs in enumerate(np.repeat(values, regions.counts, axis=1)):
        begun = np.bincount(regions.starts, of_runs, count + 1)
        ended = np.bincount(ends, of_runs, count + 1)
        sums[position] = np.cumsum(begun - ended)[:-1]
    return sums


def pixels_of(regions: Regions, chosen: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """List the pixels of some regions, one region after another, as positions column by column."""
    ends = np.cumsum(regions.counts)
    first = np.repeat(ends[chosen] - regions.counts[chosen], regions.counts[chosen])
    runs = first + _within(regions.counts[chosen])
    lengths = regions.lengths[runs]
    return np.repeat(regions.starts[runs], lengths) + _within(lengths)


def _within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count from 0 within each of several groups: [2, 3] gives [0, 1, 0, 1, 2]."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) - np.repeat(before, counts)


def _averaged(probabilities: Maps, regions: Regions) -> tuple[Maps, NDArray[np.bool_]]:
    """Average over each region, then over the regions at each pixel; also return where they are."""
    parts = np.rint(_columns(probabilities).astype(np.float64) * UNIT)
    shares = np.rint(region_sums(parts, regions) / regions.areas)
    sums = sums_at_pixels(shares, regions)
    total = sums.sum(axis=0)
    found = _rows(sums / np.where(total > 0, total, 1), regions.size)
    return found.astype(np.float32), _covered(regions)


def _assigned(
    winners: Positions, labels: int, regions: Regions, settings: RegionSettings
) -> tuple[Maps, NDArray[np.bool_]]:
    """Assign regions to classes; also return which pixels this decides.

    Where regions of several classes overlap, the smallest region decides, then the first.
    """
    of_pixels = _columns(_one_hot(winners, labels)).astype(np.float64)[1:]
    overlaps = region_sums(of_pixels, regions)
    best, most = overlaps.argmax(axis=0), overlaps.max(axis=0)
    present = of_pixels.sum(axis=1)[best]
    enough = most > settings.min_share * regions.areas
    enough |= most >= settings.min_coverage * present
    claimed = np.flatnonzero(enough & (most > 0))
    # Of several values for a pixel, NumPy assigns the last.
    by_size = claimed[np.argsort(regions.areas[claimed], kind="stable")][::-1]
    pixels = pixels_of(regions, by_size)
    label = np.zeros(of_pixels.shape[1], np.intp)
    label[pixels] = np.repeat(best[by_size] + 1, regions.areas[by_size])
    decided = label > 0
    assigned = _rows(label[None], regions.size)[0]
    mask = _rows(decided[None], regions.size)[0]
    if settings.unclaimed == "background":
        mask |= _covered(regions)
    return _one_hot(assigned, labels), mask


def _covered(regions: Regions) -> NDArray[np.bool_]:
    """Return the (H, W) mask of pixels in a region."""
    covered: NDArray[np.bool_] = _rows(
        sums_at_pixels(np.ones((1, len(regions))), regions), regions.size
    )[0]
    return covered > 0


def _one_hot(winners: Positions, labels: int) -> Maps:
    found: Maps = (winners[None] == np.arange(labels)[:, None, None]).astype(np.float32)
    return found


def _columns(values: NDArray[Any]) -> NDArray[Any]:
    """Flatten (L, H, W) values column by column, to (L, P)."""
    return values.transpose(0, 2, 1).reshape(len(values), -1)


def _rows(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return (L, P) values as (L, H, W); the opposite of :func:`_columns`."""
    height, width = size
    return np.ascontiguousarray(values.reshape(len(values), width, height).transpose(0, 2, 1))
