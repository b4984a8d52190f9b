import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.color import rgb2gray
from skimage.filters import threshold_otsu

from pipeline.errors import UserError
from pipeline.io.arrays import ClassMaps
from pipeline.io.tables import write_json
from pipeline.refinement.thresholds import (
    BINS,
    CENTERS,
    choose_thresholds,
    chosen_threshold,
    otsu,
    resolved_background,
)
from tests.helpers.photographs import NAMES, photograph


def maps(values):
    values = np.asarray(values, np.float16)
    return ClassMaps(np.arange(1, len(values) + 1), values, values.shape[1:])


def brute_force(histogram):
    """Otsu's criterion by its definition, for every way to part the bins in two."""
    shares = histogram / histogram.sum()
    best, chosen = -1.0, []
    for k in range(1, BINS):
        low, high = shares[:k].sum(), shares[k:].sum()
        if low > 0 and high > 0:
            gap = (shares[:k] @ CENTERS[:k]) / low - (shares[k:] @ CENTERS[k:]) / high
            variance = low * high * gap**2
            if variance > best + 1e-12:
                best, chosen = variance, []
            if variance > best - 1e-12:
                chosen.append(CENTERS[k - 1])
    return np.mean(chosen)


def test_the_mean_is_that_of_the_strongest_class_with_images_of_equal_weight():
    first = maps([[[0.5, 0.0]], [[0.25, 0.25]]])  # strongest 0.5 and 0.25
    second = maps([[[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]])
    chosen = choose_thresholds([first, maps(np.zeros((0, 2, 2))), second])
    assert chosen["mean"] == pytest.approx((0.375 + 0.125) / 2, abs=1 / BINS)


def test_otsu_parts_two_groups_in_the_middle_of_their_gap():
    chosen = choose_thresholds([maps([[[0.1, 0.12, 0.8, 0.82]]])])
    assert chosen["otsu"] == pytest.approx((0.12 + 0.8) / 2, abs=2 / BINS)


@given(hnp.arrays(np.float64, BINS, elements=st.sampled_from([0.0, 0.0, 1.0, 2.0])))
def test_otsu_is_the_best_of_all_partings(histogram):
    if np.count_nonzero(histogram) > 1:
        assert otsu(histogram) == pytest.approx(brute_force(histogram), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_otsu_of_a_photograph_is_that_of_scikit_image(name):
    gray = rgb2gray(photograph(name)) * (1 - 1e-6)
    histogram = np.bincount((gray * BINS).astype(int).ravel(), minlength=BINS).astype(float)
    # Only where bins are empty do they differ: scikit-image returns the lower end of a gap.
    expected = threshold_otsu(hist=(histogram, CENTERS))
    assert otsu(histogram) == pytest.approx(expected, abs=1 / BINS)


@given(hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1, width=16)))
def test_any_maps_have_thresholds_that_labels_can_be_made_with(values):
    if not values.any():
        with pytest.raises(UserError, match="class maps of all images are 0 everywhere, expected"):
            choose_thresholds([maps(values)])
        return
    for threshold in choose_thresholds([maps(values)]).values():
        assert 0 < threshold < 1


def test_maps_of_no_labeled_image_are_refused():
    with pytest.raises(UserError, match="no image has a label"):
        choose_thresholds([maps(np.zeros((0, 2, 2)))])


def test_a_rules_name_becomes_its_number(tmp_path):
    file = tmp_path / "t.json"
    write_json(file, {"method": "a/b", "thresholds": {"mean": 0.25, "otsu": 0.5}})
    assert chosen_threshold(file, "otsu") == 0.5
    background = {"rule": "threshold", "value": "mean"}
    assert resolved_background(background, [file]) == {"rule": "threshold", "value": 0.25}
    assert background["value"] == "mean"
    assert resolved_background({"rule": "power", "value": 3}, []) == {"rule": "power", "value": 3}
