"""Read as Ultralytics' reader does by its published rules."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pipeline.export.yolo import write_yolo
from tests.helpers.export_items import CLASSES, CLEAR, GRAY, PLAIN, ROTATED

#: Drawn so much larger, an outline's width hardly counts.
SCALE = 8


def label_path(image):
    """Pair an image with its labels: /images/ by /labels/, and the suffix by .txt."""
    head, tail = str(image).rsplit("/images/", 1)
    return Path(f"{head}/labels/{tail.rsplit('.', 1)[0]}.txt")


def read_dataset(root, split):
    """Return the label image of every image of a split, drawn of its polygons."""
    description = yaml.safe_load((root / "data.yaml").read_text(encoding="utf-8"))
    drawn = {}
    for image in sorted((root / description[split]).glob("*.*")):
        label = np.zeros((30, 44), np.uint8)
        text = label_path(image).read_text(encoding="utf-8")
        rows = [line.split() for line in text.strip().splitlines()]
        for number, *cells in rows:
            assert 0 <= int(number) < len(description["names"])
            ring = np.array(cells, np.float32).reshape(-1, 2)
            assert len(ring) >= 3 and ring.min() >= 0 and ring.max() <= 1
            large = np.zeros((30 * SCALE, 44 * SCALE), np.uint8)
            cv2.fillPoly(large, [np.round(ring * (44, 30) * SCALE).astype(np.int32)], 1)
            label[large[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE] == 1] = int(number) + 1
        drawn[image.stem] = label
    return description, drawn


def test_polygons_draw_the_masks(case):
    write_yolo(case.items, case.target(), 1)
    description, drawn = read_dataset(case.root, "train")
    assert description["names"] == dict(enumerate(CLASSES))
    assert drawn.keys() == {PLAIN, ROTATED, CLEAR}
    for name, label in drawn.items():
        for number in (1, 2):
            one, other = label == number, case.labels[name] == number
            assert (one & other).sum() / (one | other).sum() > 0.95
        assert label[25, 2] == 1  # a region of one pixel
        assert not label[6:9, 8:10].any()  # the hole
        assert not label[case.labels[name] == 255].any()


def test_one_line_a_region_and_an_empty_file_without_classes(case):
    write_yolo(case.items, case.target(images="copy"), 1)
    lines = (case.root / f"labels/train/{PLAIN}.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in lines] == ["0", "0", "1"]
    assert (case.root / f"labels/val/{GRAY}.txt").read_bytes() == b""
    assert not (case.root / f"images/val/{GRAY}.jpg").is_symlink()


@pytest.mark.parametrize("only", ["train", "val"])
def test_a_split_that_is_not_exported_is_replaced_by_the_other(case, only):
    items = [item for item in case.items if item.record.split == only]
    write_yolo(items, case.target(), 1)
    description = yaml.safe_load((case.root / "data.yaml").read_text(encoding="utf-8"))
    assert description["train"] == description["val"] == f"images/{only}"
    assert "path" not in description  # so that the reader starts from the file's own folder
