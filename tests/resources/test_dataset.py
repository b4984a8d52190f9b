from types import SimpleNamespace

import pytest

from pipeline.datasets.manifest import Record, read_manifest, write_classes, write_manifest
from pipeline.errors import UserError
from pipeline.resources.dataset import (
    ASSUMED,
    VOC_AUG,
    Dataset,
    assumed_dataset,
    known_dataset,
    read_dataset,
)
from tests.resources.small import config


def write(folder, images, classes=7):
    """Write a manifest of images, each (height, width, split, number of labels)."""
    names = [str(number) for number in range(classes)]
    files = SimpleNamespace(manifest=folder / "manifest.csv", classes=folder / "classes.json")
    records = [
        Record(str(index), folder / f"{index}.png", width, height, split, tuple(names[:labels]))
        for index, (height, width, split, labels) in enumerate(images)
    ]
    write_manifest(files.manifest, records)
    write_classes(files.classes, names)
    return files


def test_images_are_counted_in_the_manifest(small_dataset):
    found = known_dataset(config(), small_dataset["manifest"], small_dataset["classes"])
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    assert (found.images("train"), found.images("val"), found.images("a folder")) == (4, 2, 0)
    assert (found.size[1], found.largest) == (40, (41, 40))
    assert found.labels == sum(len(r.labels) for r in data.of_split("train")) / 4
    assert (found.most_labels, found.classes) == (2, 2)


def test_numbers_of_a_manifest_by_hand(tmp_path):
    files = write(tmp_path, [(300, 400, "train", 3), (100, 200, "train", 0), (200, 900, "val", 5)])
    assert read_dataset(files.manifest, files.classes) == Dataset(
        {"train": 2, "val": 1},
        size=(200, 500), labels=1.5, largest=(200, 900), most_labels=5, classes=7,
    )  # fmt: skip


def test_a_folder_has_the_labels_that_were_predicted(tmp_path):
    files = write(tmp_path, [(10, 10, "mine", 1), (10, 10, "mine", 2)])
    found = assumed_dataset(files)
    assert (found.images("mine"), found.images("train"), found.labels) == (2, 0, 1.5)


def test_the_manifest_is_read_again_after_a_change(tmp_path):
    files = write(tmp_path, [(300, 400, "train", 3)] * 5)
    assert assumed_dataset(files).counts == {"train": 5}
    write_manifest(files.manifest, [Record("0", files.manifest, 9, 8, "val", ())])
    assert assumed_dataset(files).counts == {"val": 1}
    files.manifest.unlink()
    assert assumed_dataset(files) is ASSUMED is assumed_dataset(SimpleNamespace())


def test_an_empty_manifest_is_accepted(tmp_path):
    found = assumed_dataset(write(tmp_path, []))
    assert (found.counts, found.size, found.largest, found.labels) == ({}, (1, 1), (1, 1), 0)


def test_a_damaged_manifest_is_left_to_the_job_that_needs_it(tmp_path):
    for name in ("manifest.csv", "classes.json"):
        (tmp_path / name).write_text('["ca', encoding="utf-8")
    files = SimpleNamespace(manifest=tmp_path / "manifest.csv", classes=tmp_path / "classes.json")
    assert assumed_dataset(files) is ASSUMED
    with pytest.raises(UserError, match="manifest"):
        known_dataset(config(), files.manifest, files.classes)


def test_images_are_known_of_the_demo_of_voc_and_of_lists(tmp_path):
    nowhere = tmp_path / "none"
    demo = known_dataset(config(), nowhere, nowhere)
    assert (demo.counts, demo.size) == ({"train": 100, "val": 20}, (128, 128))
    assert demo.classes == 5
    aug = config(dataset={"kind": "voc", "train_list": "ImageSets/Segmentation/train_aug.txt"})
    assert known_dataset(aug, nowhere, nowhere) == VOC_AUG
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\nc\n", encoding="utf-8")
    (lists / "val.txt").write_text("d\n", encoding="utf-8")
    own = config(dataset={"kind": "voc", "root": str(tmp_path)})
    found = known_dataset(own, nowhere, nowhere)
    assert (found.counts, found.size) == ({"train": 3, "val": 1}, VOC_AUG.size)
    folder = config(dataset={"kind": "folder", "images": "x", "image_labels": "y.csv"})
    with pytest.raises(UserError, match="prepare_dataset"):
        known_dataset(folder, nowhere, nowhere)
