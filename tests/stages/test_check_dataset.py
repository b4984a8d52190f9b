import logging
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.manifest import Record, write_classes, write_manifest
from pipeline.errors import UserError
from pipeline.stages.check_dataset import check_dataset


@pytest.fixture
def check(small_dataset, tmp_path):
    page = tmp_path / "dataset/check.html"

    def run(pictures=6, threads=1):
        paths = {name: small_dataset[name] for name in ("manifest", "classes", "masks")}
        check_dataset(**paths, pictures=pictures, page=page, threads=threads)
        return page.read_text(encoding="utf-8")

    return run


def captions(html):
    return re.findall(r'<img src="data:image/jpeg;base64,[^"]+" alt="(.*?)"', html)


def test_the_page_shows_pictures_of_every_class(check):
    assert captions(check()) == [
        "cat: 0", "cat: 2", "cat: 5", "dog: 1", "dog: 2", "dog: 4", "no label: 3",
    ]  # fmt: skip
    assert captions(check(pictures=1)) == ["cat: 0", "dog: 1", "no label: 3"]


def test_without_pictures_there_are_none(check):
    assert captions(check(pictures=0)) == []


def test_the_number_of_processes_changes_nothing(processes, check):
    assert check(threads=1) == check(threads=2)


def test_a_terminal_has_counts_and_warnings(check, caplog):
    caplog.set_level(logging.INFO)
    check()
    lines = [record.getMessage() for record in caplog.records]
    assert "train: 4 images, 1 without a label, 1.00 labels an image" in lines
    assert "val: 2 images, 0 without a label, 1.00 labels an image" in lines
    assert "2 classes, from cat (2 train images) to dog (2)" in lines
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split(":")[1] for line in warned] == [
        " classes with fewer than 10 train images", " pictures below 64 pixels a side",
    ]  # fmt: skip


def test_a_copy_in_val_of_a_train_image_is_found(tmp_path, caplog):
    Image.fromarray(np.full((80, 90, 3), 120, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    records = [
        Record(name, tmp_path / f"{name}.png", 90, 80, split, ("cat",))
        for name, split in (("a", "train"), ("b", "val"))
    ]
    write_manifest(tmp_path / "m.csv", records)
    write_classes(tmp_path / "c.json", ["cat"])
    paths = {"manifest": tmp_path / "m.csv", "classes": tmp_path / "c.json", "masks": tmp_path}
    check_dataset(**paths, pictures=2, page=tmp_path / "check.html", threads=1)
    assert "same picture in train and val: a (train: cat) = b (val: cat)." in caplog.text


def test_a_photograph_that_is_gone_is_named_and_no_page_is_left(check, small_dataset, tmp_path):
    (tmp_path / "images/3.png").unlink()
    with pytest.raises(UserError, match=r"3\.png: no such image"):
        check()
    assert list((tmp_path / "dataset").glob("*check*")) == []


def test_real_photographs_make_a_page_of_bounded_size(voc_subset, tmp_path):
    from pipeline.stages.prepare_dataset import prepare_dataset

    paths = {name: tmp_path / name for name in ("manifest", "classes")}
    small = (voc_subset / "ImageSets/Segmentation/val.txt").read_text(encoding="utf-8").split()[:20]
    lists = {"train_list": small[:15], "val_list": small[15:]}
    for name, ids in lists.items():
        (tmp_path / name).write_text("\n".join(ids), encoding="utf-8")
    dataset = {"kind": "voc", "root": voc_subset, "labels": "labels.csv", "masks": None}
    dataset |= {"classes": None} | {name: tmp_path / name for name in lists}
    prepare_dataset(sources=[], dataset=dataset, seed=0, threads=1, **paths)
    page = tmp_path / "check.html"
    check_dataset(**paths, masks=tmp_path, pictures=6, page=page, threads=1)
    shown = captions(page.read_text(encoding="utf-8"))
    assert len(shown) >= 20
    assert page.stat().st_size < 60_000 + 20_000 * len(shown)
