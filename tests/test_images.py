import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import UserError
from pipeline.images import (
    FILTER,
    FILTERS,
    cell_side,
    fitted_size,
    interpolation_of,
    network_stride,
    normalise,
    read_rgb,
    resize,
    scaled_size,
    strided_size,
)
from tests.conftest import REPOSITORY

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
#: EXIF orientation n is undone by these steps (TIFF 6.0, tag 274).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "x.png"), UPRIGHT[orientation](RGB))


def saved(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return read_rgb(tmp_path / name)


def test_grey_becomes_three_equal_channels(tmp_path):
    image = saved(tmp_path, Image.fromarray(RGB[..., 0]))
    assert np.array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))


def test_bilevel_becomes_black_and_white(tmp_path):
    image = saved(tmp_path, Image.fromarray(RGB[..., 0] > 127))
    assert np.array_equal(image[..., 0], 255 * (RGB[..., 0] > 127))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_over_white(tmp_path, mode):
    pixels = np.zeros((1, 3, len(mode)), np.uint8)
    pixels[0, :, -1] = (0, 255, 51)
    image = saved(tmp_path, Image.fromarray(pixels, mode))
    assert image[0, :, 0].tolist() == [255, 0, 204]


def test_palette_images_take_their_colours_and_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert saved(tmp_path, image)[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    image = saved(tmp_path, image, transparency=1)
    assert image[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_cmyk_is_converted(tmp_path):
    ink = Image.fromarray(np.zeros((8, 8, 4), np.uint8), "CMYK")
    assert saved(tmp_path, ink, "x.tif").min() == 255


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_16_bit_grey_is_scaled_to_8_bits(tmp_path, name):
    deep = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    assert saved(tmp_path, Image.fromarray(deep), name)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_16_bit_grey_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 3
    deep = np.array([[0, 65535]], np.uint16)
    assert saved(tmp_path, Image.fromarray(deep), exif=exif)[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_defined_range_are_refused(tmp_path, dtype):
    Image.fromarray(np.ones((2, 2), dtype)).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match=r"x.tif: pixel type [IF], expected"):
        read_rgb(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"hello, I am text", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded|not an image"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, message):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.jpg: ({message})"):
        read_rgb(tmp_path / "x.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_and_missing_files_are_named(tmp_path, suffix):
    big = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(big).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="cannot be decoded"):
        read_rgb(path)
    with pytest.raises(UserError, match="no such image"):
        read_rgb(tmp_path / "absent.png")


def test_images_of_one_pixel_are_read(tmp_path):
    assert saved(tmp_path, Image.fromarray(RGB[:1, :1])).shape == (1, 1, 3)


def test_normalise_by_hand():
    image = np.array([[[255, 0, 51]]], np.uint8)
    values = normalise(image, (0.5, 0.0, 0.2), (0.5, 1.0, 0.1))
    assert values.shape == (3, 1, 1) and values.dtype == np.float32
    assert values.ravel().tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_resize_keeps_a_constant_and_does_not_change_its_input():
    image = np.full((4, 6, 3), 77, np.uint8)
    assert np.array_equal(resize(image, (9, 5)), np.full((9, 5, 3), 77))
    before = RGB.copy()
    resize(RGB, (2, 2))
    assert np.array_equal(RGB, before)


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.01, 8), st.integers(1, 32))
def test_sizes_are_never_empty(height, width, scale, stride):
    assert min(scaled_size((height, width), scale)) >= 1
    rows, columns = strided_size((height, width), stride)
    assert (rows - 1) * stride < height <= rows * stride
    assert (columns - 1) * stride < width <= columns * stride


def test_fitting_shrinks_the_long_side_and_never_enlarges():
    assert fitted_size((375, 500), 250) == (188, 250)
    assert fitted_size((375, 500), 500) == (375, 500)
    assert fitted_size((10, 20), 500) == (10, 20)
    assert fitted_size((375, 500), None) == (375, 500)


@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 2, 4, 8, 16, 32]),
)  # fmt: skip
def test_a_maps_stride_is_found_by_its_size(height, width, stride):
    cells = strided_size((height, width), stride)
    found = cell_side((height, width), cells)
    assert strided_size((height, width), found) == cells
    assert found == stride or cells == (1, 1)


@given(st.integers(96, 300), st.integers(1, 300), st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_a_networks_stride_is_found_by_its_maps(height, width, stride):
    up, down = strided_size((height, width), stride), (height // stride, max(1, width // stride))
    assert network_stride((height, width), up) == network_stride((height, width), down) == stride


def test_the_filters_are_pillows():
    image = np.zeros((1, 8, 3), np.uint8)
    image[0, 4:] = 200
    # Halving: the support is twice as wide. Bicubic overshoots at a step, bilinear does not.
    assert resize(image, (1, 4), "bilinear")[0, :, 0].tolist() == [0, 25, 175, 200]
    assert resize(image, (1, 4), "bicubic")[0, :, 0].tolist() != [0, 25, 175, 200]
    large = resize(image, (1, 16), "bicubic")[0, :, 0]
    assert large.max() > 200 and resize(image, (1, 16), "bilinear")[0, :, 0].max() == 200


def test_the_filter_is_a_networks_own_or_its_augmentations():
    assert interpolation_of({"augmentation": {"interpolation": "bicubic"}}) == "bicubic"
    assert interpolation_of({"interpolation": "bicubic"}) == "bicubic"
    assert interpolation_of({}) == FILTER


def test_the_configuration_has_the_same_default_filter():
    schema = yaml.safe_load((REPOSITORY / "pipeline/config.schema.yaml").read_text("utf-8"))
    section = schema["$defs"]["interpolation"]
    assert section["default"] == FILTER and set(section["enum"]) == set(FILTERS)
