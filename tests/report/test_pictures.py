import base64
from io import BytesIO

import numpy as np
from PIL import Image

from pipeline.artifacts import ClassMaps
from pipeline.report.pictures import (
    CAPTION,
    GAP,
    SIDE,
    captioned_grid,
    data_url,
    thumbnail,
    with_label,
    with_map,
    with_tags,
)


def test_thumbnails_keep_their_shape():
    assert thumbnail(np.zeros((100, 400, 3), np.uint8)).shape == (SIDE // 4, SIDE, 3)
    assert thumbnail(np.zeros((1, 1, 3), np.uint8)).shape == (SIDE, SIDE, 3)


def test_a_background_label_still_shows_the_photograph():
    photograph = np.full((10, 10, 3), 200, np.uint8)
    shown = with_label(photograph, np.zeros((40, 40), np.uint8))
    assert shown.shape == (10, 10, 3)
    assert shown.min() >= 100


def test_a_label_has_its_colour_and_an_outline():
    label = np.zeros((10, 10), np.uint8)
    label[:, 5:] = 1
    shown = with_label(np.zeros((10, 10, 3), np.uint8), label)
    assert shown[5, 7, 0] > 60 and shown[5, 7, 1] == 0  # the palette's first class is red
    assert shown[5, 4].tolist() == [255, 255, 255]


def test_a_map_is_brightest_where_it_is_strongest():
    values = np.zeros((1, 2, 2), np.float16)
    values[0, 0, 0] = 1
    shown = with_map(np.zeros((8, 8, 3), np.uint8), ClassMaps(np.array([1]), values, (8, 8)))
    assert shown[0, 0].sum() > shown[7, 7].sum() + 100


def test_maps_of_an_image_without_labels_are_dark():
    empty = ClassMaps(np.array([], np.int64), np.zeros((0, 2, 2), np.float16), (8, 8))
    assert with_map(np.full((8, 8, 3), 255, np.uint8), empty).max() < 200


def test_data_urls_hold_the_picture():
    head, data = data_url(np.full((4, 6, 3), 128, np.uint8)).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        assert image.size == (6, 4)


def test_tags_are_coloured_and_unsure_pixels_are_left_alone():
    photograph = np.full((4, 4, 3), 100, np.uint8)
    tags = np.full((8, 8), 255, np.uint8)
    tags[:4, :4], tags[4:, 4:] = 1, 0
    shown = with_tags(photograph, tags)
    assert (shown[:2, 2:] == 100).all() and (shown[2:, :2] == 100).all()
    assert shown[0, 0, 0] > shown[0, 0, 2] and shown[3, 3, 2] > shown[3, 3, 0]
    assert (photograph == 100).all()


def test_a_grid_holds_every_picture_under_its_caption():
    pictures = [np.full((20, 20, 3), 40 * number, np.uint8) for number in range(5)]
    grid = captioned_grid(pictures, ["cat", "dog", "Löwe", "x" * 30, "e"])
    assert grid.shape == (2 * (20 + CAPTION + GAP) - GAP, 3 * (20 + GAP) - GAP, 3)
    for index, picture in enumerate(pictures):
        left, top = index % 3 * (20 + GAP), index // 3 * (20 + CAPTION + GAP) + CAPTION
        assert (grid[top : top + 20, left : left + 20] == picture).all()
    assert grid[:CAPTION, :20].min() < 128  # the first caption
