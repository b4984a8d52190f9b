import resource
import struct
import zlib
from contextlib import suppress
from io import BytesIO

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import UserError
from pipeline.io.arrays import read_label
from pipeline.io.images import (
    FILTER,
    FILTERS,
    MAX_PIXELS,
    cell_side,
    deep_maximum,
    fitted_size,
    interpolation_of,
    network_stride,
    normalize,
    read_rgb,
    resize,
    scaled_size,
    strided_size,
)
from pipeline.io.repair import repair_advice
from tests.helpers import REPOSITORY

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


def test_gray_becomes_three_equal_channels(tmp_path):
    image = saved(tmp_path, Image.fromarray(RGB[..., 0]))
    assert np.array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))


def test_bilevel_becomes_black_and_white(tmp_path):
    image = saved(tmp_path, Image.fromarray(RGB[..., 0] > 127))
    assert np.array_equal(image[..., 0], 255 * (RGB[..., 0] > 127))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_blended_with_white(tmp_path, mode):
    pixels = np.zeros((1, 3, len(mode)), np.uint8)
    pixels[0, :, -1] = (0, 255, 51)
    image = saved(tmp_path, Image.fromarray(pixels, mode))
    assert image[0, :, 0].tolist() == [255, 0, 204]


def test_palette_images_take_their_colors_and_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert saved(tmp_path, image)[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    image = saved(tmp_path, image, transparency=1)
    assert image[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_cmyk_is_converted(tmp_path):
    ink = Image.fromarray(np.zeros((8, 8, 4), np.uint8), "CMYK")
    assert saved(tmp_path, ink, "x.tif").min() == 255


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_16_bit_gray_is_scaled_to_8_bits(tmp_path, name):
    deep = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    assert saved(tmp_path, Image.fromarray(deep), name)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_16_bit_gray_is_turned_upright(tmp_path):
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


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 10 10
%%EndComments
showpage
%%EOF
"""


@pytest.mark.parametrize("read", [read_rgb, read_label, deep_maximum])
def test_postscript_under_any_name_starts_no_program(tmp_path, monkeypatch, read):
    # Pillow asks for Ghostscript's version first, then runs it on the file.
    started = []
    monkeypatch.setattr("subprocess.check_call", lambda *a, **k: started.append(a))
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: started.append(a))
    for name in ("x.jpg", "x.png", "x.eps"):
        (tmp_path / name).write_bytes(POSTSCRIPT)
        with pytest.raises(UserError, match=r"x\.\w+: not an? \w+ of a known format, expected"):
            read(tmp_path / name)
    assert started == []


@pytest.mark.parametrize("form", ["GIF", "PPM", "ICO", "TGA", "PCX", "JPEG2000"])
def test_formats_that_are_not_meant_are_refused_under_every_name(tmp_path, form):
    Image.fromarray(RGB).save(tmp_path / "x.png", format=form)
    with pytest.raises(UserError, match="content in the format JPEG or PNG or TIFF or BMP"):
        read_rgb(tmp_path / "x.png")


@pytest.mark.parametrize("form", ["BMP", "TIFF", "WEBP", "PNG", "JPEG"])
def test_formats_that_are_meant_are_read_under_every_name(tmp_path, form):
    flat = np.full((5, 7, 3), 90, np.uint8)
    Image.fromarray(flat).save(tmp_path / "x.jpg", format=form)
    assert np.array_equal(read_rgb(tmp_path / "x.jpg"), flat)


def test_masks_are_png_whatever_their_suffix(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "x.png", format="BMP")
    with pytest.raises(UserError, match=r"not a mask of a known format, expected .* PNG"):
        read_label(tmp_path / "x.png")


def test_phone_images_with_a_second_frame_are_read(tmp_path):
    first, second = Image.new("RGB", (7, 5), (90, 90, 90)), Image.new("RGB", (7, 5))
    first.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[second])
    assert np.array_equal(read_rgb(tmp_path / "x.jpg"), np.full((5, 7, 3), 90))


def write_bomb(path, side):
    """Write a gray PNG of side x side zeros: about a thousandth of its pixels."""

    def chunk(kind, data):
        code = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + code

    packer, row = zlib.compressobj(9), bytes(1 + side)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_too_many_pixels_are_refused_by_the_header(tmp_path):
    path = tmp_path / "x.png"
    write_bomb(path, 13_300)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read, what in ((read_rgb, "image"), (read_label, "mask")):
        with pytest.raises(UserError) as caught:
            read(path, max_pixels=MAX_PIXELS)
        assert str(caught.value) == (
            f"{path}: the {what} has 13300 x 13300 = 176890000 pixels, expected at most "
            "100000000: shrink it, or raise the configuration's max_pixels"
        )
    # Decoded it has 177 MB as it is, and 531 MB as RGB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_the_limit_of_pixels_is_inclusive_and_the_users(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png")
    assert read_rgb(tmp_path / "x.png", max_pixels=35).shape == (5, 7, 3)
    with pytest.raises(UserError, match="7 x 5 = 35 pixels, expected at most 34"):
        read_rgb(tmp_path / "x.png", max_pixels=34)


def whole_files():
    """Return small files of many kinds, by format."""
    gray, deep = RGB[..., 0], RGB[..., 0].astype(np.uint16) * 257
    exif = Image.Exif()
    exif[274] = 6
    clear = np.dstack([RGB, RGB[..., :1]])
    files = [
        ("JPEG", Image.fromarray(RGB), {"exif": exif}),
        ("JPEG", Image.fromarray(clear, "CMYK"), {"progressive": True}),
        ("PNG", Image.fromarray(deep), {}),
        ("PNG", Image.fromarray(clear), {"exif": exif}),
        ("PNG", Image.fromarray(gray).quantize(8), {"transparency": 1}),
        ("TIFF", Image.fromarray(RGB), {"compression": "tiff_lzw"}),
        ("TIFF", Image.fromarray(deep), {}),
        ("TIFF", Image.fromarray(RGB), {"compression": "jpeg"}),
        ("BMP", Image.fromarray(RGB), {}),
        ("WEBP", Image.fromarray(clear), {"lossless": True}),
    ]
    buffers = []
    for form, image, options in files:
        buffer = BytesIO()
        image.save(buffer, format=form, **options)
        buffers.append(buffer.getvalue())
    return buffers


MUTATION = st.tuples(st.floats(0, 1), st.integers(0, 255))


@settings(max_examples=400)
@given(
    st.sampled_from(whole_files()),
    st.lists(MUTATION, max_size=6),
    st.floats(0, 1) | st.just(1),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(tmp_path_factory, whole, mutations, kept):
    data = bytearray(whole[: round(kept * len(whole))])
    for place, value in mutations if data else ():
        data[round(place * (len(data) - 1))] = value
    path = tmp_path_factory.mktemp("fuzz") / "x.jpg"
    path.write_bytes(data)
    for read in (read_rgb, read_label):
        try:
            array = read(path, max_pixels=10_000)
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert array.dtype == np.uint8 and 0 < array.size <= 30_000
    with suppress(UserError):
        deep_maximum(path)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_the_range_of_16_bit_images_is_known(tmp_path, name):
    path = tmp_path / name
    for pixels, most in ((np.array([[7, 4095]], np.uint16), 4095), (RGB, None)):
        Image.fromarray(pixels).save(path)
        assert deep_maximum(path) == most
    big = np.array([[7, 4095]], ">u2")
    Image.frombytes("I;16B", (2, 1), big.tobytes()).save(tmp_path / "big.tif")
    assert deep_maximum(tmp_path / "big.tif") == 4095


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_the_range_of_deep_color_is_known_in_steps_of_256(tmp_path, name):
    color = np.full((4, 4, 3), 100, np.uint16)
    color[1, 2, 0] = 4000
    assert cv2.imwrite(str(tmp_path / name), color)
    assert deep_maximum(tmp_path / name) == 4095  # 15 * 256 + 255


def test_images_of_one_pixel_are_read(tmp_path):
    assert saved(tmp_path, Image.fromarray(RGB[:1, :1])).shape == (1, 1, 3)


def test_normalize_by_hand():
    image = np.array([[[255, 0, 51]]], np.uint8)
    values = normalize(image, (0.5, 0.0, 0.2), (0.5, 1.0, 0.1))
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


def test_a_damaged_file_of_the_workflows_own_is_not_for_the_user_to_replace(tmp_path):
    image = tmp_path / "demo/JPEGImages/a.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"\xff\xd8\xff")
    assert repair_advice(image) == "replace the file"
    (tmp_path / "demo/.snakemake_timestamp").touch()
    expected = f"delete the folder {tmp_path / 'demo'}, which the workflow makes again, and run"
    assert repair_advice(image).startswith(expected)
    with pytest.raises(UserError, match=f"a.jpg: .* whatever the file name: {expected}"):
        read_rgb(image)
    assert repair_advice(tmp_path / "a.jpg") == "replace the file"


def test_the_configuration_has_the_same_default_filter():
    schema = yaml.safe_load(
        (REPOSITORY / "pipeline/config/schema.yaml").read_text(encoding="utf-8")
    )
    section = schema["$defs"]["interpolation"]
    assert section["default"] == FILTER and set(section["enum"]) == set(FILTERS)
