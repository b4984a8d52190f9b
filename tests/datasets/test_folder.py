import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets.folder import hold_out, read_folder


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.PNG", "deep/er/c.jpeg", "d.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(path)
    (tmp_path / "images/notes.txt").write_text("no image", encoding="utf-8")
    return tmp_path


def read(folder, text, **settings):
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    dataset = {
        "kind": "folder",
        "images": str(folder / "images"),
        "image_labels": str(folder / "labels.csv"),
        "masks": None,
        "classes": None,
        "val_fraction": 0.25,
    }
    return read_folder(dataset | settings, seed=0)


ROWS = "image,labels\na,x\nb.PNG,y\ndeep/er/c.jpeg,x;y\nd.jpg,\n"


def test_images_are_found_by_name_with_or_without_extension(folder):
    source = read(folder, ROWS)
    assert source.problems == []
    assert source.classes == ("x", "y")
    assert {c.id: c.labels for c in source.candidates} == {
        "a": ("x",),
        "b": ("y",),
        "d": (),
        "deep__er__c": ("x", "y"),
    }
    assert sorted(c.split for c in source.candidates) == ["train", "train", "train", "val"]
    assert all(c.mask is None and c.image.is_file() for c in source.candidates)


def test_the_order_of_rows_does_not_matter(folder):
    head, *rows = ROWS.splitlines()
    one = read(folder, ROWS)
    other = read(folder, "\n".join([head, *reversed(rows)]))
    assert one.candidates == other.candidates


def test_a_split_column_decides(folder):
    text = "image,labels,split\na,x,val\nb,y,train\ndeep/er/c,x,train\nd,,val\n"
    splits = {c.id: c.split for c in read(folder, text).candidates}
    assert splits == {"a": "val", "b": "train", "deep__er__c": "train", "d": "val"}


def test_images_without_rows_and_rows_without_images_are_all_named(folder):
    problems = read(folder, "image,labels\na,x\nnope.jpg,y\n").problems
    assert sum("image without a row" in problem for problem in problems) == 3
    assert sum("row nope.jpg has no image" in problem for problem in problems) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("A.PNG", "did you mean a.jpg?"),
        ("images/deep/er/c.jpg", "did you mean deep/er/c.jpeg?"),
        ("e.heic", "files of this kind are not read, expected .bmp, .jpeg, .jpg, .png"),
        ("nope.jpg", "expected a file of that name below "),
    ],
)
def test_a_row_without_an_image_is_reported_with_its_reason(folder, name, hint):
    (folder / "images/e.heic").touch()
    problems = read(folder, ROWS + f"{name},x\n").problems
    (problem,) = (problem for problem in problems if "has no image" in problem)
    assert hint in problem


def test_images_without_rows_are_named_in_order(folder):
    problems = read(folder, "image,labels\na,x\n").problems
    assert [problem.split(":")[0].rpartition("/")[2] for problem in problems] == [
        "b.PNG", "d.jpg", "c.jpeg",
    ]  # fmt: skip


