"""Files of corrected masks: their format, their images, and what cannot be used."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.contradictions import MaskContents
from pipeline.datasets.corrected.drawn import DrawnImage
from pipeline.datasets.corrected.files import IndexImage, find_corrected
from pipeline.datasets.corrected.matching import (
    contradiction_findings,
    image_id_of,
    match_images,
    review_row,
)
from pipeline.datasets.corrected.table import read_corrected, supervision
from pipeline.datasets.manifest import Manifest, Record
from pipeline.errors import UserError
from pipeline.io.arrays import write_label
from tests.helpers.corrected import write_coco, write_cvat, write_labelme

LABEL = np.array([[0, 1, 1], [0, 2, 255]], np.uint8)
DOCUMENT = '{"images": [], "annotations": [], "categories": []}'


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_coco, "annotations/instances_default.json"),
        (write_labelme, "."),
        (write_cvat, "a.xml"),
    ],
)
def test_pngs_beside_the_files_of_a_tool_are_its_images(tmp_path, write, name):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    (tmp_path / "data_card.json").write_text("{}", encoding="utf-8")
    (tmp_path / "other.xml").write_text("<annotation/>", encoding="utf-8")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, {"a.png": LABEL})
    (found,) = find_corrected(tmp_path)
    assert isinstance(found, DrawnImage) and found.image == "a.png"


def test_an_export_of_this_project_is_a_folder_of_index_pngs(tmp_path):
    for name in ("masks/train/a", "masks/train/b"):
        write_label(tmp_path / f"{name}.png", LABEL)
    for name in ("classes.json", "data_card.json"):
        (tmp_path / name).write_text('{"0": "background"}', encoding="utf-8")
    found = find_corrected(tmp_path)
    assert [item.image for item in found] == ["masks/train/a.png", "masks/train/b.png"]
    record = Record("a", Path("a.jpg"), 3, 2, "train", ())
    np.testing.assert_array_equal(found[0].read(record, ("cat", "dog")), LABEL)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "a.json: damaged .*: export it again"),
        ("a.json", "[" * 100_000, "a.json: damaged"),
        ("a.json", "[1]", "in an unknown format, expected index PNGs ID.png, a JSON file of COCO"),
        ("a.json", DOCUMENT, "no shape is drawn"),
        ("a.json", '{"shapes": [], "imagePath": "x"}', "no shape is drawn"),
        ("a.json", '{"shapes": 5, "imagePath": "x"}', "not a complete file of labelme"),
        ("a.json", '{"shapes": [{}], "imagePath": "x"}', r"KeyError: 'label'\), expected shapes"),
        (
            "a.json",
            DOCUMENT.replace('tations": []', 'tations": [{"category_id": 1}]'),
            r"not complete COCO annotations \(KeyError: 1\)",
        ),
        ("a.xml", "<annotations>", r"a.xml: damaged \(not well-formed XML"),
        ("a.xml", "<annotation/>", "in an unknown format"),
        ("a.xml", "<annotations/>", "no shape is drawn"),
        ("a.xml", "<annotations><track/></annotations>", "annotations of a video, expected"),
        ("a.xml", '<annotations><image name="x"/></annotations>', r"KeyError: 'height'\), exp"),
        (
            "a.xml",
            '<!DOCTYPE x [<!ENTITY e "ha">]><annotations>&e;</annotations>',
            "got a document type, expected annotations of CVAT without one",
        ),
        ("a.zip", "PK\x03\x04", "a ZIP file: unpack it"),
        ("a.txt", "hello", "no JSON and no XML, expected index PNGs"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        find_corrected(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_entities_are_not_expanded(tmp_path):
    """A billion laughs would need gigabytes."""
    levels = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 12))
    path = tmp_path / "a.xml"
    path.write_text(
        f'<!DOCTYPE x [<!ENTITY e0 "ha">{levels}]><annotations>&e11;</annotations>',
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="got a document type"):
        find_corrected(path)


def test_a_folder_has_one_format_and_one_correction_at_least(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: no corrected mask, expected index PNGs"):
        find_corrected(tmp_path)
    write_coco(tmp_path / "c.json", {"a.jpg": LABEL})
    write_cvat(tmp_path / "c.xml", {"a.jpg": LABEL})
    with pytest.raises(UserError, match=f"{tmp_path}: files of COCO and of CVAT, expected one fo"):
        find_corrected(tmp_path)


def test_links_that_lead_nowhere_are_named(tmp_path):
    write_label(tmp_path / "a.png", LABEL)
    (tmp_path / "more").symlink_to("nowhere")
    with pytest.raises(UserError, match="more: its link leads to nowhere"):
        find_corrected(tmp_path)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.array([[0, 3, 1], [0, 0, 255]], np.uint8), r"values \[3\], expected 0 to 2 and 255"),
        (np.zeros((4, 4), np.uint8), "mask is 4x4, expected 3x2 as a.jpg"),
        (np.zeros((2, 3, 3), np.uint8), "a mask is RGB, expected one channel of class numbers"),
    ],
)  # fmt: skip
def test_index_pngs_are_checked_as_ground_truth_is(tmp_path, label, message):
    Image.fromarray(label).save(tmp_path / "a.png")
    (found,) = find_corrected(tmp_path)
    with pytest.raises(UserError, match=message):
        found.read(Record("a", Path("a.jpg"), 3, 2, "train", ()), ("cat", "dog"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "a"),
        ("a", "a"),
        ("images/train/a.png", "a"),
        ("..\\photos\\a.jpg", "a"),
        ("photos/cats/a.jpg", "cats__a"),
        ("v1.2.jpg", "v1.2"),
        ("v1.2", "v1.2"),
        ("b.jpg", None),
        ("", None),
        ("/", None),
    ],
)
def test_an_image_is_found_by_the_longest_end_of_its_path(name, expected):
    assert image_id_of(name, {"a", "cats__a", "v1.2"}) == expected


def test_masks_of_other_images_and_second_masks_are_named():
    records = [Record(k, Path(f"{k}.jpg"), 3, 2, s, ()) for k, s in (("a", "train"), ("v", "val"))]
    names = ("x/a.png", "v.png", "aa.png", "y/a.png")
    problems: list[str] = []
    found = [IndexImage(Path("f", name), name) for name in names]
    matched = match_images(found, Manifest(("cat",), tuple(records)), problems)
    assert matched == [(records[0], found[0])]
    val, unknown, second = problems
    assert val.startswith("f/v.png: v is an image of val, expected one of train")
    assert unknown == (
        "f/aa.png: unknown image 'aa.png', expected an id of the data set's manifest.csv: did you "
        "mean 'a'?"
    )
    assert second.startswith("f/y/a.png: a second mask of a, expected one; the first is in f/x/a")


def test_labels_that_differ_from_the_mask_are_listed_with_a_row_for_the_review():
    def contents(name, labels, shown):
        record = Record(name, Path(f"{name}.jpg"), 3, 2, "train", labels)
        return MaskContents(record, frozenset(), frozenset(shown))

    same = contents("a", ("cat",), ("cat",))
    other = contents("b", ("cat", "cow"), ("dog", "cow"))
    assert list(contradiction_findings([same])) == []
    (finding,) = contradiction_findings([same, other])
    assert finding.got == "1 of 2, such as b (only labeled: cat; only in the mask: dog)"
    assert "the row `b,,cow;dog,`" in finding.fix
    assert review_row(contents("c, d", ("cat",), ())) == '"c, d",,;,'


def test_supervision_counts_the_masks():
    assert read_corrected([]) == {}
    assert supervision([], [1, 2]) == "image-level labels"
    assert supervision({"a": 0}, [1, 2]).endswith("corrected masks of 1 of 2 train images")


def test_a_file_of_labelme_alone_is_read(tmp_path):
    write_labelme(tmp_path, {"a.jpg": LABEL})
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["imagePath"] == "a.jpg"
    (found,) = find_corrected(path)
    record = Record("a", Path("a.jpg"), 3, 2, "train", ())
    np.testing.assert_array_equal(found.read(record, ("cat", "dog")), LABEL)
