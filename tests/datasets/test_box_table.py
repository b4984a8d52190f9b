import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets.folder import read_folder
from pipeline.datasets.manifest import Box
from pipeline.datasets.source import Source
from pipeline.datasets.tables import read_box_table
from pipeline.datasets.voc import read_voc
from pipeline.errors import UserError

NAMES = {"a": "a", "a.jpg": "a", "deep/b": "deep/b", "deep/b.png": "deep/b"}
HEADER = "image,label,left,top,right,bottom\n"


def boxes(tmp_path, text, encoding="utf-8"):
    (tmp_path / "boxes.csv").write_bytes(text.encode(encoding))
    source = Source(classes=("cat", "dog"))
    return read_box_table(tmp_path / "boxes.csv", NAMES, source), source.problems


def test_an_image_has_any_number_of_rows_under_any_of_its_names(tmp_path):
    text = "a.jpg,cat,0,1,2.5,3\n./deep/b,dog,-1,0,4,4\na,dog,3,3,4,4\n"
    read, problems = boxes(tmp_path, HEADER + text)
    assert problems == []
    assert read == {
        "a": (Box("cat", 0, 1, 2.5, 3), Box("dog", 3, 3, 4, 4)),
        "deep/b": (Box("dog", -1, 0, 4, 4),),
    }


def test_columns_may_be_in_any_order_and_others_are_ignored(tmp_path):
    text = "bottom, right,note,label,top,left,image\r\n9,8,far,cat,7,6,a\r\n"
    assert boxes(tmp_path, text, "utf-8-sig") == ({"a": (Box("cat", 6, 7, 8, 9),)}, [])


