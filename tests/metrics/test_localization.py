import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import find_objects, label
from torchvision.ops import box_iou

from pipeline.metrics.localization import (
    best_overlap,
    box_overlaps,
    component_boxes,
    localization_errors,
)


def test_boxes_of_components_by_hand():
    mask = np.array([[1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], bool)
    assert component_boxes(mask).tolist() == [[2, 1, 4, 3], [0, 0, 1, 1]]
    assert component_boxes(np.zeros((3, 4), bool)).shape == (0, 4)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_boxes_agree_with_scipy(mask):
    slices = find_objects(label(mask, np.ones((3, 3)))[0])
    expected = sorted([c.start, r.start, c.stop, r.stop] for r, c in slices)
    assert sorted(component_boxes(mask).tolist()) == expected


def test_overlaps_by_hand():
    box = np.array([[0.0, 0, 4, 2]])
    others = np.array([[0.0, 0, 4, 2], [2, 0, 6, 2], [4, 0, 6, 2], [1, 1, 2, 2], [3, 1, 3, 1]])
    assert box_overlaps(box, others).tolist() == [[1, 4 / 12, 0, 1 / 8, 0]]


@given(hnp.arrays(np.int64, (5, 4), elements=st.integers(0, 30)))
def test_overlaps_agree_with_torchvision(corners):
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), corners.max()
    boxes = np.concatenate([low, low + 1 + high], axis=1).astype(float)
    expected = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    np.testing.assert_allclose(box_overlaps(boxes, boxes), expected)


def test_the_largest_component_against_any_true_box():
    mask = np.zeros((10, 10), bool)
    mask[0:4, 0:4] = True
    mask[8, 8] = True
    true = np.array([[8.0, 8, 9, 9], [0, 0, 4, 8]])
    assert best_overlap(mask, true) == pytest.approx(0.5)
    assert best_overlap(np.zeros((10, 10), bool), true) == 0


def test_errors_are_shares_below_the_threshold():
    errors = localization_errors([0.2, 0.5, 0.6, 1.0], [0.3, 0.5, 0.7])
    assert errors == {"0.3": 0.25, "0.5": 0.25, "0.7": 0.75}
    assert localization_errors([], [0.5]) == {"0.5": None}
