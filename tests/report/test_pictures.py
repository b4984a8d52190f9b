import base64
from io import BytesIO

import numpy as np
from PIL import Image

from pipeline.io.arrays import ClassMaps
from pipeline.report.pictures import (
    CAPTION,
    GAP,
    SIDE,
    captioned_grid,
    data_url,
    thumbnail,
    with_map,
)


def test_thumbnails_keep_their_shape():
    assert thumbnail(np.zeros((100, 400, 3), np.uint8)).shape == (SIDE // 4, SIDE, 3)
    assert thumbnail(np.zeros((1, 1, 3), np.uint8)).shape == (SIDE, SIDE, 3)


def test_a_map_is_brightest_where_it_is_strongest():
    values = np.zeros((1, 2, 2), np.float16)
    values[0, 0, 0] = 1
    shown = with_map(np.zeros((8, 8, 3), np.uint8), ClassMaps(np.array([1]), values, (8, 8)))
    assert shown[0, 0].sum() > shown[7, 7].sum() + 100


def test_maps_of_an_image_without_labels_are_dark():
    empty = ClassMaps(np.array([], np.int64), np.zeros((0, 2, 2), np.float16), (8, 8))
    assert with_map(np.full((8, 8, 3), 255, np.uint8), empty).max() < 200


def test_data_urls_contain_the_image():
    head, data = data_url(np.full((4, 6, 3), 128, np.uint8)).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        assert image.size == (6, 4)


def test_a_grid_has_every_image_under_its_caption():
    pictures = [np.full((20, 20, 3), 40 * number, np.uint8) for number in range(5)]
    grid = captioned_grid(pictures, ["cat", "dog", "Löwe", "x" * 30, "e"])
    assert grid.shape == (2 * (20 + CAPTION + GAP) - GAP, 3 * (20 + GAP) - GAP, 3)
    for index, picture in enumerate(pictures):
        left, top = index % 3 * (20 + GAP), index // 3 * (20 + CAPTION + GAP) + CAPTION
        assert (grid[top : top + 20, left : left + 20] == picture).all()
    assert grid[:CAPTION, :20].min() < 128  # the first caption
