import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.training.class_balance import class_weights, count_pixels

COUNTS = arrays(np.int64, st.integers(2, 6), elements=st.integers(0, 10**9))


def test_uncertain_pixels_are_not_counted():
    labels = [np.array([[0, 0, 2], [255, 2, 1]], np.uint8), np.array([[2, 255]], np.uint8)]
    assert count_pixels(labels, 4).tolist() == [2, 1, 3, 0]


def test_weights_by_hand():
    # Shares of the foreground 1/16 and 15/16, their roots 1/4 and .968; the mean is to be 1.
    roots = np.array([1 / 4, np.sqrt(15 / 16)])
    expected = [1, *(1 / roots / roots.sum())]
    np.testing.assert_allclose(class_weights(np.array([700, 1, 15]), 0.5), expected, rtol=1e-6)


@given(counts=COUNTS, power=st.floats(0, 1))
def test_background_and_foreground_keep_their_total_weights(counts, power):
    weights = class_weights(counts, power)
    assert weights[0] == 1 and np.isfinite(weights).all()
    assert (weights[counts == 0] == 1).all()
    foreground = counts[1:].sum()
    assert (weights[1:] * counts[1:].astype(float)).sum() == pytest.approx(foreground, rel=1e-5)


@given(counts=COUNTS, power=st.floats(0, 1))
def test_the_rarer_a_class_the_heavier_its_pixels(counts, power):
    seen = np.flatnonzero(counts[1:]) + 1
    order = seen[np.argsort(counts[seen])]
    weights = class_weights(counts, power)[order]
    assert (weights[:-1] >= weights[1:] * (1 - 1e-6)).all()


@given(counts=COUNTS)
def test_the_ends_weigh_all_pixels_and_all_classes_alike(counts):
    assert (class_weights(counts, 0) == 1).all()
    say = (class_weights(counts, 1).astype(float) * counts)[1:][counts[1:] > 0]
    np.testing.assert_allclose(say, np.full(len(say), counts[1:].sum() / max(1, len(say))), 1e-5)
