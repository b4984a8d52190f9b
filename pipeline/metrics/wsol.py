"""Scores of weakly supervised object localization, from pairs of image and class.

For images with several labels, each pair of image and labeled class counts once, and a class is
ranked among the classes that are absent from the image
(:func:`pipeline.metrics.localization.label_ranks`). For images with one label these are the
metrics of ILSVRC and of Choe et al. 2020.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.localization import (
    max_box_accuracy,
    pixel_average_precision,
    top5_overlap,
)

#: Number of bins in histograms of map values.
BINS = 1000
#: Intersection over union from which an object is localized.
MIN_IOU = 0.5
#: Intersections over union that MaxBoxAccV2 averages over.
OVERLAPS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class LocalizedPair:
    """The localization of one class of one image.

    Attributes
    ----------
    id, label : str
        Image and class.
    rank : int
        Rank of the class among the classes that are absent from the image, from 1.
    overlap, tight, loose : float
        Intersection over union of the box at the configured threshold, of a tight box and of a
        loose box.
    largest, any_box : (T,) float array
        Intersection over union at each threshold, of the box of the largest component and of the
        best box of any component.
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
    """Compute all localization scores of a split.

    Parameters
    ----------
    pairs : sequence of LocalizedPair
    pixels : (2, bins) int64 array
        Histograms of map values off and on the objects.
    thresholds : (T,) float array
        Thresholds of ``largest`` and ``any_box`` of the pairs.
    settings : mapping
        Key ``five_boxes``: whether top-5 localization uses tight and loose boxes of three classes
        instead of one box for each of five classes.

    Returns
    -------
    dict
        Scores in [0, 1]; None without pairs or without masks.
    """
    pxap = pixel_average_precision(pixels)
    if not pairs:
        return {"pairs": 0, "pxap": pxap} | dict.fromkeys(MEASURES)
    ranks = np.array([pair.rank for pair in pairs])
    known = np.array([pair.overlap for pair in pairs]) >= MIN_IOU
    largest = np.stack([pair.largest for pair in pairs])
    any_box = np.stack([pair.any_box for pair in pairs])
    best, at = max_box_accuracy(largest, MIN_IOU)
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
            for threshold, share in zip(thresholds, (largest >= MIN_IOU).mean(axis=0), strict=True)
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
    """Return for each pair whether top-5 localization finds it."""
    ranks = np.array([pair.rank for pair in pairs])
    if settings["five_boxes"] is None:
        return (ranks <= 5) & known
    overlaps = [top5_overlap({"tight": p.tight, "loose": p.loose}, p.rank) for p in pairs]
    return np.array(overlaps) >= MIN_IOU


def _by_class(
    pairs: Sequence[LocalizedPair], known: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Return the number of pairs and the GT-known Loc of each class."""
    names = sorted({pair.label for pair in pairs})
    chosen = {name: np.array([pair.label == name for pair in pairs]) for name in names}
    return {
        name: {"pairs": int(of_class.sum()), "gt_known_loc": float(known[of_class].mean())}
        for name, of_class in chosen.items()
    }
