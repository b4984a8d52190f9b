import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import VOCSegmentation

from pipeline.artifacts import read_label
from pipeline.datasets.manifest import Record
from pipeline.datasets.palette import voc_palette
from pipeline.datasets.voc import CLASSES as VOC_CLASSES
from pipeline.export.job import ExportItem, ExportOptions, Target, export_items
from pipeline.export.voc import write_voc
from pipeline.images import read_rgb
from tests.export.conftest import CLASSES, CLEAR, GREY, PLAIN, ROTATED


def test_torchvision_reads_photographs_and_masks(case):
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
        assert path.is_symlink() == (item.record.id in {PLAIN, GREY})
        if path.is_symlink():
            assert path.readlink() == item.record.image.absolute()


def test_class_names_are_in_the_order_of_their_values(case):
    write_voc(case.items, case.target(images="none"), 1)
    devkit = case.root / "VOCdevkit/VOC2012"
    names = (devkit / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert names == ["background", *CLASSES]
    assert not (devkit / "JPEGImages").exists()


@pytest.fixture
def real_items(voc_subset):
    masks = voc_subset / "SegmentationClass"
    images = sorted((voc_subset / "JPEGImages").glob("*.jpg"))[:4]
    records = []
    for path in images:
        with Image.open(path) as image:
            records.append(Record(path.stem, path, *image.size, "val", ()))
    return export_items(records, [masks], ".png")


def test_real_masks_come_back(real_items, tmp_path):
    target = Target(tmp_path, VOC_CLASSES, ExportOptions(images="copy"))
    done = write_voc(real_items, target, 1)
    assert not any(one.rewritten for one in done)
    read = VOCSegmentation(tmp_path, year="2012", image_set="val")
    for item, (image, mask) in zip(real_items, read, strict=True):
        assert isinstance(item, ExportItem)
        assert np.array_equal(mask, read_label(item.source))
        assert np.array_equal(image, read_rgb(item.record.image))
