import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import VOCSegmentation

from pipeline.datasets.manifest import Record
from pipeline.datasets.voc import CLASSES as VOC_CLASSES
from pipeline.export.job import ExportItem, ExportOptions, Target, export_items
from pipeline.export.voc import _without_colons, write_voc
from pipeline.io.arrays import read_label
from pipeline.io.images import read_rgb
from pipeline.io.palette import voc_palette
from tests.helpers.export_items import CLASSES, CLEAR, GRAY, PLAIN, ROTATED


def test_torchvision_reads_images_and_masks(case):
    write_voc(case.items, case.target(), 1)
    read = {
        split: VOCSegmentation(case.root, year="2012", image_set=split, download=False)
        for split in ("train", "val", "trainval")
    }
    assert [len(read[split]) for split in ("train", "val", "trainval")] == [3, 1, 4]
    pairs = [*read["train"], *read["val"]]
    for item, (image, mask) in zip(case.items, pairs, strict=True):
        assert mask.mode == "P" and mask.getpalette() == voc_palette()
        assert np.array_equal(mask, case.labels[item.record.id])
        difference = np.asarray(image).astype(int) - read_rgb(item.record.image)
        assert np.abs(difference).mean() < 8  # noise, compressed once more


def test_only_plain_jpegs_are_linked(case):
    done = write_voc(case.items, case.target(), 1)
    folder = case.root / "VOCdevkit/VOC2012/JPEGImages"
    rewritten = {i.record.id for i, one in zip(case.items, done, strict=True) if one.rewritten}
    assert rewritten == {ROTATED, CLEAR}
    for item in case.items:
        path = folder / f"{item.record.id}.jpg"
        assert path.is_symlink() == (item.record.id in {PLAIN, GRAY})
        if path.is_symlink():
            assert path.readlink() == item.record.image.absolute()


def test_class_names_are_in_the_order_of_their_values(case):
    write_voc(case.items, case.target(images="none"), 1)
    devkit = case.root / "VOCdevkit/VOC2012"
    names = (devkit / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert names == ["background", *CLASSES]
    assert not (devkit / "JPEGImages").exists()


def test_label_maps_name_every_value_and_the_color_it_is_shown_in(case):
    write_voc(case.items, case.target(images="none"), 1)
    devkit = case.root / "VOCdevkit/VOC2012"
    # The colors are those of the VOC devkit.
    assert (devkit / "labelmap.txt").read_text(encoding="utf-8").splitlines() == [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "cat:128,0,0::",
        'dog; "big" | small, #1:0,128,0::',
        "ignored:224,224,192::",
    ]
    meta = json.loads((devkit / "dataset_meta.json").read_text(encoding="utf-8"))
    assert meta["labels"] == ["background", *CLASSES, "ignored"]
    assert meta["label_map"] == dict(zip("0123", meta["labels"], strict=True))
    assert meta["segmentation_colors"] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]]


@given(st.lists(st.text("ab:;#_", min_size=1, max_size=4), unique=True, max_size=8))
def test_names_in_a_label_map_stay_different_and_are_changed_only_where_they_must_be(names):
    written = _without_colons(names)
    assert len(set(written)) == len(names) == len(written)
    for name, one in zip(names, written, strict=True):
        assert ":" not in one and not one.startswith("#")
        assert one == name or ":" in name or name.startswith("#")


def test_a_class_may_be_named_as_the_pixels_to_ignore(case):
    target = case.target(images="none")
    write_voc(case.items, Target(target.root, ("ignored", "cat"), target.options), 1)
    lines = (case.root / "VOCdevkit/VOC2012/labelmap.txt").read_text(encoding="utf-8").splitlines()
    assert lines[2] == "ignored:128,0,0::" and lines[-1] == "ignored_:224,224,192::"


@pytest.fixture
def real_items(voc_subset):
    masks = voc_subset / "SegmentationClass"
    images = sorted((voc_subset / "JPEGImages").glob("*.jpg"))[:4]
    records = []
    for path in images:
        with Image.open(path) as image:
            records.append(Record(path.stem, path, *image.size, "val", ()))
    return export_items(records, [masks], ".png")


def test_real_masks_survive_the_export(real_items, tmp_path):
    target = Target(tmp_path, VOC_CLASSES, ExportOptions(images="copy"))
    done = write_voc(real_items, target, 1)
    assert not any(one.rewritten for one in done)
    read = VOCSegmentation(tmp_path, year="2012", image_set="val")
    for item, (image, mask) in zip(real_items, read, strict=True):
        assert isinstance(item, ExportItem)
        assert np.array_equal(mask, read_label(item.source))
        assert np.array_equal(image, read_rgb(item.record.image))
