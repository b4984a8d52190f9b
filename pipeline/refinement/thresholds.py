"""Label-free background thresholds, computed from the class maps of a whole split."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.io.arrays import ClassMaps
from pipeline.io.files import damaged
from pipeline.io.tables import NUMBER, read_document

#: Number of bins of the histogram over [0, 1], finer than thresholds need to be.
BINS = 1000
CENTERS = (np.arange(BINS) + 0.5) / BINS

Histogram = NDArray[np.float64]


def mean_value(histogram: Histogram) -> float:
    """Return the mean of the values; pixels with an average score are background."""
    return float((histogram * CENTERS).sum() / histogram.sum())


def otsu(histogram: Histogram) -> float:
    """Return the threshold with the largest variance between its two classes (Otsu 1979)."""
    # skimage.filters.threshold_otsu computes in float32 and returns the lower end of a gap.
    below = histogram.cumsum()
    total, sums = below[-1], (histogram * CENTERS).cumsum()
    between = (sums[-1] * below - sums * total) ** 2
    spread = below * (total - below)
    variance = np.divide(between, spread, out=np.zeros(BINS), where=spread > 0)
    best = np.flatnonzero(variance == variance.max())
    return float(CENTERS[best].mean())  # all thresholds in a gap have the same variance


#: Rules by their name in the configuration.
RULES: dict[str, Callable[[Histogram], float]] = {"mean": mean_value, "otsu": otsu}


def choose_thresholds(maps: Iterable[ClassMaps]) -> dict[str, float]:
    """Compute a background threshold with each of :data:`RULES`.

    Parameters
    ----------
    maps : iterable of ClassMaps
        Maps of all images, in [0, 1]. The histogram counts the value of the strongest class at
        each cell. All images with a class have the same weight.

    Returns
    -------
    dict of str to float
        Threshold in (0, 1) by rule.

    Raises
    ------
    UserError
        If no image has a class, or if all maps are 0 everywhere.
    """
    histogram, highest = np.zeros(BINS), 0.0
    for item in maps:
        if len(item.classes):
            highest = max(highest, float(item.values.max()))
            strongest = item.values.max(axis=0).astype(np.float64).ravel()
            places = np.minimum((strongest * BINS).astype(np.intp), BINS - 1)
            histogram += np.bincount(places, minlength=BINS) / places.size
    if not histogram.any():
        raise UserError("no image has a label, so no background threshold can be chosen")
    if highest <= 0:
        raise UserError(
            "the class maps of all images are 0 everywhere, expected some above 0: the network "
            "found no evidence for any class; train it longer, or with a lower learning rate"
        )
    return {name: rule(histogram) for name, rule in RULES.items()}


def chosen_threshold(path: Path, rule: str) -> float:
    """Read the threshold of a rule from a file that the stage ``choose_threshold`` wrote.

    Raises
    ------
    UserError
        If the file is damaged, or has no threshold in [0, 1] of this rule.
    """
    thresholds = read_document(path, {"thresholds": dict})["thresholds"]
    value = thresholds.get(rule)
    if not isinstance(value, NUMBER) or not 0 <= value <= 1:
        reason = f"the threshold of {rule} is {value!r}, expected a number in [0, 1]"
        raise damaged(path, "file of thresholds", reason)
    return float(value)


def resolved_background(background: Mapping[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Replace the name of a rule by its threshold, if there is a file of thresholds."""
    resolved = dict(background)
    if files:
        resolved["value"] = chosen_threshold(files[0], background["value"])
    return resolved
