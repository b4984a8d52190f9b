import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.manifest import Box
from pipeline.datasets.voc import CLASSES, read_list, read_voc
from pipeline.errors import UserError
from pipeline.io.user_files import file_problem

XML = "<annotation>{}</annotation>"
OBJECT = "<object><name>{}</name><difficult>{}</difficult></object>"


@pytest.fixture
def root(tmp_path):
    for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "b", "c"):
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / f"JPEGImages/{name}.jpg")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "SegmentationClass/a.png")
    objects = [("dog", 0), ("cat", 1), ("dog", 0)]
    text = XML.format("".join(OBJECT.format(*item) for item in objects))
    (tmp_path / "Annotations/a.xml").write_text(text, encoding="utf-8")
    (tmp_path / "Annotations/b.xml").write_text(XML.format(""), encoding="utf-8")
    (tmp_path / "Annotations/c.xml").write_text(
        XML.format(OBJECT.format("bird", 0)), encoding="utf-8"
    )
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\n\nb\n", encoding="utf-8")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("c\n", encoding="utf-8")
    return tmp_path


def settings(root, **changes):
    return {
        "kind": "voc",
        "root": str(root),
        "train_list": "ImageSets/Segmentation/train.txt",
        "val_list": "ImageSets/Segmentation/val.txt",
        "image_labels": None,
        "masks": "SegmentationClass",
        "classes": None,
    } | changes


def test_labels_come_from_annotations_difficult_objects_included(root):
    source = read_voc(settings(root))
    assert source.problems == []
    assert source.classes == CLASSES and len(CLASSES) == 20
    assert [(c.id, c.split, c.labels) for c in source.candidates] == [
        ("a", "train", ("dog", "cat")),
        ("b", "train", ()),
        ("c", "val", ("bird",)),
    ]
    assert [c.mask is not None for c in source.candidates] == [True, False, False]


BOXED = (
    "<object><name>dog</name><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>3</xmax><ymax>2.5</ymax></bndbox></object>"
)


def test_boxes_count_pixels_from_zero_and_end_after_the_last_one(root):
    (root / "Annotations/a.xml").write_text(
        XML.format(BOXED.format(2) + OBJECT.format("cat", 0)), encoding="utf-8"
    )
    source = read_voc(settings(root))
    assert source.problems == []
    assert source.candidates[0].boxes == (Box("dog", 1, 0, 3, 2.5),)
    assert source.candidates[1].boxes == ()


@pytest.mark.parametrize("value", ["", "x", "9", "inf", "-1e308", "nan", "1e999"])
def test_a_box_that_is_none_leaves_the_labels(root, value):
    (root / "Annotations/a.xml").write_text(XML.format(BOXED.format(value)), encoding="utf-8")
    source = read_voc(settings(root))
    assert source.problems == []
    assert (source.candidates[0].labels, source.candidates[0].boxes) == (("dog",), ())
    (line,) = source.unusable_boxes
    assert "a.xml: a bndbox is invalid" in line


EMPTY = (
    "<object><name>cow</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax>"
    "<ymax>{3}</ymax></bndbox></object>"
)


@pytest.mark.parametrize(
    ("corners", "empty"),
    [
        ((2, 1, 2, 3), True), ((1, 2, 3, 2), True), ((1.2, 1, 1.9, 3), True),
        ((1, 1, 2, 2), False), ((1.9, 1, 2.1, 3), False),
    ],
)  # fmt: skip
def test_objects_without_area_are_labels_unless_they_are_skipped(root, corners, empty):
    """The published code takes xmax - xmin, in whole pixels, for a width."""
    text = XML.format(EMPTY.format(*corners) + OBJECT.format("cat", 0))
    (root / "Annotations/a.xml").write_text(text, encoding="utf-8")
    kept = read_voc(settings(root, empty_boxes="keep")).candidates[0]
    assert kept.labels == ("cow", "cat") and len(kept.boxes) == 1
    source = read_voc(settings(root, empty_boxes="skip"))
    found = source.candidates[0]
    assert source.problems == []
    assert found.labels == (("cat",) if empty else ("cow", "cat"))
    assert len(found.boxes) == (0 if empty else 1)


