import numpy as np
import pytest

from pipeline.metrics.wsol import MEASURES, LocalizedPair, localization_scores

LEVELS = np.array([0.0, 0.5])
ONE_BOX = {"five_boxes": None}


def pair(rank, overlap, *, label="cat", tight=0.0, loose=0.0, largest=(0, 0), any_box=(0, 0)):
    return LocalizedPair(
        "x", label, rank, overlap, tight, loose, np.array(largest, float), np.array(any_box, float)
    )


PAIRS = [
    pair(1, 0.9, largest=(0.9, 0.4), any_box=(0.9, 0.8)),
    pair(1, 0.4, largest=(0.4, 0.6), any_box=(0.6, 0.6)),
    pair(3, 0.5, label="dog", tight=0.9, loose=0.5, largest=(0.5, 0.2), any_box=(0.5, 0.4)),
    pair(6, 0.8, label="dog", tight=0.8, loose=0.8, largest=(0.8, 0.8), any_box=(0.8, 0.8)),
]
PIXELS = np.array([[3, 0], [1, 4]])


def test_measures_by_hand():
    scores = localization_scores(PAIRS, PIXELS, LEVELS, ONE_BOX)
    assert scores["pairs"] == 4
    assert scores["top1_cls_error"] == 0.5 and scores["top5_cls_error"] == 0.25
    assert scores["top1_loc_error"] == 0.75  # the first pair alone
    assert scores["top5_loc_error"] == 0.5  # the first and the third
    assert scores["gt_known_loc"] == 0.75
    assert (scores["max_box_acc"], scores["max_box_acc_threshold"]) == (0.75, 0.0)
    # .3: all at both thresholds; .5: all at the first; .7: two (.9 and .8) at either.
    assert scores["max_box_acc_v2"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert scores["pxap"] == pytest.approx(4 / 5 + 5 / 8 / 5)
    assert scores["curve"] == [
        {"threshold": 0.0, "share": 0.75},
        {"threshold": 0.5, "share": 0.5},
    ]
    assert scores["classes"] == {
        "cat": {"pairs": 2, "gt_known_loc": 0.5},
        "dog": {"pairs": 2, "gt_known_loc": 1.0},
    }


def test_tight_and_loose_boxes_of_three_classes():
    found = [
        pair(1, 0, tight=0.9),
        pair(2, 0, loose=0.9),
        pair(3, 0, tight=0.9),
        pair(4, 1, loose=1),
    ]
    scores = localization_scores(found, PIXELS, LEVELS, {"five_boxes": {}})
    assert scores["top5_loc_error"] == 0.5


def test_perfect_maps_have_no_error():
    found = [pair(1, 1, largest=(1, 1), any_box=(1, 1))] * 3
    scores = localization_scores(found, np.array([[5, 0], [0, 5]]), LEVELS, ONE_BOX)
    assert scores["max_box_acc"] == scores["max_box_acc_v2"] == scores["pxap"] == 1
    assert scores["top1_loc_error"] == scores["top5_loc_error"] == scores["top1_cls_error"] == 0


def test_without_pairs_there_is_no_figure():
    scores = localization_scores([], np.zeros((2, 2), np.int64), LEVELS, ONE_BOX)
    assert scores["pairs"] == 0 and scores["pxap"] is None
    assert all(scores[name] is None for name in MEASURES)
    some = localization_scores(PAIRS, PIXELS, LEVELS, ONE_BOX)
    assert set(some) == set(scores)
