from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.names import (
    LONGEST_NAME,
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    class_problem,
    image_problem,
    text_problem,
)
from pipeline.errors import CONTROL
from pipeline.io.arrays import write_label, write_soft_label

HERE = Path("x.jpg")


@pytest.mark.parametrize(
    ("name", "code"),
    [("a\nb", "U+000A"), ("\x1b[2J", "U+001B"), ("\u202eb", "U+202E"), ("a\u2028", "U+2028"),
     ("\ud800", "U+D800"), ("a\x85", "U+0085"), ("\t", "U+0009"), ("\x7f", "U+007F")],
)  # fmt: skip
def test_control_characters_are_refused_by_their_code(name, code):
    for problem in (text_problem(name), class_problem(name), image_problem(name, HERE)):
        assert problem is not None and code in problem


@pytest.mark.parametrize(
    ("name", "code"),
    [("cat\u200b", "U+200B"), ("\ufeffcat", "U+FEFF"), ("c\u00adat", "U+00AD"),
     ("ca\u2060t", "U+2060"), ("cat\u200d", "U+200D"), ("\u200ccat", "U+200C"),
     ("ca\u200dt", "U+200D"), ("a\u200c b", "U+200C"), ("cat\u200f", "U+200F"),
     ("می\u200c", "U+200C"), ("cat\u3164", "U+3164"), ("cat\U000e0041", "U+E0041")],
)  # fmt: skip
def test_invisible_characters_are_refused_by_their_code(name, code):
    for problem in (text_problem(name), class_problem(name), image_problem(name, HERE)):
        assert problem is not None and f"invisible character {code}" in problem


@pytest.mark.parametrize(
    "name", ["می\u200cرود", "क्\u200dष", "ශ්\u200dරී", "❤️\u200d🔥", "👩🏽\u200d🔬"]
)
def test_joiners_of_scripts_and_emoji_are_kept(name):
    assert class_problem(name) is None and image_problem(name, HERE) is None


def test_a_name_of_other_bytes_than_utf8_is_refused():
    assert "not UTF-8" in (image_problem(b"caf\xe9".decode("utf-8", "surrogateescape"), HERE) or "")


@pytest.mark.parametrize("name", ["猫", "É.a b", "$x$", "<b>", "קצת", "x" * 200, "👩\u200d🔬"])
def test_letters_and_signs_of_all_scripts_are_names(name):
    assert class_problem(name) is None and image_problem(name, HERE) is None


def test_long_names_are_refused_with_the_limit():
    assert class_problem("x" * 201) == (
        "its name has 201 characters, expected at most 200: shorten it"
    )
    assert image_problem("x" * MAX_ID_BYTES, HERE) is None
    problem = image_problem("é" * MAX_ID_BYTES, HERE)
    assert problem is not None
    assert f"has {2 * MAX_ID_BYTES} bytes, expected at most {MAX_ID_BYTES}" in problem
    assert "4095" in (image_problem("a", Path("/".join(["x" * 200] * 21), "a.jpg")) or "")


def test_the_longest_id_is_the_longest_that_every_file_of_results_can_have(tmp_path):
    name = "x" * MAX_ID_BYTES
    assert len(LONGEST_NAME.format(name)) == MAX_NAME_BYTES
    write_label(tmp_path / f"{name}.png", np.zeros((2, 2), np.uint8))
    soft = np.array([0]), np.ones((1, 2, 2), np.float32)
    write_soft_label(tmp_path / f"{name}.safetensors", *soft)
    with pytest.raises(OSError, match="too long"):
        write_soft_label(tmp_path / f"{name}y.safetensors", *soft)


@given(st.text(alphabet=st.characters(exclude_categories=[]), min_size=1, max_size=40))
def test_a_name_is_refused_or_can_be_printed_and_written(name):
    if text_problem(name) is None:
        assert name.encode("utf-8").decode() == name and not CONTROL.search(name)
        assert len(name.splitlines()) == 1