def test_an_object_that_has_another_box_is_a_label(root):
    text = XML.format(EMPTY.format(2, 1, 2, 3) + EMPTY.format(1, 1, 3, 3))
    (root / "Annotations/a.xml").write_text(text, encoding="utf-8")
    found = read_voc(settings(root, empty_boxes="skip")).candidates[0]
    assert found.labels == ("cow",) and found.boxes == (Box("cow", 0, 0, 3, 3),)


def test_labels_come_from_a_table(root):
    (root / "labels.csv").write_text("image,labels\na.jpg,cow\nb,sofa\nc,\n", encoding="utf-8")
    source = read_voc(settings(root, image_labels="labels.csv"))
    assert source.problems == []
    assert [c.labels for c in source.candidates] == [("cow",), ("sofa",), ()]


def test_own_class_names(root):
    source = read_voc(settings(root, classes=["dog", "bird", "cat"]))
    assert source.problems == []
    source = read_voc(settings(root, classes=["dog", "birds"]))
    assert any("unknown label 'bird'" in p and "'birds'" in p for p in source.problems)


def test_the_lists_of_train_aug_are_read(root):
    lines = "/JPEGImages/a.jpg /SegmentationClassAug/a.png\n/JPEGImages/b.jpg /x/b.png\n"
    (root / "aug.txt").write_text(lines, encoding="utf-8")
    source = read_voc(settings(root, train_list="aug.txt"))
    assert [c.id for c in source.candidates] == ["a", "b", "c"]


def test_candidates_have_no_mask_without_masks(root):
    assert not any(c.mask for c in read_voc(settings(root, masks=None)).candidates)


def test_lists_and_labels_may_ship_with_the_workflow(root, tmp_path, monkeypatch):
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "train.txt").write_text("b\n", encoding="utf-8")
    (home / "labels.csv").write_text("image,labels\nb,cow\nc,sheep\nunused,cat\n", encoding="utf-8")
    monkeypatch.setattr("pipeline.datasets.paths.HOME", home)
    source = read_voc(
        settings(root, train_list="<workflow>/train.txt", image_labels="<workflow>/labels.csv")
    )
    found = [(c.id, c.split, c.labels) for c in source.candidates]
    assert found == [("b", "train", ("cow",)), ("c", "val", ("sheep",))]


def test_listed_images_that_are_absent_are_named(root):
    (root / "ImageSets/Segmentation/val.txt").write_text("c\nzz\n", encoding="utf-8")
    assert any("zz: no such image" in problem for problem in read_voc(settings(root)).problems)


def test_a_missing_list_is_named(root):
    with pytest.raises(UserError, match=r"nope.txt: no such list"):
        read_voc(settings(root, train_list="nope.txt"))


def test_an_image_without_a_row_is_named(root):
    (root / "labels.csv").write_text("image,labels\na,cow\n", encoding="utf-8")
    problems = read_voc(settings(root, image_labels="labels.csv")).problems
    assert sum("image without a row" in problem for problem in problems) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<annotation><object>", "not well-formed XML"),
        ("<?xml version='1.0' encoding='utf-8'?><annotation>\xe4</annotation>", "not well-formed"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "not well-formed XML"),
        ('<!DOCTYPE x [<!ENTITY e "dog">]><annotation/>', "got a document type"),
    ],
)
def test_bad_annotations_are_named(root, text, problem):
    (root / "Annotations/a.xml").write_text(text, encoding="latin-1")
    (found,) = [p for p in read_voc(settings(root)).problems if "a.xml" in p]
    assert problem in found


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16"])
def test_an_annotation_is_read_in_the_encoding_that_it_declares(root, encoding):
    (root / "Annotations/a.xml").write_text(
        f"<?xml version='1.0' encoding='{encoding}'?><annotation><folder>Käfer</folder>"
        "<object><name>dog</name></object></annotation>",
        encoding=encoding,
    )
    source = read_voc(settings(root))
    assert next(c.labels for c in source.candidates if c.id == "a") == ("dog",)
    (root / "Annotations/a.xml").write_text("<!DOCTYPE x><annotation/>", encoding=encoding)
    assert any("got a document type" in problem for problem in read_voc(settings(root)).problems)


