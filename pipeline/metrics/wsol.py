"""The scores of weakly supervised localization, from (image, class) pairs.

On images with several labels every (image, labeled class) pair counts once, and the rank of a
class is taken among the classes that the image lacks
(:func:`pipeline.metrics.localization.label_ranks`). On images with one label these are the
measures of ILSVRC and of Choe et al. 2020.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.localization import (
    guess_overlap,
    max_box_accuracy,
    pixel_average_precision,
)

#: Intervals of map values that pixels are counted in.
BINS = 1000
#: Intersection over union from which on an object counts as found.
FOUND = 0.5
#: Those that MaxBoxAccV2 is a mean of.
OVERLAPS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class LocalizedPair:
    """How well one class of one image was found.

    Attributes
    ----------
    id, label : str
        Image and class.
    rank : int
        Of the class among the classes that the image lacks, from 1.
    overlap, tight, loose : float
        Intersection over union of the box at the configured threshold, and of a tight and a
        loose one.
    largest, any_box : (T,) float array
        Those of the largest component's box, and of any component's, at each threshold.
    """

    id: str
    label: str
    rank: int
    overlap: float
    tight: float
    loose: float
    largest: NDArray[np.float64]
    any_box: NDArray[np.float64]


def localization_scores(
    pairs: Sequence[LocalizedPair],
    pixels: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Give every measure of localization of a split.

    Parameters
    ----------
    pairs : sequence of LocalizedPair
    pixels : (2, bins) int64 array
        Histograms of map values off and on the objects.
    thresholds : (T,) float array
        Those that the pairs' overlaps belong to.
    settings : mapping
        Key ``five_boxes``: whether top-5 localization has tight and loose boxes of three
        classes instead of one box of five.

    Returns
    -------
    dict
        Shares in [0, 1]; None where there are no pairs or no masks.
    """
    pxap = pixel_average_precision(pixels)
    if not pairs:
        return {"pairs": 0, "pxap": pxap} | dict.fromkeys(MEASURES)
    ranks = np.array([pair.rank for pair in pairs])
    known = np.array([pair.overlap for pair in pairs]) >= FOUND
    largest = np.stack([pair.largest for pair in pairs])
    any_box = np.stack([pair.any_box for pair in pairs])
    best, at = max_box_accuracy(largest, FOUND)
    return {
        "pairs": len(pairs),
        "top1_cls_error": float((ranks > 1).mean()),
        "top5_cls_error": float((ranks > 5).mean()),
        "top1_loc_error": 1 - float(((ranks == 1) & known).mean()),
        "top5_loc_error": 1 - float(_found_in_five(pairs, known, settings).mean()),
        "gt_known_loc": float(known.mean()),
        "max_box_acc": best,
        "max_box_acc_threshold": float(thresholds[at]),
        "max_box_acc_v2": float(np.mean([max_box_accuracy(any_box, o)[0] for o in OVERLAPS])),
        "pxap": pxap,
        "curve": [
            {"threshold": float(threshold), "share": float(share)}
            for threshold, share in zip(thresholds, (largest >= FOUND).mean(axis=0), strict=True)
        ],
        "classes": _by_class(pairs, known),
    }


MEASURES = (
    "top1_cls_error", "top5_cls_error", "top1_loc_error", "top5_loc_error", "gt_known_loc",
    "max_box_acc", "max_box_acc_threshold", "max_box_acc_v2", "curve", "classes",
)  # fmt: skip


def _found_in_five(
    pairs: Sequence[LocalizedPair], known: NDArray[np.bool_], settings: Mapping[str, Any]
) -> NDArray[np.bool_]:
    ranks = np.array([pair.rank for pair in pairs])
    if settings["five_boxes"] is None:
        return (ranks <= 5) & known
    guesses = [guess_overlap({"tight": p.tight, "loose": p.loose}, p.rank) for p in pairs]
    return np.array(guesses) >= FOUND


def _by_class(
    pairs: Sequence[LocalizedPair], known: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    names = sorted({pair.label for pair in pairs})
    chosen = {name: np.array([pair.label == name for pair in pairs]) for name in names}
    return {
        name: {"pairs": int(own.sum()), "gt_known_loc": float(known[own].mean())}
        for name, own in chosen.items()
    }
