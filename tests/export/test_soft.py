import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.export.soft import write_soft
from pipeline.io.arrays import read_soft_label, write_soft_label

#: Of background and dog at four pixels: sure, uncertain, a tie, sure of the other.
BACKGROUND = np.array([[1.0, 0.6, 0.5, 0.05]])


@pytest.fixture
def item(case, tmp_path):
    """Return an image of one row of four pixels whose soft label is written."""
    source = tmp_path / "soft/0/plain.safetensors"
    write_soft_label(source, np.array([0, 2]), np.stack([BACKGROUND, 1 - BACKGROUND]))
    item = case.items[0]
    return replace(item, record=replace(item.record, width=4, height=1), source=source)


def gray(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image).tolist()


def test_confidence_doubt_and_probabilities(case, item):
    (done,) = write_soft([item], case.target(ignore_mask_below=0.7), 1)
    assert gray(case.root / "confidence/train/plain.png") == [[255, 153, 128, 242]]
    assert gray(case.root / "ignore/train/plain.png") == [[0, 255, 255, 0]]
    assert {k: int(done.pixels[k]) for k in np.flatnonzero(done.pixels)} == {0: 1, 2: 1, 255: 2}
    numbers, probabilities = read_soft_label(case.root / "probabilities/train/plain.safetensors")
    assert numbers.tolist() == [0, 2]
    assert np.array_equal(probabilities[0], BACKGROUND.astype(np.float16))


def test_probabilities_are_not_stored_twice(case, item):
    write_soft([item], case.target(), 1)
    assert item.source.samefile(case.root / "probabilities/train/plain.safetensors")


def test_probabilities_are_copied_where_a_link_fails(case, item, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    write_soft([item], case.target(), 1)
    copy = case.root / "probabilities/train/plain.safetensors"
    assert not item.source.samefile(copy)
    assert item.source.read_bytes() == copy.read_bytes()


@pytest.mark.parametrize(
    ("numbers", "shape", "value", "message"),
    [
        ([0, 1], (2, 1, 5), 0.5, r"label is \(1, 5\), expected \(1, 4\)"),
        ([0, 7], (2, 1, 4), 0.5, r"values \[7\], expected 0 to 2 and 255"),
        ([1, 0], (2, 1, 4), 0.5, r"labels \[1, 0\], expected one of each, 0 \(background\) first"),
        ([0, 1], (1, 1, 4), 0.5, "1 probabilities of the labels"),
        ([0, 1], (2, 1, 4), np.nan, "not finite"),
        ([0, 1], (2, 1, 4), 1.5, "outside"),
    ],
)
def test_a_damaged_soft_label_is_refused_by_its_name(case, item, numbers, shape, value, message):
    write_soft_label(item.source, np.array(numbers), np.full(shape, value))
    with pytest.raises(UserError, match=f"plain.safetensors: .*{message}"):
        write_soft([item], case.target(), 1)
