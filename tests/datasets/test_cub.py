import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets.cub import FILES, read_cub
from pipeline.datasets.manifest import Box
from pipeline.errors import UserError

TEXTS = {
    "images.txt": "1 001.Crow/Crow_1.jpg\n2 002.Wren/Wren_1.jpg\n3 002.Wren/Wren 2.jpg\n",
    "classes.txt": "1 001.Crow\n2 002.Wren\n",
    "image_class_labels.txt": "1 1\n2 2\n3 2\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n",
    "bounding_boxes.txt": "1 0.0 1.0 2.0 2.0\n2 1.0 0.0 3.0 1.0\n3 0.5 0 3.0 2.5\n",
}


@pytest.fixture
def root(tmp_path):
    for line in TEXTS["images.txt"].splitlines():
        path = tmp_path / "images" / line.split(maxsplit=1)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(path)
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def read(root, **texts):
    for name, text in texts.items():
        (root / f"{name}.txt").write_text(text, encoding="utf-8")
    return read_cub({"kind": "cub", "root": str(root)})


def test_an_image_has_one_label_one_box_and_its_split(root):
    source = read(root)
    assert source.problems == []
    assert source.classes == ("001.Crow", "002.Wren")
    assert [(c.id, c.split, c.labels, c.boxes, c.mask) for c in source.candidates] == [
        ("001.Crow__Crow_1", "train", ("001.Crow",), (Box("001.Crow", 0, 1, 2, 3),), None),
        ("002.Wren__Wren_1", "val", ("002.Wren",), (Box("002.Wren", 1, 0, 4, 1),), None),
        ("002.Wren__Wren 2", "train", ("002.Wren",), (Box("002.Wren", 0.5, 0, 3.5, 2.5),), None),
    ]  # fmt: skip
    assert source.candidates[2].image == root / "images/002.Wren/Wren 2.jpg"


def test_classes_are_in_the_order_of_their_ids_as_numbers(root):
    ids = [10, 9, *range(1, 9)]
    source = read(root, classes="".join(f"{number} bird{number}\n" for number in ids))
    assert source.problems == []
    assert source.classes == tuple(f"bird{number}" for number in range(1, 11))
    assert [c.labels for c in source.candidates] == [("bird1",), ("bird2",), ("bird2",)]


def test_the_order_of_rows_and_line_ends_do_not_matter(root):
    one = read(root)
    texts = {
        name.removesuffix(".txt"): "\r\n".join(reversed(text.splitlines())) + "\r\n\r\n"
        for name, text in TEXTS.items()
    }
    other = read(root, **texts)
    assert other.problems == []
    assert other.classes == one.classes
    assert other.candidates == list(reversed(one.candidates))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("images", "3 gone.jpg", "images/gone.jpg: no such image, listed in"),
        ("images", f"3 {'x' * 5000}", "no such image"),
        ("images", "3 nul\0.jpg", "no such image"),
        ("images", "3", "line 3: the row has 1 fields, expected 2: image id, path"),
        ("images", "2 002.Wren/Wren 2.jpg", "line 3: image id 2 has a row already"),
        ("image_class_labels", "3 2 2", "the row has 3 fields, expected 2: image id, class id"),
        ("image_class_labels", "3 7", "line 3: unknown class id '7', expected one of classes.txt"),
        ("train_test_split", "3 2", "line 3: is_training_image is '2', expected 1"),
        ("bounding_boxes", "3 0 0 1", "the row has 4 fields, expected 5: image id, x, y, width"),
        ("bounding_boxes", "3 0 0 1 wide", "line 3: column height is 'wide', expected a number"),
        ("bounding_boxes", "3 nan 0 1 1", "column x is 'nan', expected a number of pixels"),
        ("bounding_boxes", "3 0 0 inf 1", "column width is 'inf', expected a number of pixels"),
        ("bounding_boxes", "3 1 1 0 1", "the box ends at 1.0, 2.0, expected right of and below"),
        ("bounding_boxes", "3 1 1 2 -1", "the box ends at 3.0, 0.0, expected right of and below"),
    ],
)
def test_a_bad_row_is_named_with_its_line(root, name, text, problem):
    rows = TEXTS[f"{name}.txt"].splitlines()
    problems = read(root, **{name: "\n".join([*rows[:2], text])}).problems
    assert problem in "\n".join(problems)
    # A row that is there but bad is not said to be absent too.
    assert len(problems) == (4 if "already" in problem else 1)


