"""Readers of JSON documents and CSV tables check what they read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.findings import read_findings
from pipeline.errors import UserError
from pipeline.io.tables import (
    NUMBER,
    read_class_scores,
    read_columns,
    read_document,
    read_table,
    write_json,
    write_table,
)
from pipeline.refinement.thresholds import chosen_threshold
from pipeline.report.inputs import SCORE, read_score

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def refusal(reader, path):
    """Return the one line by which a file is refused; it begins with the file's name."""
    with pytest.raises(UserError) as caught:
        reader(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a complete ") and "\n" not in message
    return message.removeprefix(f"{path}: not a complete ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "it is [1, 2], expected an object"),
        ("x" * 99, f'it is "{"x" * 39}..., expected an object'),
        (None, "it is null, expected an object"),
        ({"a": 1}, "it has no 'share'"),
        ({"share": "0.5"}, "'share' is \"0.5\", expected a number or null"),
        ({"share": 1, "rows": {}}, "'rows' is {}, expected a list"),
    ],
)
def test_a_document_without_its_fields_is_refused(tmp_path, content, reason):
    path = tmp_path / "s.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    fields = {"share": NUMBER | None, "rows": list}
    expected = f"JSON document ({reason}): delete it and make it again"
    assert refusal(lambda file: read_document(file, fields), path) == expected


@pytest.mark.parametrize("share", [0, 0.5, None])
def test_a_document_with_its_fields_is_read(tmp_path, share):
    write_json(tmp_path / "s.json", {"share": share, "rows": [], "more": 1})
    found = read_document(tmp_path / "s.json", {"share": NUMBER | None, "rows": list})
    assert found == {"share": share, "rows": [], "more": 1}


@pytest.mark.parametrize("text", ["", "{", '{"a": 1} x', "[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "s.json").write_text(text, encoding="utf-8")
    assert refusal(read_document, tmp_path / "s.json").startswith("JSON document (")


@given(JSON, st.sampled_from([read_score, read_findings, lambda p: chosen_threshold(p, "otsu")]))
def test_any_json_is_read_or_refused_in_one_line(tmp_path_factory, value, reader):
    path = tmp_path_factory.mktemp("json") / "s.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    if reader is read_findings and value in ([], {}, ""):
        assert reader(path) == []
        return
    refusal(reader, path)


@pytest.mark.parametrize("value", [None, "0.5", 1.5, -0.1])
def test_a_threshold_is_a_number_from_0_to_1(tmp_path, value):
    write_json(tmp_path / "t.json", {"thresholds": {"mean": 0.5, "otsu": value}})
    assert chosen_threshold(tmp_path / "t.json", "mean") == 0.5
    words = refusal(lambda path: chosen_threshold(path, "otsu"), tmp_path / "t.json")
    assert f"the threshold of otsu is {value!r}, expected a number in [0, 1]" in words


def test_a_score_of_an_unknown_kind_is_refused(tmp_path):
    score = {name: 1 if kind == NUMBER | None else {} for name, kind in SCORE.items()}
    score |= dict.fromkeys(("method", "split"), "x") | {"images": 1}
    score |= {"classes": [], "absent_classes": [], "confusion": []}
    write_json(tmp_path / "s.json", score | {"kind": "labels"})
    assert "'kind' is 'labels', expected one of maps, pseudo_labels, predictions" in refusal(
        read_score, tmp_path / "s.json"
    )
    write_json(tmp_path / "s.json", score | {"kind": "maps"})
    assert read_score(tmp_path / "s.json")["kind"] == "maps"


def test_a_table_without_its_columns_or_numbers_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, ("id", "x", "y"), [("a", 0.5, "b"), ("c", None, "d")])
    read = read_table(path, needed=("id",), numbers=("x",))
    assert [row["x"] for row in read] == ["0.5", ""]
    assert refusal(lambda file: read_table(file, needed=("z",)), path) == (
        "table (columns are ['id', 'x', 'y'], expected also ['z']): delete it and make it again"
    )
    assert "row 2, column 'y' is 'b', expected a number" in refusal(
        lambda file: read_table(file, numbers=("x", "y")), path
    )


def test_columns_are_numbers_and_nan_where_a_cell_is_empty(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, ("epoch", "loss"), [(1, 0.5), (2, None)])
    found = read_columns(path, ("epoch",))
    assert found["epoch"] == [1, 2] and str(found["loss"]) == "[0.5, nan]"
    write_table(path, ("epoch", "loss"), [])
    assert read_columns(path, ("epoch",)) == {"epoch": []}
    write_table(path, ("epoch", "loss"), [(1, "low")])
    assert "row 2, column 'loss' is 'low'" in refusal(lambda p: read_columns(p, ("epoch",)), path)


def test_class_scores_start_with_the_id(tmp_path):
    write_table(tmp_path / "s.csv", ("cat", "id"), [(0.5, "a")])
    assert "columns are ['cat', 'id'], expected id first" in refusal(
        lambda path: read_class_scores([path]), tmp_path / "s.csv"
    )
