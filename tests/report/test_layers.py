import base64
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from pipeline.io.arrays import ClassMaps
from pipeline.report.drawing import TAG_COLORS, VOID, palette_colors
from pipeline.report.layers import MAP_SIDE, label_layer, map_layer, tag_layer

OPACITY = 166  # 65 %


def decoded(url):
    head, data = url.split(",")
    assert head == "data:image/png;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("RGBA"))


def is_outline(pixels):
    return (pixels == 255).all(axis=-1)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_a_layer_encodes_its_label(label):
    pixels = decoded(label_layer(label, label.shape))
    palette = palette_colors()
    palette[255] = VOID
    colors = np.dstack([palette[label], np.full(label.shape, OPACITY, np.uint8)])
    colors[label == 0] = 0
    plain = ~is_outline(pixels)
    assert (pixels[plain] == colors[plain]).all()


def test_outlines_are_where_labels_meet_but_not_around_void():
    label = np.zeros((8, 12), np.uint8)
    label[:, 4:] = 1
    label[:, 8:] = 255
    outlined = is_outline(decoded(label_layer(label, label.shape)))
    expected = np.zeros((8, 12), bool)
    expected[:, 3] = True
    assert (outlined == expected).all()


def test_all_values_at_once_fit_a_palette():
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert decoded(label_layer(label, (16, 16))).shape == (16, 16, 4)


def test_a_label_without_foreground_hides_nothing():
    assert (decoded(label_layer(np.zeros((40, 60), np.uint8), (20, 30))) == 0).all()


def test_a_layer_has_the_size_of_its_image():
    label = np.zeros((40, 60), np.uint8)
    label[:20] = 3
    pixels = decoded(label_layer(label, (20, 30)))
    assert pixels.shape == (20, 30, 4)
    assert (pixels[:9, :, 3] == OPACITY).all() and (pixels[10:] == 0).all()


def maps_of(*values):
    values = np.array(values, np.float16)
    return ClassMaps(np.arange(1, len(values) + 1), values, (8, 8))


def test_the_strongest_class_shows_and_covers_most():
    pixels = decoded(map_layer(maps_of([[1, 0], [0, 0]], [[0, 0.5], [0, 0]]))).astype(int)
    brightness, opacity = pixels[..., :3].sum(axis=-1), pixels[..., 3]
    for order in (brightness, opacity):
        assert order[0, 0] > order[0, 1] > order[1, 0] == order[1, 1]
    # The ends of the scale: 35 % and 80 %.
    assert (opacity[0, 0], opacity[1, 1]) == (204, 89)


@pytest.mark.parametrize(("shape", "expected"), [((100, 200), (32, 64)), ((3, 5), (3, 5))])
def test_maps_are_made_small_and_never_large(shape, expected):
    assert MAP_SIDE == 64
    assert decoded(map_layer(maps_of(np.ones(shape)))).shape == (*expected, 4)


def test_an_image_without_labels_has_a_dark_map():
    pixels = decoded(map_layer(ClassMaps(np.array([], int), np.zeros((0, 2, 2)), (8, 8))))
    assert (pixels[..., 3] == 89).all() and pixels[..., :3].max() < 10


def test_tags_are_colored_and_uncertain_pixels_are_transparent():
    tags = np.full((8, 8), 255, np.uint8)
    tags[:4, :4], tags[4:, 4:] = 1, 0
    pixels = decoded(tag_layer(tags, (4, 4)))
    assert (pixels[:2, :2] == [*TAG_COLORS[1], OPACITY]).all()
    assert (pixels[2:, 2:] == [*TAG_COLORS[0], OPACITY]).all()
    assert (pixels[:2, 2:] == 0).all() and (pixels[2:, :2] == 0).all()


@given(st.integers(1, 20), st.integers(0, 254))
def test_a_layer_of_large_regions_costs_little(classes, seed):
    blocks = np.random.default_rng(seed).integers(0, classes + 1, (6, 8), dtype=np.uint8)
    label = np.kron(blocks, np.ones((28, 28), np.uint8))
    assert len(label_layer(label, label.shape)) < 3000
