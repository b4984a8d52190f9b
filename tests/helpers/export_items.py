"""A small data set with the traps of an export: names, orientation, pixel types, unknown pixels."""

import numpy as np
from PIL import Image

from tests.helpers.photographs import photograph

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
