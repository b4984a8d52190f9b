import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.metrics.agreement import label_agreement, map_agreement

LABELS = hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 7, 255]))


def test_the_agreement_of_labels_by_hand():
    first = np.array([[0, 0, 1, 1, 2, 255]], np.uint8)
    second = np.array([[0, 1, 1, 1, 255, 3]], np.uint8)
    # 0: one of two; 1: two of three; 2 and 3 stand beside uncertain pixels only.
    assert label_agreement(first, second) == pytest.approx((1 / 2 + 2 / 3) / 2)


@given(LABELS, LABELS)
def test_agreement_is_symmetric_and_one_only_where_nothing_differs(first, second):
    value = label_agreement(first, second)
    assert np.array_equal(value, label_agreement(second, first), equal_nan=True)
    known = (first != 255) & (second != 255)
    if not known.any():
        assert np.isnan(value)
    else:
        assert 0 <= value <= 1
        assert (value == 1) == np.array_equal(first[known], second[known])


def test_labels_of_two_sizes_are_an_error():
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(2, 1\), expected equal sizes"):
        label_agreement(np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8))


def test_the_agreement_of_maps_by_hand():
    views = np.zeros((2, 3, 1, 2))
    views[:, 0] = [[[2.0, 1.0]], [[4.0, 2.0]]]  # the same but for its scale
    views[:, 1] = [[[1.0, 0.0]], [[0.0, 1.0]]]  # mean 1/2 everywhere: 1/2 over 3/2, twice
    assert map_agreement(views).tolist() == pytest.approx([1, 1 / 3, 0])


def test_no_class_has_no_agreement():
    assert map_agreement(np.zeros((3, 0, 2, 2))).shape == (0,)


@given(
    hnp.arrays(np.float32, (3, 2, 2, 3), elements=st.floats(0, 1, width=16)),
    st.permutations(range(3)),
)
def test_the_order_of_views_does_not_matter_and_one_view_agrees_with_itself(views, order):
    together = map_agreement(views)
    assert together == pytest.approx(map_agreement(views[list(order)]), abs=1e-6)
    assert (together >= 0).all() and (together <= 1 + 1e-6).all()
    alone = map_agreement(views[:1])
    assert alone == pytest.approx(views[0].any(axis=(1, 2)).astype(float), abs=1e-6)