def test_a_table_without_rows_has_no_boxes(tmp_path):
    assert boxes(tmp_path, HEADER) == ({}, [])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("c.jpg,cat,0,0,1,1", "c.jpg has no image, expected a file of that name"),
        (",cat,0,0,1,1", "no name has no image, expected a file of that name"),
        ("a,dgo,0,0,1,1", "unknown label 'dgo', expected one of cat, dog: did you mean 'dog'?"),
        ("a,cat,0,x,1,1", "column top is 'x', expected a number of pixels"),
        ("a,cat,0,0,1", "column bottom is '', expected a number of pixels"),
        ("a,cat,nan,0,1,1", "column left is 'nan', expected a number of pixels"),
        ("a,cat,0,0,1e9,1", "column right is '1e9', expected a number of pixels"),
        (
            "a,cat,2,1,2,3",
            "the box ends at 2.0, 3.0, expected right of and below its start at 2.0, 1.0",
        ),
        (
            "a,cat,0,3,2,1",
            "the box ends at 2.0, 1.0, expected right of and below its start at 0.0, 3.0",
        ),
    ],
)
def test_a_bad_row_is_a_problem_with_its_line(tmp_path, row, problem):
    read, problems = boxes(tmp_path, f"{HEADER}\na,cat,0,0,1,1\n\n{row}\n")
    assert problems == [f"{tmp_path / 'boxes.csv'}, line 5: {problem}"]
    assert read["a"][0] == Box("cat", 0, 0, 1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its header is empty, expected image,label,left,top,right,bottom"),
        ("image,label,left,top,right\n", "expected image,label,left,top,right,bottom"),
        (HEADER.replace(",", ";"), "separated by commas, not ';'"),
        ("left," + HEADER, "names a column twice"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        boxes(tmp_path, text)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"absent.csv: no such table, expected a CSV table of boxes"
    ):
        read_box_table(tmp_path / "absent.csv", NAMES, Source())


CELLS = st.sampled_from(
    ["a", "b", "cat", "", "0", "1", "2.5", "-3", "nan", "inf", "1e400", '"', "\0"]
)
ROWS = st.lists(st.lists(CELLS, max_size=7).map(",".join), max_size=5).map("\n".join)


@given(st.text(max_size=60) | ROWS)
def test_any_text_is_a_table_of_real_boxes_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("table") / "boxes.csv"
    source = Source(classes=("cat", "dog"))
    path.write_bytes((HEADER + text).encode("utf-8", "surrogatepass"))
    try:
        read = read_box_table(path, NAMES, source)
    except UserError as error:
        assert str(path) in str(error)
        return
    assert read.keys() <= set(NAMES.values())
    for box in (box for items in read.values() for box in items):
        assert -1e9 < box.left < box.right < 1e9 and -1e9 < box.top < box.bottom < 1e9
        assert source.problems or box.label in source.classes


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    for name in ("a.jpg", "b.png", "c.jpg"):
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(folder / name)
    return tmp_path


def test_a_folders_images_have_the_boxes_of_their_rows(images):
    (images / "labels.csv").write_text("image,labels\na,cat\nb.png,dog\nc,cat\n", encoding="utf-8")
    # That an image is not labeled with a box's class is no problem: the box is not scored.
    (images / "boxes.csv").write_text(
        HEADER + "a,cat,0,0,1,1\nb,dog,1,1,2,2\na.jpg,dog,0,0,4,3\n", encoding="utf-8"
    )
    dataset = {
        "images": str(images / "JPEGImages"), "image_labels": str(images / "labels.csv"),
        "masks": None, "classes": None, "val_fraction": 0.5, "boxes": str(images / "boxes.csv"),
    }  # fmt: skip
    source = read_folder(dataset, seed=0)
    assert source.problems == []
    assert {c.id: c.boxes for c in source.candidates} == {
        "a": (Box("cat", 0, 0, 1, 1), Box("dog", 0, 0, 4, 3)),
        "b": (Box("dog", 1, 1, 2, 2),),
        "c": (),
    }
    assert not any(c.boxes for c in read_folder(dataset | {"boxes": None}, seed=0).candidates)


XML = (
    "<annotation><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax>"
    "<ymax>2</ymax></bndbox></object></annotation>"
)


@pytest.fixture
def voc(images):
    (images / "Annotations").mkdir()
    for name in ("a", "b"):
        (images / f"Annotations/{name}.xml").write_text(XML.format(2), encoding="utf-8")
    (images / "train.txt").write_text("a\n", encoding="utf-8")
    (images / "val.txt").write_text("b\n", encoding="utf-8")
    (images / "boxes.csv").write_text(
        HEADER + "a.jpg,dog,0,0,3,3\nc,cat,0,0,1,1\n", encoding="utf-8"
    )
    return {
        "root": str(images), "train_list": "train.txt", "val_list": "val.txt", "image_labels": None,
        "masks": None, "classes": None, "boxes": "boxes.csv",
    }  # fmt: skip


def test_a_table_replaces_the_boxes_of_all_annotations(voc):
    source = read_voc(voc)
    assert source.problems == []  # c is an image that the lists leave out
    assert [(c.id, c.labels, c.boxes) for c in source.candidates] == [
        ("a", ("dog",), (Box("dog", 0, 0, 3, 3),)),
        ("b", ("dog",), ()),
    ]
    assert read_voc(voc | {"boxes": None}).candidates[1].boxes == (Box("dog", 0, 0, 2, 2),)


def test_annotated_boxes_that_a_table_replaces_are_not_read(voc, images):
    (images / "Annotations/a.xml").write_text(XML.format("wide"), encoding="utf-8")
    assert read_voc(voc).problems == []
    alone = read_voc(voc | {"boxes": None})
    assert alone.problems == [] and len(alone.unusable_boxes) == 1


def test_a_row_without_an_image_is_a_problem(voc, images):
    (images / "boxes.csv").write_text(HEADER + "zz.jpg,dog,0,0,3,3\n", encoding="utf-8")
    (problem,) = read_voc(voc).problems
    assert "boxes.csv, line 2: zz.jpg has no image" in problem
