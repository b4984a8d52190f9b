from itertools import chain, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.manifest import Record
from pipeline.report.inputs import ImageScore
from pipeline.report.selection import MAX_LISTED, Choice, image_groups, in_order

CLASSES = ("cat", "dog")


def record(name, *labels):
    return Record(name, Path(f"{name}.jpg"), 4, 4, "train", labels)


def test_groups_by_hand():
    records = [record(name, "cat") for name in "abcde"] + [record("f", "dog"), record("g")]
    ious = dict(zip("abcde", (0.9, 0.1, 0.5, 0.3, 0.7), strict=True))
    scores = {name: ImageScore(iou, {"cat": iou}) for name, iou in ious.items()}
    scores |= {"f": ImageScore(0.2, {"dog": 0.0, "cat": 1.0}), "g": ImageScore(1, {})}
    assert image_groups(records, CLASSES, scores, [["b", "x"], ["c", "b", "a", "d"]], 1) == {
        "best": ["g"],
        "median": ["c"],
        "worst": ["b"],
        "best cat": ["a"],  # not f, whose labels lack it
        "worst cat": ["b"],
        "best dog": ["f"],  # and so it is not the worst
        "most doubtful": ["b", "c", "a", "d"],  # x is of no record of the split
    }


def test_the_worst_images_come_first_and_none_is_repeated_in_a_class():
    records = [record(name, "cat") for name in "abc"]
    scores = {n: ImageScore(k / 10, {"cat": k / 10}) for k, n in enumerate("abc")}
    groups = image_groups(records, CLASSES, scores, [], 2)
    assert groups["best cat"] == ["c", "b"] and groups["worst cat"] == ["a"]
    records = [record(str(k)) for k in range(9)]
    scores = {str(k): ImageScore(k / 10, {}) for k in range(9)}
    assert image_groups(records, CLASSES, scores, [], 2)["worst"] == ["0", "1"]


def test_every_class_has_images_without_scores():
    records = [*(record(name, "cat") for name in "abcd"), record("e", "dog")]
    assert image_groups(records, CLASSES, {}, [], 1) == {
        "first": ["a", "b", "c"], "first cat": ["a", "b"], "first dog": ["e"],
    }  # fmt: skip


@given(images=st.integers(0, 60), count=st.integers(0, 3), scored=st.booleans())
def test_there_are_never_more_than_the_limit(images, count, scored):
    names = [str(k) for k in range(images)]
    records = [record(name, CLASSES[k % 2]) for k, name in enumerate(names)]
    ious = {n: ImageScore(k / 60, {CLASSES[k % 2]: k / 60}) for k, n in enumerate(names)}
    groups = image_groups(records, CLASSES, ious if scored else {}, [names[::-1]], count)
    choices = in_order({"train": groups})
    doubted = MAX_LISTED if count else 0
    assert len(choices) <= min(images, count * (3 + 2 * len(CLASSES)) + doubted)
    assert len({choice.image_id for choice in choices}) == len(choices)


def test_the_budget_is_spent_in_turn():
    splits = {"train": {"best": ["a", "b"], "worst": ["c", "a", "d"]}, "val": {"best": ["a"]}}
    assert in_order(splits) == [
        Choice("train", "a", ("best", "worst")),
        Choice("val", "a", ("best",)),
        Choice("train", "c", ("worst",)),
        Choice("train", "b", ("best",)),
        Choice("train", "d", ("worst",)),
    ]


@given(st.dictionaries(st.sampled_from("xyz"), st.lists(st.integers(0, 9), unique=True)))
def test_wherever_the_list_is_cut_no_group_is_favored(groups):
    named = {group: [f"{group}{item}" for item in items] for group, items in groups.items()}
    choices = in_order({"train": named})
    assert sorted(c.image_id for c in choices) == sorted(chain(*named.values()))
    ranks = [named[c.groups[0]].index(c.image_id) for c in choices]
    assert all(one <= two for one, two in pairwise(ranks))


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_split_has_no_groups(count):
    assert image_groups([], CLASSES, {}, [["a"]], count) == {}
    assert in_order({"train": {}, "val": {}}) == []