OTHER_WRITERS = {
    "YOLO": "0 0.5 0.5 0.2 0.2\n",
    "JSON": '{"shapes": [{"label": "dog"}]}',
    "nothing": "",
    "truncated": XML.format(OBJECT.format("dog", 0))[:40],
    "two documents": XML.format("") + XML.format(OBJECT.format("dog", 0)),
    "multi-byte": "<?xml version='1.0' encoding='gb2312'?><annotation/>",
    "wrapper": XML.format(f"<objects>{OBJECT.format('dog', 0)}</objects>"),
}


@pytest.mark.parametrize("writer", OTHER_WRITERS)
def test_annotations_of_other_writers_are_refused_instead_of_read_as_no_label(root, writer):
    (root / "Annotations/b.xml").write_text(OTHER_WRITERS[writer], encoding="utf-8")
    (problem,) = read_voc(settings(root)).problems
    assert problem.startswith(f"{root / 'Annotations/b.xml'}: ") and "expected" in problem
    assert "\n" not in problem and problem.endswith("or set `image_labels: FILE.csv`")


def test_images_and_masks_may_have_uppercase_suffixes(root):
    for name, other in (("a.jpg", "a.JPG"), ("b.jpg", "b.Jpeg"), ("c.jpg", "c.PNG")):
        (root / "JPEGImages" / name).rename(root / "JPEGImages" / other)
    (root / "SegmentationClass/a.png").rename(root / "SegmentationClass/a.PNG")
    (root / "labels.csv").write_text("image,labels\na.jpg,cow\nb.Jpeg,sofa\nc,\n", encoding="utf-8")
    boxes = "image,label,left,top,right,bottom\na.jpg,cow,0,0,1,1\n"
    (root / "boxes.csv").write_text(boxes, encoding="utf-8")
    source = read_voc(settings(root, image_labels="labels.csv", boxes="boxes.csv"))
    assert source.problems == []
    assert [c.image.name for c in source.candidates] == ["a.JPG", "b.Jpeg", "c.PNG"]
    assert [c.labels for c in source.candidates] == [("cow",), ("sofa",), ()]
    assert source.candidates[0].mask == root / "SegmentationClass/a.PNG"
    assert source.candidates[0].boxes == (Box("cow", 0, 0, 1, 1),)


def test_two_images_or_rows_with_one_id_are_reported(root):
    (root / "JPEGImages/a.PNG").touch()
    (root / "JPEGImages/unlisted.jpg").touch()
    (root / "JPEGImages/unlisted.png").touch()
    (root / "labels.csv").write_text("image,labels\na,cow\nb,\nc,\nb.jpg,sofa\n", encoding="utf-8")
    rows, images = read_voc(settings(root, image_labels="labels.csv")).problems
    assert rows == "rows b and b.jpg of the table of labels name the same image"
    assert images.startswith(f"{root / 'JPEGImages/a.jpg'}: a.PNG has the same name")


KNOWN = {"a", "my photo", "my photo 1", "2007.5", "b"}


@pytest.mark.parametrize(
    ("line", "image_id"),
    [
        ("a", "a"),
        ("a.jpg", "a"),
        ("a.JPEG", "a"),
        ("a.xml", "a"),
        ("a -1", "a"),
        ("JPEGImages/a.jpg SegmentationClass/a.png", "a"),
        ('"a"', "a"),
        ("'a.jpg'", "a"),
        ("my photo", "my photo"),
        ("my photo.jpg", "my photo"),
        ("/JPEGImages/my photo.jpg /SegmentationClass/my photo.png", "my photo"),
        ('"my photo" "masks/my photo.png"', "my photo"),
        ("my photo 1", "my photo 1"),
        ("my photo  -1", "my photo"),
        ("2007.5", "2007.5"),
        ("2007.5.png", "2007.5"),
        ("  b\t1 ", "b"),
        ("zz", "zz"),
        ("zz yy", "zz"),
        ("a.txt", "a.txt"),
        ("x/zz.jpg", "zz"),
    ],
)
def test_an_id_may_have_a_suffix_quotes_and_spaces(tmp_path, line, image_id):
    (tmp_path / "list.txt").write_text(f"{line}\n", encoding="utf-8")
    assert read_list(tmp_path / "list.txt", KNOWN) == [image_id]


