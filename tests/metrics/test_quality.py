import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.metrics.quality import doubts, rank_correlation

NAN = np.nan


def test_doubt_is_one_minus_the_mean_relative_rank():
    figures = np.array([[0.9, 0.5], [0.1, 0.5], [0.5, NAN], [NAN, NAN]])
    # First column: ranks 3, 1, 2 of 3, their middles 5/6, 1/6, 1/2; second: 1.5 of 2, twice.
    expected = [1 - (5 / 6 + 1 / 2) / 2, 1 - (1 / 6 + 1 / 2) / 2, 1 / 2, NAN]
    assert doubts(figures) == pytest.approx(expected, nan_ok=True)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.just(3)), elements=st.floats(0, 1)),
    st.sampled_from([np.exp, np.sqrt, lambda x: 3 * x + 1]),
)
def test_only_the_order_of_a_figure_counts(figures, rising):
    scaled = figures.copy()
    scaled[:, 1] = np.round(scaled[:, 1], 3)
    risen = scaled.copy()
    risen[:, 1] = rising(scaled[:, 1])
    assert doubts(risen) == pytest.approx(doubts(scaled))
    assert (doubts(figures) > 0).all() and (doubts(figures) < 1).all()


def test_a_better_image_is_doubted_less():
    order = doubts(np.array([[0.1, 0.2], [0.5, 0.6], [0.8, 0.7]]))
    assert (np.diff(order) < 0).all()


def test_the_rank_correlation_by_hand():
    # Differences of ranks 0, 1, -1, 0: 1 - 6 * 2 / (4 * 15)
    first, second = np.array([1.0, 2, 3, 4, NAN]), np.array([10.0, 30, 20, 40, 5])
    assert rank_correlation(first, second) == pytest.approx(0.8)
    assert rank_correlation(first, -second) == pytest.approx(-0.8)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, NAN, 2, 3], [NAN, 1, 2, 3]), ([], [])],
)
def test_too_few_pairs_or_a_constant_have_no_correlation(first, second):
    assert rank_correlation(np.array(first, float), np.array(second, float)) is None