@pytest.mark.parametrize("name", [*TEXTS][2:])
def test_ids_of_one_file_that_another_lacks_are_named_with_both(root, name):
    (root / name).write_text(TEXTS[name].replace("\n3 ", "\n8 "), encoding="utf-8")
    assert read(root).problems == [
        f"{root / 'images.txt'}, line 3: image id 3 has no row in {root / name}, expected one",
        f"{root / name}, line 3: image id 8 has no row in {root / 'images.txt'}, expected one",
    ]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("1 crow\n2 wren\n4 owl", ["classes.txt: there is no class id 3, expected 1 to 3 without"]),
        ("0 owl\n1 crow\n2 wren", ["line 1: class id is '0', expected a whole number from 1"]),
        ("1 crow\n2 wren\n2 owl", ["line 3: class id 2 has a row already"]),
        ("1 crow\n2 crow", ["class 'crow' is listed twice"]),
        ("1 crow\n2 w;ren", ["class 'w;ren'"]),
        ("1 crow\n2", ["line 2: the row has 1 fields, expected 2: class id, name"]),
        (
            "\n".join(f"{k} bird{k}" for k in range(1, 256)),
            ["are 255 classes, expected at most 254"],
        ),
    ],
)
def test_bad_classes_are_named(root, text, problems):
    found = read(root, classes=text).problems
    assert len(found) == len(problems)
    assert all(part in problem for part, problem in zip(problems, found, strict=True))


def test_254_classes_are_read(root):
    source = read(root, classes="\n".join(f"{number} b{number}" for number in range(1, 255)))
    assert source.problems == [] and len(source.classes) == 254


def test_missing_files_are_named_together_with_the_fix(root):
    (root / "classes.txt").unlink()
    (root / "bounding_boxes.txt").unlink()
    with pytest.raises(UserError, match=r"no classes.txt, bounding_boxes.txt.*`root`"):
        read(root)


def test_other_encodings_are_named(root):
    (root / "classes.txt").write_bytes("1 Möwe\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes.txt: not UTF-8 text"):
        read(root)


TOKENS = st.sampled_from(["1", "2", "3", "0", "-1", "1.5", "nan", "1e999", "x", "a.jpg", "./a.jpg"])
ROWS = st.lists(st.lists(TOKENS, max_size=6).map(" ".join), max_size=5).map("\n".join)


@given(st.tuples(*[st.text(max_size=40) | ROWS for _ in FILES]))
def test_any_text_is_read_or_has_problems(tmp_path_factory, texts):
    root = tmp_path_factory.mktemp("cub")
    (root / "images").mkdir()
    (root / "images/a.jpg").write_bytes(b"")
    for name, text in zip(FILES, texts, strict=True):
        (root / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        source = read_cub({"root": str(root)})
    except UserError as error:
        assert "UTF-8" in str(error)
        return
    for candidate in source.candidates:
        assert candidate.image.is_file() and candidate.split in ("train", "val")
        assert set(candidate.labels) <= set(source.classes)
        assert source.problems or (len(candidate.labels), len(candidate.boxes)) == (1, 1)
        for box in candidate.boxes:
            assert -1e9 < box.left < box.right < 2e9 and -1e9 < box.top < box.bottom < 2e9


@pytest.mark.parametrize("path", ["/etc/x.jpg", "../x.jpg", "001.Crow/../../x.jpg", ".."])
def test_a_path_out_of_the_folder_is_named(root, path):
    _, rest = (root / "images.txt").read_text(encoding="utf-8").split("\n", 1)
    (root / "x.jpg").touch()
    source = read(root, images=f"1 {path}\n{rest}")
    (problem,) = source.problems
    assert problem == (
        f"{root / 'images.txt'}, line 1: the path is {path!r}, expected one below "
        f"{root / 'images'}, without a leading / and without .."
    )
    assert [candidate.id for candidate in source.candidates] == [
        "002.Wren__Wren_1", "002.Wren__Wren 2",
    ]  # fmt: skip