def test_mask_values_apply_only_to_masks(root):
    classes = ["bird", "cat", "dog"]
    given = settings(root, classes=classes, mask_values={"0": "bird", "255": "background"})
    assert read_voc(given).mask_values == {0: 1, 255: 0}
    assert read_voc(given | {"masks": None, "mask_values": None}).mask_values is None
    assert read_voc(settings(root)).mask_values is None


def test_a_list_may_have_a_byte_order_mark_and_no_other_encoding(root):
    path = root / settings(root)["train_list"]
    ids = read_list(path)
    path.write_text("\n".join(ids), encoding="utf-8-sig")
    assert read_list(path) == ids
    path.write_bytes(b"\xe4")
    with pytest.raises(UserError, match=r"train\.txt: not UTF-8 text .*: save the list as UTF-8"):
        read_list(path)


def test_a_missing_annotation_is_reported_with_alternatives(root):
    (root / "Annotations/a.xml").unlink()
    assert any("image_labels: FILE.csv" in problem for problem in read_voc(settings(root)).problems)


def test_real_images_are_read(voc_subset):
    source = read_voc(settings(voc_subset, image_labels="labels.csv"))
    assert source.problems == []
    splits = [c.split for c in source.candidates]
    assert (splits.count("train"), splits.count("val")) == (799, 250)
    assert all(c.mask and c.labels for c in source.candidates)
    assert {name for c in source.candidates for name in c.labels} == set(CLASSES)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to(path), "its symbolic links form a loop"),
        (Path.mkdir, "a folder"),
    ],
)
def test_what_is_no_file_is_refused_in_the_place_of_every_file(root, make, words):
    def replace(name):
        (root / name).unlink()
        make(root / name)

    replace("Annotations/a.xml")
    (problem,) = read_voc(settings(root)).problems
    assert f"a.xml: {words}, expected an annotation" in problem
    # Images and masks are no problem of the lists: they are refused when they are decoded.
    replace("JPEGImages/a.jpg")
    replace("SegmentationClass/a.png")
    candidate = read_voc(settings(root)).candidates[0]
    assert file_problem(candidate.image) == f"{words}, expected a file"
    assert candidate.mask is not None and words in (file_problem(candidate.mask) or "")
    replace("ImageSets/Segmentation/val.txt")
    with pytest.raises(UserError, match=rf"val\.txt: {words}, expected a list$"):
        read_voc(settings(root))


def test_an_id_that_no_file_can_have_is_a_problem(root):
    (root / "ImageSets/Segmentation/val.txt").write_text(
        "c\n" + "x" * 300 + "\nnul\0\n", encoding="utf-8"
    )
    problems = read_voc(settings(root)).problems
    assert len(problems) == 2 and all("no such image" in problem for problem in problems)


def test_a_score_list_removes_the_masks_of_other_training_images(root):
    for name in ("b", "c"):
        (root / f"SegmentationClass/{name}.png").symlink_to(root / "SegmentationClass/a.png")
    (root / "Annotations/a.xml").write_text(XML.format(BOXED.format(2)), encoding="utf-8")
    (root / "Annotations/b.xml").write_text(XML.format(BOXED.format(2)), encoding="utf-8")
    (root / "scored.txt").write_text("b\nb\n", encoding="utf-8")
    whole, source = (
        read_voc(settings(root, **more)) for more in ({}, {"score_list": "scored.txt"})
    )
    assert source.problems == []
    known = {c.id: (c.mask is not None, len(c.boxes)) for c in source.candidates}
    assert known == {"a": (False, 0), "b": (True, 1), "c": (True, 0)}
    # What is learned from is the same.
    assert [(c.id, c.labels) for c in source.candidates] == [
        (c.id, c.labels) for c in whole.candidates
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "scored.txt: the list is empty, expected ids of training images"),
        ("a\nc\nz\n", "scored.txt: 2 of 3 ids are not in the training list, first c, expected"),
        (
            "a\nb\n",
            "scored.txt: 1 of 2 ids have no mask in {}, "
            "first b.png, expected a mask for each scored image",
        ),
    ],
)
def test_a_list_to_score_on_names_what_cannot_be_scored(root, text, message):
    (root / "scored.txt").write_text(text, encoding="utf-8")
    (problem,) = read_voc(settings(root, score_list="scored.txt")).problems
    assert problem.startswith(str(root))
    assert message.format(root / "SegmentationClass") in problem
