import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import (
    CONTROL,
    MAX_LENGTH,
    MAX_LINES,
    UserError,
    did_you_mean,
    printable,
    shortened,
)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ä 猫 \u05d0", "plain ä 猫 \u05d0"),
        ("a\nb\tc", "a\nb\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb\x00", "a\\rb\\x00"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
        ("\x9b31m\u2028", "\\x9b31m\\u2028"),
    ],
)
def test_control_characters_are_written_as_escapes(raw, shown):
    assert printable(raw) == shown


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=3000))
def test_any_message_is_safe_and_bounded(text):
    message = str(UserError(text))
    message.encode("utf-8")
    assert not CONTROL.search(message.replace("\n", "").replace("\t", ""))
    assert len(message.split("\n")) <= MAX_LINES
    assert max(map(len, message.split("\n"))) <= MAX_LENGTH


def test_a_long_line_keeps_its_start_and_its_end():
    line = "/data/x.csv: " + "n" * 10_000_000 + ", expected a name"
    message = str(UserError(line))
    assert len(message) == MAX_LENGTH
    assert message.startswith("/data/x.csv: nnn") and message.endswith("nnn, expected a name")
    assert shortened("short") == "short"
    assert shortened("x" * 11, 10) == "xx ... xxx"


def test_many_lines_are_counted():
    message = str(UserError("\n".join("x" * 1000)))
    assert message.endswith("\n... and 801 more lines")


def test_an_error_survives_the_way_from_another_process():
    error = UserError("x\x1b" * 900)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_nearest_word_is_found_in_bounded_time():
    assert did_you_mean("dgo", ["cat", "dog"]) == ": did you mean 'dog'?"
    assert did_you_mean("x", ["cat", "dog"]) == ""
    start = time.monotonic()
    assert did_you_mean("a" * 100_000, ["b" * 100_000]) == ""
    assert did_you_mean("cat", [f"c{k}at" for k in range(100_000)]) == ""
    assert did_you_mean("cat", ["a" * 1_000_000, "cut"]) == ": did you mean 'cut'?"
    assert time.monotonic() - start < 2
