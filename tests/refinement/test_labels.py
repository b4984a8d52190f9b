import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import UserError
from pipeline.io.arrays import ClassMaps
from pipeline.io.images import strided_size
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.labels import (
    label_by_scores,
    labeler_of,
    scores_with_background,
    upsampled,
)

THRESHOLD = {"rule": "threshold", "value": 0.3}


def maps(values, classes, size=None):
    values = np.asarray(values, np.float16)
    return ClassMaps(np.asarray(classes, np.int64), values, size or values.shape[1:])


def plain(item, background=THRESHOLD, uncertain_below=None):
    labeling = label_by_scores(item, None, background=background, crf=None)
    return labeling.label_image(uncertain_below)


def test_a_pixel_takes_its_strongest_class_above_the_threshold():
    values = [[[0.2, 0.5, 0.4]], [[0.1, 0.2, 0.9]]]
    assert plain(maps(values, [3, 7])).tolist() == [[0, 3, 7]]


def test_ties_go_to_the_background_and_then_to_the_lower_class():
    values = [[[0.5, 0.75]], [[0.5, 0.75]]]
    assert plain(maps(values, [2, 4]), {"rule": "threshold", "value": 0.5}).tolist() == [[0, 2]]


def test_the_power_rule_by_hand():
    # (1 - 0.5) ** 2 = 0.25 < 0.5; (1 - 0.25) ** 2 = 0.5625 > 0.25
    values = [[[0.5, 0.25, 0.0]]]
    assert plain(maps(values, [1]), {"rule": "power", "value": 2}).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("rule", ["threshold", "power"])
def test_an_image_without_labels_is_all_background(rule):
    empty = maps(np.zeros((0, 2, 2)), [], (5, 7))
    label = plain(empty, {"rule": rule, "value": 0.3})
    assert label.shape == (5, 7) and label.max() == 0
    image = np.zeros((5, 7, 3), np.uint8)
    crf = CrfSettings()
    labeling = label_by_scores(empty, image, background=THRESHOLD, crf=crf)
    assert not labeling.label_image(0.9).any()


def test_cells_keep_their_place_at_the_border():
    # Two cells of 4 pixels over a width of 5: the second one's center is at 5.5, beyond the image.
    # Pixel centers .5 to 4.5 between cell centers 2 and 6: 0, 0, .125, .375, .625. Stretched over
    # the image, the cells' centers would be at 1.25 and 3.75.
    full = upsampled(maps([[[0.0, 1.0], [0.0, 1.0]]], [1], (6, 5)))
    assert full.shape == (1, 6, 5)
    assert full[0].tolist() == [[0, 0, 0.125, 0.375, 0.625]] * 6


@given(st.integers(9, 40), st.integers(9, 40), st.sampled_from([1, 2, 4, 8]))
def test_a_smaller_image_is_the_corner_of_a_larger_ones_maps(height, width, stride):
    cells = strided_size((height, width), stride)
    values = np.random.default_rng(0).random((2, *cells))
    whole = upsampled(maps(values, [1, 2], (cells[0] * stride, cells[1] * stride)))
    cut = upsampled(maps(values, [1, 2], (height, width)))
    np.testing.assert_array_equal(cut, whole[:, :height, :width])


def test_full_maps_are_used_as_they_are():
    full = np.linspace(0, 1, 30).reshape(1, 5, 6).astype(np.float16)
    item = replace(maps([[[1.0, 1.0], [1.0, 1.0]]], [1], (5, 6)), full=full)
    np.testing.assert_array_equal(upsampled(item), full.astype(np.float32))


def test_maps_of_another_layout_are_refused():
    with pytest.raises(UserError, match=r"maps are \(3, 3\), expected one cell for each k pixels"):
        upsampled(maps(np.ones((1, 3, 3)), [1], (9, 30)))


def test_upsampling_is_bilinear_between_cell_centers():
    full = upsampled(maps([[[0.0, 1.0]]], [1], (1, 4)))
    assert full[0, 0].tolist() == [0, 0.25, 0.75, 1]


@given(
    hnp.arrays(np.float32, (3, 2, 2), elements=st.floats(0, 1, width=32)),
    st.floats(0.01, 0.99),
    st.sampled_from(["threshold", "power"]),
)
def test_labels_equal_brute_force(values, value, rule):
    item = maps(values, [1, 2, 5])
    half = item.values.astype(np.float32)
    label = plain(item, {"rule": rule, "value": value})
    for place in np.ndindex(2, 2):
        strongest = half[:, *place].max()
        ground = np.float32(value) if rule == "threshold" else (1 - strongest) ** np.float32(value)
        expected = 0 if ground >= strongest else [1, 2, 5][int(half[:, *place].argmax())]
        assert label[place] == expected


