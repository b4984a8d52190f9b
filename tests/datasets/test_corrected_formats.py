"""Corrected masks in the formats of annotation tools: which pixels their shapes cover."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from pipeline.datasets.corrected.files import find_corrected
from pipeline.datasets.manifest import Record
from pipeline.errors import UserError
from pipeline.export.polygons import polygons
from pipeline.io.arrays import write_label
from tests.helpers.corrected import png_of, write_coco, write_cvat, write_labelme

CLASSES = ("cat", "dog")
SIZE = (5, 6)
RECORD = Record("a", Path("a.jpg"), 6, 5, "train", ("cat",))


def drawn(path, record=RECORD):
    (found,) = find_corrected(path)
    return found.read(record, CLASSES)


def labelme(folder, *shapes, **changes):
    document = {"shapes": list(shapes), "imagePath": "a.jpg", "imageHeight": 5, "imageWidth": 6}
    path = folder / "a.json"
    path.write_text(json.dumps(document | changes), encoding="utf-8")
    return path


def shape(kind, points, label="cat", **more):
    return {"label": label, "shape_type": kind, "points": points, **more}


def cvat(folder, *shapes):
    path = folder / "annotations.xml"
    nodes = "".join(shapes)
    path.write_text(
        "<annotations><version>1.1</version><meta/>"
        f'<image id="0" name="a.jpg" width="6" height="5">{nodes}</image></annotations>',
        encoding="utf-8",
    )
    return path


def coco_file(folder, *annotations, **image):
    document = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 5, "width": 6, **image}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 3, **one} for one in annotations],
    }
    path = folder / "coco.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


#: A triangle whose legs end behind the center of pixel 3: 4 + 3 + 2 + 1 pixels.
TRIANGLE = [[0, 0], [4.6, 0], [0, 4.6]]
TRIANGLE_PIXELS = [
    [1, 1, 1, 1, 0, 0],
    [1, 1, 1, 0, 0, 0],
    [1, 1, 0, 0, 0, 0],
    [1, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0],
]
#: A box from (1, 1) to (4, 3).
BOX_PIXELS = [
    [0, 0, 0, 0, 0, 0],
    [0, 1, 1, 1, 0, 0],
    [0, 1, 1, 1, 0, 0],
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0],
]
#: The pixels around (2, 2): centers within 1.5 of (2.5, 2.5).
CIRCLE_PIXELS = [
    [0, 0, 0, 0, 0, 0],
    [0, 1, 1, 1, 0, 0],
    [0, 1, 1, 1, 0, 0],
    [0, 1, 1, 1, 0, 0],
    [0, 0, 0, 0, 0, 0],
]
#: The column of x = 2.
COLUMN_PIXELS = [[0, 0, 1, 0, 0, 0]] * 5
#: From the upper left to the lower right.
DIAGONAL_PIXELS = np.eye(5, 6, dtype=int)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (shape("polygon", TRIANGLE), TRIANGLE_PIXELS),
        (shape(None, TRIANGLE), TRIANGLE_PIXELS),
        (shape("rectangle", [[4, 3], [1, 1]]), BOX_PIXELS),
        (shape("oriented_rectangle", [[1, 1], [4, 1], [4, 3], [1, 3]]), BOX_PIXELS),
        (shape("circle", [[2.5, 2.5], [2.5, 4.0]]), CIRCLE_PIXELS),
        (
            shape("mask", [[1.0, 1.0], [3.0, 2.0]], mask=png_of(np.ones((2, 3), bool))),
            BOX_PIXELS,
        ),
    ],
)
def test_shapes_of_labelme_cover_the_pixels_whose_centers_they_contain(tmp_path, one, expected):
    np.testing.assert_array_equal(drawn(labelme(tmp_path, one)), expected)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        ('<polygon label="cat" points="0,0;4.6,0;0.0,4.6" z_order="0"/>', TRIANGLE_PIXELS),
        ('<box label="cat" xtl="1" ytl="1" xbr="4" ybr="3"/>', BOX_PIXELS),
        ('<box label="cat" xtl="0" ytl="2" xbr="5" ybr="3" rotation="90"/>', COLUMN_PIXELS),
        ('<ellipse label="cat" cx="2.5" cy="2.5" rx="1.5" ry="1.5"/>', CIRCLE_PIXELS),
        ('<ellipse label="cat" cx="2.5" cy="2.5" rx="3" ry="0.6" rotation="90"/>', COLUMN_PIXELS),
        ('<ellipse label="cat" cx="2.5" cy="2.5" rx="4" ry="0.6" rotation="45"/>', DIAGONAL_PIXELS),
        # Row by row: a run of 0, six of 1, and so on.
        ('<mask label="cat" rle="0, 6" left="1" top="1" width="3" height="2"/>', BOX_PIXELS),
        (
            '<mask label="cat" rle="0,4,2,3,3,2,4,1,5" left="0" top="0" width="6" height="4"/>',
            TRIANGLE_PIXELS,
        ),
    ],
)
def test_shapes_of_cvat_cover_the_pixels_whose_centers_they_contain(tmp_path, one, expected):
    np.testing.assert_array_equal(drawn(cvat(tmp_path, one)), expected)


@pytest.mark.parametrize("crowd", [0, 1])
def test_segmentations_of_coco(tmp_path, crowd):
    flat = [value for point in TRIANGLE for value in point]
    expected = np.array(TRIANGLE_PIXELS)
    compressed = coco.encode(np.asfortranarray(expected, np.uint8))
    column_by_column = [0, 4, 1, 3, 2, 2, 3, 1, 14]
    for segmentation in (
        [flat],
        [flat, [0, 0, 1, 0, 1, 1, 0, 1]],
        {"size": [5, 6], "counts": column_by_column},
        {"size": [5, 6], "counts": compressed["counts"].decode()},
    ):
        path = coco_file(tmp_path, {"segmentation": segmentation, "iscrowd": crowd})
        np.testing.assert_array_equal(drawn(path), expected)


def test_the_last_or_the_highest_shape_is_on_top_and_in_coco_the_smallest(tmp_path):
    big, small = [[0, 0], [6, 5]], [[0, 0], [2, 1]]
    expected = np.full(SIZE, 1)
    expected[0, :2] = 2
    for folder in "lcx":
        (tmp_path / folder).mkdir()
    shapes = shape("rectangle", big), shape("rectangle", small, "dog")
    np.testing.assert_array_equal(drawn(labelme(tmp_path / "l", *shapes)), expected)
    assert (drawn(labelme(tmp_path / "l", *shapes[::-1])) == 1).all()

    def box(label, corners, z):
        (left, top), (right, bottom) = corners
        edges = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
        return f'<box label="{label}" {edges} z_order="{z}"/>'

    above = box("dog", small, 3), box("cat", big, -1)
    np.testing.assert_array_equal(drawn(cvat(tmp_path / "x", *above)), expected)
    equal = box("cat", big, 0), '<tag label="cat"/>', box("dog", small, 0)
    np.testing.assert_array_equal(drawn(cvat(tmp_path / "x", *equal)), expected)

    parts = (
        {"segmentation": [[0, 0, 2, 0, 2, 1, 0, 1]], "category_id": 4},
        {"segmentation": [[0, 0, 6, 0, 6, 5, 0, 5]]},
    )
    for annotations in (parts, parts[::-1]):
        path = coco_file(tmp_path / "c", *annotations)
        np.testing.assert_array_equal(drawn(path), expected)


def test_background_and_ignored_pixels_have_names_that_a_class_may_take(tmp_path):
    whole = [[0, 0], [6, 5]]
    names = {"background": 0, "_background_": 0, "ignore": 255, "void": 255, "__ignore__": 255}
    for name, value in names.items():
        path = labelme(tmp_path, shape("rectangle", whole), shape("rectangle", whole, name))
        assert (drawn(path) == value).all()
    (found,) = find_corrected(labelme(tmp_path, shape("rectangle", whole, "void")))
    assert (found.read(RECORD, ("cat", "void")) == 2).all()


def test_pixels_to_ignore_of_this_projects_export_are_below_the_annotations(tmp_path):
    ignored = {"size": [5, 6], "counts": [0, 10, 20]}  # the first two columns
    first_column = {"segmentation": [[0, 0, 1, 0, 1, 5, 0, 5]]}
    label = drawn(coco_file(tmp_path, first_column, ignore=ignored))
    np.testing.assert_array_equal(label, np.tile([1, 255, 0, 0, 0, 0], (5, 1)))
    assert drawn(coco_file(tmp_path, first_column, ignore=0))[0].tolist() == [1, 0, 0, 0, 0, 0]


LABELS = arrays(
    np.uint8,
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    elements=st.sampled_from([0, 1, 2, 255]),
)


@pytest.mark.parametrize("write", [write_coco, write_labelme, write_cvat])
@given(label=LABELS)
def test_a_label_image_survives_every_tool(write, label):
    with TemporaryDirectory() as folder:
        name = {write_coco: "c.json", write_labelme: "l", write_cvat: "c.xml"}[write]
        write(Path(folder, name), {"a.jpg": label})
        record = Record("a", Path("a.jpg"), label.shape[1], label.shape[0], "train", ())
        np.testing.assert_array_equal(drawn(Path(folder, name), record), label)


@given(mask=arrays(bool, (9, 8)).filter(np.any))
def test_polygons_of_this_projects_export_are_read_back_up_to_their_corners(mask):
    with TemporaryDirectory() as folder:
        rings = [ring.ravel().tolist() for ring in polygons(mask, 0)]
        path = coco_file(Path(folder), {"segmentation": rings}, height=9, width=8)
        record = Record("a", Path("a.jpg"), 8, 9, "train", ())
        np.testing.assert_array_equal(drawn(path, record), mask)


SHAPES = [
    ("cat", [[0, 0], [1, 1]], "polygon", {}, "a polygon has 2 points, expected three or more"),
    ("cat", [[0, 0], [1, 1]], "line", {}, "its type is 'line', expected an area: polygon, re"),
    ("cat", [[0, 0]], "circle", {}, "a circle has 1 points, expected two"),
    ("cat", [[0, 0], [0, 0]], "circle", {}, "its radii are 0 and 0, expected lengths above 0"),
    ("cat", [[0, 0], ["x", 0]], "rectangle", {}, "its points are no numbers"),
    ("cat", [[0, 0], [float("nan"), 0]], "rectangle", {}, "pairs of finite x and y"),
    ("cat", [[0, 0], [1e9, 0], [0, 1]], "polygon", {}, r"its point \(1e\+09, 0\) is far outside"),
    ("cat", [[-6, -5], [12, 10]] * 99, "polygon", {}, "longer than the outline of any region"),
    ("cat", [[0, 0], [1, 1]], "mask", {"mask": "%"}, "no complete PNG in base64"),
    ("cat", [[0, 0], [1, 1]], "mask", {"mask": None}, "no complete PNG in base64"),
    ("cat", [[0, 0], [1, 1]], "mask", {"mask": png_of(np.ones((9, 9), bool))}, "9x9, expected 2x2"),
    ("cat", [[5, 4], [6, 5]], "mask", {"mask": png_of(np.ones((2, 2), bool))}, "extends beyond"),
    ("cat", [[0, 0], [9, 0]], "mask", {"mask": ""}, "a box of 10x1, expected a part of the image"),
    ("cta", [[0, 0], [1, 1]], "rectangle", {}, "unknown label 'cta', expected .*: did you mean"),
]


@pytest.mark.parametrize(("label", "points", "kind", "more", "message"), SHAPES)
def test_a_damaged_shape_of_labelme_is_named_in_one_line(
    tmp_path, label, points, kind, more, message
):
    path = labelme(tmp_path, shape("circle", [[2, 2], [3, 3]]), shape(kind, points, label, **more))
    with pytest.raises(UserError, match=f"{path}, a.jpg, shape 2: .*{message}") as caught:
        drawn(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ('<polyline label="cat" points="0,0;1,1"/>', "it is a <polyline>, expected an area"),
        ('<polygon label="cat" points="0,0;1;2,2"/>', "its points are no numbers"),
        ('<polygon label="cat"/>', "its points are n"),
        ('<box label="cat" xtl="1" ytl="1" xbr="4"/>', "a <box> has no ybr, expected one"),
        ('<ellipse label="cat" cx="1" cy="1" rx="nan" ry="1"/>', "its radii are nan and 1"),
        ('<mask label="cat" rle="1,4" left="0" top="0" width="2" height="2"/>', "sum to 5 pixels"),
        ('<mask label="cat" rle="-1,5" left="0" top="0" width="2" height="2"/>', "lengths of 0 or"),
        ('<mask label="cat" rle="4" left="5" top="0" width="2" height="2"/>', "extends beyond"),
        ('<mask label="cat" rle="1" left="0" top="0" width="9999" height="9999"/>', "at most 6x5"),
        ('<mask label="cat" left="0" top="0" width="2" height="2"/>', "has no rle"),
    ],
)  # fmt: skip
def test_a_damaged_shape_of_cvat_is_named_in_one_line(tmp_path, one, message):
    with pytest.raises(UserError, match=f"a.jpg, shape 1: .*{message}") as caught:
        drawn(cvat(tmp_path, one))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "it has no segmentation, expected polygons or run lengths: a box is not a mask"),
        ([], "it has no segmentation"),
        ([[0, 0, 1, 1]], "a polygon has 2 points"),
        ([[0, 0, 1, 1, 2]], "its points are not complete"),
        ({"size": [6, 5], "counts": [30]}, "its size is .6, 5., expected that of the image"),
        ({"size": [5, 6], "counts": [31]}, "its run lengths sum to 31 pixels"),
        ({"size": [5, 6], "counts": "oops\x7f"}, "its counts are damaged"),
    ],
)
def test_a_damaged_segmentation_of_coco_is_named_in_one_line(tmp_path, segmentation, message):
    with pytest.raises(UserError, match=f"a.jpg, shape 1: {message}") as caught:
        drawn(coco_file(tmp_path, {"segmentation": segmentation}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["labelme", "cvat", "coco", "png"])
def test_a_mask_of_another_size_is_refused(tmp_path, kind):
    if kind == "labelme":
        path = labelme(tmp_path, shape("rectangle", [[0, 0], [1, 1]]), imageHeight=9)
    elif kind == "cvat":
        path = cvat(tmp_path, '<box label="cat" xtl="1" ytl="1" xbr="4" ybr="3"/>')
        path.write_text(
            path.read_text(encoding="utf-8").replace('height="5"', 'height="9"'), encoding="utf-8"
        )
    elif kind == "coco":
        path = coco_file(tmp_path, {"segmentation": [[0, 0, 1, 0, 1, 1]]}, height=9)
    else:
        path = tmp_path / "a.png"
        write_label(path, np.zeros((9, 6), np.uint8))
    with pytest.raises(UserError, match=r"6x9, expected 6x5 as a\.jpg"):
        drawn(path)
