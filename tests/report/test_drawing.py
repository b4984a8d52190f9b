import base64
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

from pipeline.io.arrays import ClassMaps
from pipeline.report.drawing import (
    CAPTION,
    GAP,
    SIDE,
    captioned_grid,
    data_url,
    label_edges,
    palette_colors,
    thumbnail,
    with_map,
)
from pipeline.report.overlay import with_label
from tests.helpers.photographs import NAMES, photograph

LABELS = st.sampled_from([0, 1, 2, 255])


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


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=LABELS))
def test_edges_are_the_upper_left_side_of_scikit_images_boundaries(label):
    edges = label_edges(label)
    lower = np.pad(label, ((1, 0), (0, 0)), mode="edge")[:-1] != label
    right = np.pad(label, ((0, 0), (1, 0)), mode="edge")[:, :-1] != label
    assert ((edges | lower | right) == find_boundaries(label, connectivity=1)).all()
    padded = np.pad(label, ((0, 1), (0, 1)), mode="edge")
    assert (edges == ((padded[1:, :-1] != label) | (padded[:-1, 1:] != label))).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_label_over_a_photograph_is_that_of_scikit_image_within_a_level(name):
    image = photograph(name, 90, 120)
    label = np.digitize(image.mean(axis=2), (60, 120, 180)).astype(np.uint8)
    mixed = label2rgb(label, image, palette_colors()[1:4] / 255, alpha=0.65, saturation=1)
    shown = with_label(image, label).astype(int)
    outline, background = label_edges(label), label == 0
    assert outline.any() and background.any() and (shown[outline] == 255).all()
    inside = ~outline & ~background
    assert np.abs(shown - 255 * mixed)[inside].max() <= 1
    assert np.abs(shown - 0.6 * image)[~outline & background].max() <= 1


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
    gap = np.s_[CAPTION : CAPTION + 20, 20 : 20 + GAP]
    assert (grid[gap] == 255).all() and (grid[-20:, -20:] == 255).all()  # no sixth picture
    with pytest.raises(ValueError, match="longer"):
        captioned_grid(pictures, ["cat"] * 6)
