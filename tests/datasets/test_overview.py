from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.manifest import Manifest, Record
from pipeline.datasets.overview import (
    Range,
    class_examples,
    evenly_spaced,
    identical_files,
    joined_names,
    measure,
    similar_names,
    summarize,
)
from pipeline.datasets.voc import CLASSES as VOC
from pipeline.errors import UserError

CLASSES = ("cat", "dog", "bird")


def record(name, labels=(), split="train", size=(40, 30)):
    return Record(name, Path(f"{name}.jpg"), *size, split, tuple(labels))


@st.composite
def manifests(draw):
    labels = st.lists(st.sampled_from(CLASSES), unique=True)
    rows = draw(st.lists(st.tuples(labels, st.sampled_from(["train", "val"])), max_size=20))
    records = tuple(record(str(k), names, split) for k, (names, split) in enumerate(rows))
    return Manifest(CLASSES, records)


def test_counts_by_hand():
    records = [
        record("a", ["cat"]), record("b", ["cat", "dog"]), record("c", ["dog", "cat"]),
        record("d"), record("e", ["dog"], "val"),
    ]  # fmt: skip
    numbers = summarize(Manifest(CLASSES, tuple(records)))
    assert numbers.images == {"train": 4, "val": 1}
    assert numbers.of_class["train"].tolist() == [3, 2, 0]
    assert numbers.of_class["val"].tolist() == [0, 1, 0]
    assert numbers.with_labels["train"].tolist() == [1, 1, 2]
    assert numbers.with_labels["val"].tolist() == [0, 1, 0]
    assert numbers.cooccurrence.tolist() == [[3, 2, 0], [2, 2, 0], [0, 0, 0]]
    assert numbers.alone.tolist() == [1, 0, 0]


@given(manifests())
def test_counts_agree_with_one_another_and_with_a_count_one_by_one(manifest):
    numbers = summarize(manifest)
    assert sum(numbers.images.values()) == len(manifest.records)
    for split, images in numbers.images.items():
        histogram = numbers.with_labels[split]
        assert histogram.sum() == images
        assert (histogram * np.arange(len(histogram))).sum() == numbers.of_class[split].sum()
    assert (numbers.cooccurrence == numbers.cooccurrence.T).all()
    assert (numbers.cooccurrence.diagonal() == numbers.of_class["train"]).all()
    assert numbers.alone.sum() == sum(numbers.with_labels["train"][1:2])
    train = manifest.of_split("train")
    for (a, one), (b, other) in product(enumerate(CLASSES), repeat=2):
        both = sum({one, other} <= set(item.labels) for item in train)
        assert numbers.cooccurrence[a, b] == both


@given(manifests(), st.randoms(use_true_random=False))
def test_the_order_of_the_records_changes_no_count(manifest, random):
    shuffled = list(manifest.records)
    random.shuffle(shuffled)
    one, other = summarize(manifest), summarize(Manifest(CLASSES, tuple(shuffled)))
    assert one.images == other.images
    for split in ("train", "val"):
        assert (one.of_class[split] == other.of_class[split]).all()
        assert (one.with_labels[split] == other.with_labels[split]).all()
    assert (one.cooccurrence == other.cooccurrence).all()
    assert (one.alone == other.alone).all()


def test_sizes_by_hand():
    records = [record("a", size=(100, 50)), record("b", size=(30, 90)), record("c", size=(80, 80))]
    sizes = measure(records)
    assert sizes.width == Range(30, 80, 100)
    assert sizes.height == Range(50, 80, 90)
    assert sizes.megapixels == Range(0.0027, 0.005, 0.0064)
    assert sizes.elongation == Range(1, 2, 3)
    assert (sizes.smallest.id, sizes.largest.id, sizes.longest.id) == ("b", "c", "b")


def test_evenly_spaced_records_start_with_the_first():
    records = [record(str(k)) for k in range(10)]
    assert [item.id for item in evenly_spaced(records, 4)] == ["0", "2", "5", "7"]
    assert evenly_spaced(records, 99) == records
    assert evenly_spaced([], 3) == []


def test_images_of_a_class_are_from_train_and_then_from_val():
    records = [record("a", ["cat"]), record("b", ["cat"], "val"), record("c", ["cat"], "val")]
    records += [record("d", ["dog"]), record("e", ["dog"]), record("f", ["dog"], "val")]
    records += [record("g")]
    chosen, unlabeled = class_examples(Manifest(CLASSES, tuple(records)), 2, 99)
    ids = {name: [item.id for item in group] for name, group in chosen.items()}
    assert ids == {"cat": ["a", "b"], "dog": ["d", "e"], "bird": []}
    assert [item.id for item in unlabeled] == ["g"]


@given(manifests(), st.integers(0, 8), st.integers(4, 40))
def test_images_are_limited_and_show_their_class(manifest, count, most):
    chosen, unlabeled = class_examples(manifest, count, most)
    assert list(chosen) == list(CLASSES)
    groups = [*chosen.values(), unlabeled]
    assert sum(map(len, groups)) <= most
    for group in groups:
        assert len(group) <= count
        assert len({item.id for item in group}) == len(group)
    assert all(name in item.labels for name, group in chosen.items() for item in group)
    assert not any(item.labels for item in unlabeled)


@pytest.mark.parametrize("workers", [1, 2])
def test_files_of_the_same_bytes_are_grouped(tmp_path, workers):
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"longer", "e": b"one", "f": b"two"}
    records = []
    for name, content in contents.items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(content)
        records.append(Record(name, path, 1, 1, "train", ()))
    groups = identical_files(records, workers)
    assert [[item.id for item in group] for group in groups] == [["a", "c", "e"], ["b", "f"]]


def test_a_file_that_is_gone_is_named():
    with pytest.raises(UserError, match=r"gone\.jpg: no such image.*prepare_dataset"):
        identical_files([record("gone")], 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "catt"), ("person", "persom"), ("Cat", "cat"), ("potted plant", "pottedplant"),
        ("hot_dog", "hot dog"), ("cat", "cats"), ("bus", "buses"), ("berry", "berries"),
        ("T-shirt", "tshirt"), ("White crowned Sparrow", "White crowned Sparow"),
    ],
)  # fmt: skip
def test_names_that_differ_in_spelling_only_are_near(one, other):
    assert similar_names([one, other]) == [(one, other)]
    assert similar_names([other, one]) == [(other, one)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "car"), ("cow", "dog"), ("type 1", "type 2"), ("n02085620", "n02085782"),
        ("White throated Sparrow", "White crowned Sparrow"), ("sofa", "sofa bed"), ("+", "-"),
    ],
)  # fmt: skip
def test_names_of_different_objects_are_not_near(one, other):
    assert similar_names([one, other]) == []


def test_the_class_names_of_voc_are_not_near():
    assert similar_names(VOC) == []


@pytest.mark.parametrize("name", ["cat dog", "dog, cat", "cat|dog", "cat/dog", "cat & dog", "a,b"])
def test_labels_that_another_mark_joins_read_as_several(name):
    assert joined_names(["cat", "dog", name]) == [name]


@pytest.mark.parametrize("name", ["potted plant", "cat bed", "T-shirt", "cat_dog", "rock'n'roll"])
def test_a_name_may_have_several_words(name):
    assert joined_names(["cat", "dog", "plant", name]) == []
    assert joined_names(VOC) == []


@given(st.text(min_size=1), st.text(min_size=1))
def test_nearness_has_no_direction_and_ignores_case(one, other):
    assert len(similar_names([one, other])) == len(similar_names([other, one]))
    assert similar_names([one, one.casefold()])
