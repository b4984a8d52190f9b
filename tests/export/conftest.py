"""A small data set with the traps of an export: names, orientation, pixel types, unknown pixels."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.manifest import Record
from pipeline.export.job import ExportItem, ExportOptions, Target
from pipeline.io.arrays import write_label
from tests.photographs import photograph

CLASSES = ("cat", 'dog: "big" | small, #1')
#: Ids with a dot, a space and a letter beyond ASCII.
ROTATED, CLEAR, GRAY, PLAIN = "rotated", "clear.png.1", "gray é", "plain"
SPLITS = {PLAIN: "train", ROTATED: "train", CLEAR: "train", GRAY: "val"}


def saved(path, name):
    """Save a photograph, upright 30 high and 44 wide, and return its path."""
    pixels = photograph("rocket", 30, 44)
    if name == ROTATED:
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.rot90(pixels)).save(path / "rotated.jpg", exif=exif)
        return path / "rotated.jpg"
    if name == CLEAR:
        alpha = np.full((30, 44, 1), 128, np.uint8)
        Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(path / "clear.png")
        return path / "clear.png"
    Image.fromarray(pixels[..., 0] if name == GRAY else pixels).save(path / f"{name}.jpg")
    return path / f"{name}.jpg"


def label_of(name):
    """Draw a cat with a hole beside a dog, both at the border, and a stripe of unknown pixels."""
    label = np.zeros((30, 44), np.uint8)
    if name != GRAY:
        label[0:20, 0:20] = 1
        label[5:10, 6:12] = 0
        label[12:30, 24:44] = 2
        label[:, 21:23] = 255
        label[25, 2] = 1
    return label


@pytest.fixture
def case(tmp_path):
    """Return the items, their labels by id, and a function that makes a target."""
    (tmp_path / "photographs").mkdir()
    items, labels = [], {}
    for name, split in SPLITS.items():
        image = saved(tmp_path / "photographs", name)
        source = tmp_path / f"labels/{name}.png"
        labels[name] = label_of(name)
        write_label(source, labels[name])
        items.append(ExportItem(Record(name, image, 44, 30, split, ()), source))

    def target(**options):
        return Target(tmp_path / "export", CLASSES, ExportOptions.from_config(options))

    return SimpleNamespace(items=items, labels=labels, target=target, root=tmp_path / "export")
