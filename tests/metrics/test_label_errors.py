"""Possible errors of image-level labels, against thresholds by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.metrics.label_error_table import (
    COLUMNS,
    SPLITS,
    read_label_errors,
    write_label_errors,
)
from pipeline.metrics.label_errors import (
    KINDS,
    LabelError,
    class_thresholds,
    confident_errors,
    judged_classes,
    rank_label_errors,
)

IDS, CLASSES = ["a", "b", "c", "d"], ["cat", "dog"]
TARGETS = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
#: Of cat, image b is labeled but not believed. Of dog, image a is believed but not labeled.
P = np.array([[0.9, 0.9], [0.1, 0.2], [0.3, 0.8], [0.1, 0.6]])


def test_thresholds_are_mean_probabilities_of_the_labels():
    present, absent = class_thresholds(P, TARGETS)
    np.testing.assert_allclose(present, [(0.9 + 0.1) / 2, (0.8 + 0.6) / 2])
    np.testing.assert_allclose(absent, [(0.7 + 0.9) / 2, (0.1 + 0.8) / 2])


def test_pairs_that_reach_the_other_label_s_threshold_are_errors():
    found = rank_label_errors(P, TARGETS, IDS, CLASSES, "train")
    assert [(e.image, e.label, e.kind, e.rank) for e in found] == [
        ("b", "cat", "wrong", 1),
        ("a", "dog", "missing", 1),
    ]
    np.testing.assert_allclose([e.score for e in found], [0.9, 0.9])
    np.testing.assert_allclose([e.threshold for e in found], [0.8, 0.7])


def test_of_two_labels_that_reach_their_thresholds_the_more_probable_counts():
    # The first image reaches both thresholds with p = .5, the fourth with p = .4: the given label
    # is at least as probable, so neither is an error.
    p, targets = np.array([[0.5], [0.2], [0.2], [0.4], [0.6]]), np.array([[1], [1], [1], [0], [0]])
    present, absent = class_thresholds(p, targets)
    np.testing.assert_allclose([present[0], absent[0]], [0.3, 0.5])
    assert confident_errors(p, targets)[:, 0].tolist() == [False, True, True, False, True]


def test_the_most_probable_error_is_first_and_ties_are_by_name():
    p = np.array([[0.9], [0.9], [0.05], [0.1], [0.1], [0.2], [0.2], [0.2]])
    targets = np.array([[1], [1], [1], [1], [1], [0], [0], [0]])
    found = rank_label_errors(p, targets, ["h", "g", "f", "e", "d", "c", "b", "a"], ["cat"], "val")
    assert {error.split for error in found} == {"val"}
    assert [error.image for error in found] == ["f", "d", "e"]  # absence has the threshold .8


@given(st.data())
def test_images_in_another_order_have_the_same_errors_and_inputs_stay(data):
    count = data.draw(st.integers(2, 8))
    steps = st.lists(st.integers(0, 20), min_size=2 * count, max_size=2 * count)
    # Sums of multiples of 1/32 do not depend on their order.
    p = np.array(data.draw(steps)).reshape(count, 2) / 32
    bits = st.lists(st.booleans(), min_size=2 * count, max_size=2 * count)
    targets = np.array(data.draw(bits)).reshape(count, 2).astype(np.float32)
    ids = [f"i{number}" for number in range(count)]
    order = data.draw(st.permutations(range(count)))
    before = p.copy(), targets.copy()
    found = rank_label_errors(p, targets, ids, CLASSES, "train")
    moved = rank_label_errors(p[order], targets[order], [ids[i] for i in order], CLASSES, "train")
    assert found == moved
    assert np.array_equal(p, before[0]) and np.array_equal(targets, before[1])
    for error in found:
        row, column = ids.index(error.image), CLASSES.index(error.label)
        assert (error.kind == "wrong") == bool(targets[row, column])
        assert error.score >= error.threshold


@pytest.mark.parametrize(
    ("labels", "judged"), [([0, 0, 0, 0], 0), ([1, 0, 0, 0], 0), ([1, 1, 0, 0], 1), ([1] * 4, 0)]
)
def test_a_class_needs_images_with_and_without_it_for_each_fold(labels, judged):
    assert judged_classes(np.array(labels)[:, None], folds=2).tolist() == [bool(judged)]


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5)
SHARES = st.integers(0, 1000).map(lambda number: number / 1000)


ROWS = st.tuples(NAMES, NAMES, st.sampled_from(KINDS), SHARES, SHARES, st.sampled_from(SPLITS))


@given(rows=st.lists(ROWS, max_size=5))
def test_a_table_is_read_as_it_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("errors") / "table.csv"
    errors = [
        LabelError(*row[:5], 1 + sum(o[2::3] == row[2::3] for o in rows[:index]), row[5])
        for index, row in enumerate(rows)
    ]
    write_label_errors(path, errors)
    assert read_label_errors(path) == errors


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,train,cat,odd,0.9,0.5,1", "row 2, kind is 'odd', expected wrong or missing"),
        ("a,train,cat,wrong,much,0.5,1", "row 2: could not convert string to float: 'much'"),
        ("a,train,cat,wrong,1.5,0.5,1", "row 2, score is 1.5 and threshold 0.5, expected 0 to 1"),
        ("a,train,cat,wrong,nan,0.5,1", "row 2, score is nan"),
        ("a,train,cat,wrong,0.9,0.5,2", "ranks of kind 'wrong' in train do not count from 1 to 1"),
        ("a,train,cat,wrong,0.9,0.5", "row 2 has 6 cells, expected 7"),
        ("a,test,cat,wrong,0.9,0.5,1", "row 2, split is 'test', expected train or val"),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path, row, message):
    path = tmp_path / "table.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{row}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        read_label_errors(path)
    assert "\n" not in str(error.value) and "table.csv" in str(error.value)