def test_masks_with_other_names_are_found(folder):
    for name in ("a", "b_mask", "deep/er/c_mask"):
        (folder / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(folder / f"masks/{name}.png")
    source = read(folder, ROWS, masks=str(folder / "masks"), classes=["x", "y"])
    assert [path.name for path in source.unused_masks] == ["b_mask.png", "c_mask.png"]
    assert read(folder, ROWS).unused_masks == ()


def test_two_rows_of_one_image_and_two_images_of_one_name_are_named(folder):
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(folder / "images/a.png")
    problems = read(folder, ROWS + "a.jpg,x\n").problems
    assert any("has the same name" in problem for problem in problems)
    assert any("name the same image" in problem for problem in problems)


def test_masks_are_paired_by_name_and_need_an_order_of_classes(folder):
    (folder / "masks/deep/er").mkdir(parents=True)
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(folder / "masks/deep/er/c.png")
    source = read(folder, ROWS, masks=str(folder / "masks"))
    assert any("order of the classes" in problem for problem in source.problems)
    source = read(folder, ROWS, masks=str(folder / "masks"), classes=["y", "x"])
    assert source.problems == []
    assert source.classes == ("y", "x")
    assert {c.id for c in source.candidates if c.mask} == {"deep__er__c"}


@pytest.mark.parametrize("name", ["a;b", " a", ""])
def test_class_names_that_cannot_be_joined_are_named(folder, name):
    source = read(folder, ROWS, classes=["x", "y", name])
    assert any(f"class {name!r}" in problem for problem in source.problems)


@pytest.mark.parametrize("name", ["background", "Background"])
def test_the_background_is_no_class(folder, name):
    source = read(folder, ROWS, classes=["x", "y", name])
    assert any(f"class {name!r}: the background has the value 0" in p for p in source.problems)


def test_a_table_of_more_classes_than_a_byte_holds_is_refused(folder):
    for count, refused in ((254, False), (255, True)):
        columns = ",".join(f"c{number}" for number in range(count))
        zeros = ",".join("0" * count)
        source = read(folder, f"image,{columns}\n" + "".join(f"{n},{zeros}\n" for n in "abc"))
        text = "there are 255 classes, expected at most 254"
        assert any(text in problem for problem in source.problems) is refused


@given(
    ids=st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=30, unique=True),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_holding_out_is_exact_and_goes_by_ids_alone(ids, fraction, seed):
    held = hold_out(ids, seed, fraction)
    assert held < set(ids) and held
    assert len(held) == min(max(1, round(len(ids) * fraction)), len(ids) - 1)
    assert held == hold_out(sorted(ids, reverse=True), seed, fraction)


def test_another_seed_holds_out_others():
    ids = [str(k) for k in range(100)]
    assert hold_out(ids, 0, 0.5) != hold_out(ids, 1, 0.5)


def test_linked_folders_belong_to_the_data_set(folder):
    (folder / "images/deep").rename(folder / "elsewhere")
    (folder / "images/deep").symlink_to(folder / "elsewhere")
    (folder / "elsewhere/er/up").symlink_to(folder / "images")
    source = read(folder, ROWS)
    # The link back to the root is followed once, since its target is not above it by path.
    ids = {candidate.id for candidate in source.candidates}
    assert "deep__er__c" in ids and source.problems == []
    assert [path.name for path in source.skipped] == ["up"]


def test_masks_in_linked_folders_are_found(folder):
    (folder / "true").mkdir()
    (folder / "masks").symlink_to(folder / "true")
    (folder / "linked/er").mkdir(parents=True)
    (folder / "true/deep").symlink_to(folder / "linked")
    (folder / "linked/er/c.png").touch()
    (folder / "linked/er/other.png").touch()
    (folder / "true/._a.png").touch()
    source = read(folder, ROWS, masks=str(folder / "masks"), classes=["x", "y"])
    masks = {c.id: c.mask for c in source.candidates if c.mask}
    assert masks == {"deep__er__c": folder / "masks/deep/er/c.png"}
    assert source.unused_masks == (folder / "masks/deep/er/other.png",)


def test_a_mask_that_is_no_file_is_not_left_out(folder):
    (folder / "masks").mkdir()
    os.mkfifo(folder / "masks/a.png")
    (folder / "masks/b.png").symlink_to("nowhere")
    source = read(folder, ROWS, masks=str(folder / "masks"), classes=["x", "y"])
    assert {c.id for c in source.candidates if c.mask} == {"a", "b"}


def test_litter_is_no_image_and_counted(folder):
    for name in ("._a.jpg", ".ipynb_checkpoints/a-checkpoint.jpg", "@eaDir/d.jpg/big.jpg"):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not an image")
    source = read(folder, ROWS)
    assert source.problems == [] and len(source.candidates) == 4
    assert [path.name for path in source.skipped] == ["._a.jpg", ".ipynb_checkpoints", "@eaDir"]
    (problem,) = read(folder, ROWS + "._a.jpg,x\n").problems
    assert "row ._a.jpg has no image: hidden files" in problem


@pytest.mark.parametrize(
    "name", ["x" * 5000, "nul\0.jpg", "../labels.csv", "/etc/hostname", "\x1b"]
)
def test_any_name_in_a_row_is_named_in_one_line(folder, name):
    (problem,) = read(folder, ROWS + f"{name},x\n").problems
    assert "has no image, expected a file of that name below" in problem
