import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.tables import read_label_table
from pipeline.errors import UserError


def table(tmp_path, text, classes=None, encoding="utf-8"):
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    return read_label_table(tmp_path / "labels.csv", classes)


def test_joined_names(tmp_path):
    read = table(tmp_path, "image,labels\na.jpg,dog; cat\nb.jpg,\nc.jpg,cat;cat\n")
    assert read.classes == ("cat", "dog")
    assert read.labels == {"a.jpg": ("dog", "cat"), "b.jpg": (), "c.jpg": ("cat",)}
    assert not read.one_hot and not read.problems


def test_one_hot_columns_keep_their_order(tmp_path):
    read = table(tmp_path, "image,zebra,ant\na.jpg,1,0\nb.jpg,1,1\nc.jpg,0,0\n")
    assert read.classes == ("zebra", "ant")
    assert read.labels == {"a.jpg": ("zebra",), "b.jpg": ("zebra", "ant"), "c.jpg": ()}
    assert read.one_hot and not read.problems


def test_a_split_column_is_read(tmp_path):
    read = table(tmp_path, "split,image,labels\ntrain,a,x\nval,b,x\ntest,c,x\n")
    assert read.splits == {"a": "train", "b": "val", "c": "test"}
    assert read.problems == [
        f"{tmp_path / 'labels.csv'}, line 4: split is 'test', expected train or val"
    ]


def test_spreadsheet_exports_are_read(tmp_path):
    read = table(tmp_path, 'image,labels\r\nä ö.jpg,"katze;hund"\r\n\r\n', encoding="utf-8-sig")
    assert read.labels == {"ä ö.jpg": ("katze", "hund")}


def test_columns_without_a_name_and_without_cells_are_left_out(tmp_path):
    read = table(tmp_path, "image,labels,,\na,cat,,\nb,dog\nc,cat,,,\n")
    assert read.labels == {"a": ("cat",), "b": ("dog",), "c": ("cat",)} and not read.problems
    read = table(tmp_path, "image,,cat\na,,1\n")
    assert read.classes == ("cat",) and read.labels == {"a": ("cat",)} and not read.problems


def test_other_columns_beside_the_labels_are_left_out(tmp_path):
    read = table(tmp_path, "image,labels,photographer\na,cat,Ann\n")
    assert read.classes == ("cat",) and read.labels == {"a": ("cat",)} and not read.problems


@pytest.mark.parametrize("name", ["label", "Labels", "class"])
def test_a_column_of_labels_under_another_name_is_named_once(tmp_path, name):
    expected = f"its header has '{name}', expected 'labels' for that column$"
    with pytest.raises(UserError, match=expected):
        table(tmp_path, f"image,{name}\na,cat\nb,dog\n")
    assert table(tmp_path, f"image,{name}\na,1\nb,0\n").classes == (name,)


def test_given_classes_refuse_others_with_the_nearest_name(tmp_path):
    read = table(tmp_path, "image,labels\na.jpg,cat\nb.jpg,dgo\n", classes=["cat", "dog"])
    assert len(read.problems) == 1
    assert "b.jpg: unknown label 'dgo'" in read.problems[0]
    assert read.problems[0].endswith("did you mean 'dog'?")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image,cat\na,2\n", "line 2: column cat is '2', expected 0 or 1"),
        ("image,cat,dog\na,1\n", "line 2: column dog is '', expected 0 or 1"),
        ("image,labels\na,x\na,y\n", "line 3: a has a row already"),
        ("image,labels\n,x\n", "line 2: no image is named"),
        ("image,labels\na,cat,dog\n", "line 2: dog is in a column without a name"),
        ("image,labels,\na,cat,dog\n", "line 2: dog is in a column without a name"),
        ("image,cat,,dog\na,1,0,1\n", "line 2: 0 is in a column without a name"),
        ("image,labels,Split\na,x,val\n", "its header has 'Split', expected 'split'"),
    ],
)
def test_bad_rows_are_problems_with_their_line(tmp_path, text, problem):
    assert any(problem in found for found in table(tmp_path, text).problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header is empty, expected image,labels"),
        ("image;labels\na;x\n", "separated by commas, not ';'"),
        ("name,labels\na,x\n", "its header is name, labels"),
        ("image\na\n", "its header is image"),
        ("image,cat,cat\na,1,1\n", "names a column twice"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path, text)


def test_other_encodings_and_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="save the table as UTF-8"):
        table(tmp_path, "image,labels\nä,x\n", encoding="latin-1")
    with pytest.raises(UserError, match="no such table"):
        read_label_table(tmp_path / "absent.csv")


@given(st.text(max_size=60))
def test_any_text_is_a_table_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    for head in ("", "image,labels\n", "image,a,b\n"):
        path.write_bytes((head + text).encode("utf-8", "surrogatepass"))
        try:
            read = read_label_table(path)
        except UserError as error:
            assert str(path) in str(error)
        else:
            assert set(read.classes) >= {n for labels in read.labels.values() for n in labels}


def test_a_hundred_thousand_columns_are_refused_at_once(tmp_path):
    names = [f"class{k}" for k in range(100_000)]
    text = (
        "image,"
        + ",".join(names)
        + "\n"
        + "".join(f"{k}.jpg" + ",0" * 100_000 + "\n" for k in "ab")
    )
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"has 100001 columns, expected at most 1000: .* 254"
    ) as error:
        table(tmp_path, text)
    assert time.monotonic() - start < 5 and len(str(error.value)) < 1000


def test_wide_tables_with_unknown_labels_are_read_in_linear_time(tmp_path):
    names = [f"class {k}" for k in range(990)]
    header = "image," + ",".join(names) + "\n"
    rows = "".join(f"{k}.jpg" + ",1" * len(names) + "\n" for k in range(200))
    start = time.monotonic()
    read = table(tmp_path, header + rows)
    assert len(read.labels) == 200 and len(read.labels["7.jpg"]) == 990 and not read.problems
    read = table(tmp_path, header + rows.replace(",1", ",2"))
    assert len(read.problems) == 200
    assert "column class 0 is '2', expected 0 or 1 (and 989 more columns)" in read.problems[0]
    joined = "image,labels\n" + "".join(f"{k}.jpg,{';'.join(names)}\n" for k in range(200))
    read = table(tmp_path, joined, classes=["class"])
    assert len(read.problems) == 200 * 990
    assert time.monotonic() - start < 10


def test_long_names_are_quoted_in_part(tmp_path):
    read = table(tmp_path, f"image,labels\na,{'x' * 100_000}\n", classes=["cat"] * 1000)
    (problem,) = read.problems
    assert len(problem) < 600 and "expected one of cat, cat" in problem and "or 980 more" in problem


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_a_table_that_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"labels\.csv: a .*, expected a table$"):
        read_label_table(tmp_path / "labels.csv")
