import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label, regionprops
from sklearn.metrics import average_precision_score
from torchvision.ops import box_iou

from pipeline.metrics.localization import (
    best_overlap,
    box_overlaps,
    component_boxes,
    label_ranks,
    localization_errors,
    map_boxes,
    max_box_accuracy,
    pixel_average_precision,
    pixel_histograms,
    threshold_overlaps,
    top5_overlap,
)
from tests.helpers.photographs import NAMES, photograph


def test_boxes_of_components_by_hand():
    mask = np.array([[1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], bool)
    assert component_boxes(mask).tolist() == [[2, 1, 4, 3], [0, 0, 1, 1]]
    assert component_boxes(np.zeros((3, 4), bool)).shape == (0, 4)


def boxes_by_scikit_image(mask):
    """Boxes of 8-connected components, largest first, then top first, then left first."""
    regions = regionprops(label(mask, connectivity=2))
    rows = sorted((-region.num_pixels, *region.bbox) for region in regions)
    return [[left, top, right, bottom] for _, top, left, bottom, right in rows]


@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_boxes_agree_with_scikit_image(mask):
    assert component_boxes(mask).tolist() == boxes_by_scikit_image(mask)


@pytest.mark.parametrize("name", NAMES)
def test_boxes_of_a_photograph_agree_with_scikit_image(name):
    gray = photograph(name).mean(axis=2)
    for share in (0.3, 0.6, 0.9):
        mask = gray > share * gray.max()
        found = component_boxes(mask).tolist()
        assert len(found) > 1 and found == boxes_by_scikit_image(mask)


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


STAIRS = np.array(
    [[0.0, 0, 0, 0, 0.9], [0, 0.5, 1.0, 0, 0], [0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.2]]
)


def test_the_box_of_a_map_is_around_what_is_above_the_threshold():
    assert map_boxes(STAIRS, 0.4).tolist() == [[1, 1, 3, 3], [4, 0, 5, 1]]
    assert map_boxes(STAIRS, 0.5).tolist() == [[4, 0, 5, 1], [2, 1, 3, 2]]  # above, not at
    assert map_boxes(STAIRS, 0.0)[0].tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("factor", [0.1, 1.0, 30.0])
def test_the_threshold_is_a_share_of_the_maximum(factor):
    assert map_boxes(factor * STAIRS, 0.4).tolist() == map_boxes(STAIRS, 0.4).tolist()


def test_a_map_of_zeros_has_no_box_and_one_of_ties_is_one_box():
    assert map_boxes(np.zeros((3, 4)), 0.2).shape == (0, 4)
    assert map_boxes(np.full((3, 4), 0.7), 0.2).tolist() == [[0, 0, 4, 3]]
    assert threshold_overlaps(np.zeros((3, 4)), np.array([[0.0, 0, 4, 3]]), [0, 0.5]).tolist() == [
        [0, 0],
        [0, 0],
    ]


def test_a_nan_is_refused():
    broken = STAIRS.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 20 values are NaN"):
        map_boxes(broken, 0.2)
    with pytest.raises(ValueError, match="NaN"):
        pixel_histograms(broken, broken > 0, broken >= 0, 10)
    with pytest.raises(ValueError, match="NaN"):
        label_ranks(np.array([0.0, np.nan]), [0])


@given(
    hnp.arrays(np.float64, (6, 7), elements=st.integers(0, 8).map(float)),
    st.sampled_from([0.0, 0.2, 0.5, 0.9]),
)
def test_mirroring_a_map_mirrors_its_boxes(values, threshold):
    boxes = map_boxes(values, threshold)
    mirrored = map_boxes(values[:, ::-1], threshold)
    back = np.stack([7 - mirrored[:, 2], mirrored[:, 1], 7 - mirrored[:, 0], mirrored[:, 3]], 1)
    assert sorted(back.tolist()) == sorted(boxes.tolist())


@given(hnp.arrays(np.float64, (4, 5), elements=st.integers(0, 5).map(float)))
def test_enlarging_a_map_enlarges_its_boxes(values):
    twice = values.repeat(2, axis=0).repeat(2, axis=1)
    assert sorted(map_boxes(twice, 0.3).tolist()) == sorted((2 * map_boxes(values, 0.3)).tolist())


def test_overlaps_of_the_largest_and_of_any_component():
    true = np.array([[4.0, 0, 5, 1], [0, 0, 1, 1]])
    overlaps = threshold_overlaps(STAIRS, true, [0.4, 0.5, 0.95])
    assert overlaps.tolist() == [[0, 1, 0], [1, 1, 0]]  # .5: two of one pixel, the upper one first


def test_max_box_accuracy_is_that_of_the_best_threshold():
    overlaps = np.array([[0.5, 0.6, 0.1], [0.2, 0.7, 0.9], [0.4, 0.1, 0.9]])
    assert max_box_accuracy(overlaps, 0.5) == (2 / 3, 1)
    assert max_box_accuracy(overlaps, 0.3) == (2 / 3, 0)
    assert max_box_accuracy(overlaps, 0.95) == (0.0, 0)


def test_ranks_by_hand():
    scores = np.array([0.1, 3.0, -1.0, 2.0, 0.5])
    assert label_ranks(scores, [1]).tolist() == [1]
    assert label_ranks(scores, [2]).tolist() == [5]
    # Neither of two labels stands in the other's way.
    assert label_ranks(scores, [1, 3]).tolist() == [1, 1]
    assert label_ranks(scores, [3, 0]).tolist() == [2, 3]
    assert label_ranks(np.zeros(3), [1]).tolist() == [3]  # of ties the label comes last
    assert label_ranks(scores, []).tolist() == []


@given(hnp.arrays(np.float64, 6, elements=st.floats(-5, 5), unique=True), st.integers(0, 5))
def test_the_rank_of_a_single_label_is_its_place_among_all(scores, label):
    assert label_ranks(scores, [label]).tolist() == [1 + np.argsort(-scores).tolist().index(label)]


@pytest.mark.parametrize(("rank", "best"), [(1, 0.6), (2, 0.6), (3, 0.4), (4, 0.0), (9, 0.0)])
def test_five_boxes_are_two_two_and_one(rank, best):
    assert top5_overlap({"tight": 0.6, "loose": 0.4}, rank) == best


PERFECT = np.array([[1, 1, 0], [1, 0, 0]], bool)


def precision_of(values, ground_truth, scored=None):
    everywhere = np.ones(ground_truth.shape, bool) if scored is None else scored
    return pixel_average_precision(pixel_histograms(values, ground_truth, everywhere, 1000))


def test_pixel_precision_of_known_maps():
    assert precision_of(PERFECT.astype(float), PERFECT) == 1
    assert precision_of(np.zeros((2, 3)), PERFECT) == 0.5  # all pixels at once: half are right
    assert precision_of(np.ones((2, 3)), PERFECT) == 0.5
    assert precision_of(1.0 - PERFECT, PERFECT) == 0.5  # the object comes last, with all others
    assert precision_of(np.ones((2, 3)), np.zeros((2, 3), bool)) is None


def test_half_an_object_found_first():
    values = np.array([[1.0, 0.2, 0.2], [0.2, 0.2, 0.2]])
    assert precision_of(values, PERFECT) == pytest.approx(1 / 3 * 1 + 2 / 3 * 0.5)


def test_pixels_that_do_not_count_do_not():
    values = np.array([[1.0, 0.9, 0.8], [0.1, 0.2, 0.3]])
    scored = np.array([[True, True, False], [True, True, True]])
    changed = np.where(scored, values, 0.0)
    assert precision_of(values, PERFECT, scored) == precision_of(changed, PERFECT, scored)


@given(
    hnp.arrays(np.int64, (5, 6), elements=st.integers(0, 999)),
    hnp.arrays(bool, (5, 6)).filter(np.any),
)
def test_pixel_precision_is_average_precision(levels, ground_truth):
    values = (levels + 0.5) / 1000  # inside a bin each, so that counting in bins loses nothing
    expected = average_precision_score(ground_truth.ravel(), values.ravel())
    assert precision_of(values, ground_truth) == pytest.approx(expected)


def test_histograms_add_up():
    draw = np.random.default_rng(0)
    values, ground_truth = draw.random((8, 9)), draw.random((8, 9)) < 0.3
    everywhere = np.ones((8, 9), bool)
    whole = pixel_histograms(values, ground_truth, everywhere, 50)
    parts = [
        pixel_histograms(values[r], ground_truth[r], everywhere[r], 50)
        for r in (slice(3), slice(3, 8))
    ]
    assert np.array_equal(whole, sum(parts))
    assert whole.sum() == 72 and whole[1].sum() == ground_truth.sum()