def test_scores_have_the_background_first():
    scores = scores_with_background(np.full((2, 1, 1), 0.4, np.float32), "threshold", 0.3)
    assert scores[:, 0, 0].tolist() == pytest.approx([0.3, 0.4, 0.4])


def test_pixels_that_are_not_confident_become_255():
    # Normalized scores: 0.9 / 1.2 = 0.75, 0.4 / 0.7 = 0.57, background 0.3 / 0.3 = 1
    values = [[[0.9, 0.4, 0.0]]]
    assert plain(maps(values, [1]), uncertain_below=0.6).tolist() == [[1, 255, 0]]
    assert plain(maps(values, [1]), uncertain_below=None).tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("unary", ["labels", "scores"])
def test_the_crf_aligns_coarse_maps_with_the_image(unary):
    image = np.full((32, 32, 3), 30, np.uint8)
    image[8:24, 8:24] = (220, 180, 40)
    ground_truth = (image[..., 0] > 100).astype(np.uint8) * 4
    coarse = np.zeros((1, 8, 8), np.float16)
    coarse[0, 2:6, 2:6] = 0.6
    coarse[0, 3:5, 3:5] = 1.0
    item = maps(coarse, [4], (32, 32))
    crf = CrfSettings(unary=unary)
    refined = label_by_scores(item, image, background=THRESHOLD, crf=crf).label_image(None)
    assert (plain(item) != ground_truth).sum() > 0
    assert np.array_equal(refined, ground_truth)


def test_pixels_where_a_crf_contradicts_the_maps_are_uncertain():
    image = np.full((32, 32, 3), 30, np.uint8)
    image[8:24, 8:24] = (220, 180, 40)
    coarse = np.zeros((1, 8, 8), np.float16)
    coarse[0, 2:6, 2:6] = 0.6
    item = maps(coarse, [4], (32, 32))
    labeling = label_by_scores(item, image, background=THRESHOLD, crf=CrfSettings())
    refined, before = labeling.label_image(None), plain(item)
    against = refined != before
    assert against.sum() > 0 and labeling.certainty[against].min() > 0.95
    # Of two labels, the maps give more than half to the one that they lead to.
    assert np.array_equal(labeling.label_image(0.5), np.where(against, 255, refined))
    # A value of .6 against the background's .3.
    assert labeling.support[16, 16] == pytest.approx(0.6 / 0.9, abs=1e-3)


def test_zero_scores_everywhere_are_certain_background():
    label = plain(maps([[[0.0, 0.0]]], [1]), {"rule": "threshold", "value": 1e-9}, 0.9)
    assert label.tolist() == [[0, 0]]


def test_labels_are_made_without_importing_torch():
    code = (
        "import sys, pipeline.stages.make_labels, pipeline.stages.evaluate, "
        "pipeline.stages.sweep_thresholds; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_probabilities_sum_to_one_and_name_the_winner():
    item = maps([[[0.2, 0.9, 0.0]], [[0.1, 0.3, 0.0]]], [3, 7])
    labeling = label_by_scores(item, None, background=THRESHOLD, crf=None)
    assert labeling.numbers.tolist() == [0, 3, 7]
    assert labeling.probabilities.sum(axis=0) == pytest.approx(1)
    assert (labeling.probabilities.argmax(axis=0) == labeling.winners).all()
    assert labeling.certainty[0, 1] == pytest.approx(0.9 / (0.3 + 0.9 + 0.3), abs=1e-3)
    assert (labeling.initial == labeling.winners).all()


def test_the_initial_label_is_that_before_the_crf():
    rng = np.random.default_rng(0)
    image = np.zeros((12, 12, 3), np.uint8)
    image[:, 6:] = 255
    values = np.zeros((1, 12, 12))
    values[0, :, 4:] = 0.6 + 0.2 * rng.random((12, 8))
    item = maps(values, [2])
    crf = CrfSettings(iterations=5, bilateral_srgb=10)
    refined = label_by_scores(item, image, background=THRESHOLD, crf=crf)
    plain_label = label_by_scores(item, None, background=THRESHOLD, crf=None).winners
    assert (refined.initial == plain_label).all()
    assert (refined.winners != refined.initial).any()


@pytest.mark.parametrize("graph_cut", [None, {}])
def test_the_sections_of_a_refinement_select_its_labeler(graph_cut):
    image = np.random.default_rng(0).integers(0, 255, (9, 8, 3), dtype=np.uint8)
    item = maps(np.linspace(0, 1, 72).reshape(1, 9, 8), [4])
    labeling = labeler_of(THRESHOLD, None, graph_cut)(item, image)
    assert labeling.probabilities.shape == (2, 9, 8)
    assert labeling.probabilities.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert set(np.unique(labeling.label_image(None)).tolist()) <= {0, 4}
    assert (labeling.label_image(1.1) == 255).all()
