import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.export.card import readme


def card(name, settings=None):
    row = {"value": 1, "name": name, "images": 2, "pixels": 3}
    return {
        "format": "png", "kind": "pseudo_labels", "method": "plain/cam/crf",
        "origin": "machine-made",
        "splits": {"train": {"images": 2, "ignored_share": 0.0, "classes": [row]}},
        "scores": {"train": {"miou": None, "classes": None}},
        "settings": settings or {}, "options": {}, "versions": {}, "rewritten_images": 0,
    }  # fmt: skip


def row_of(name):
    (line,) = (
        line
        for line in readme(card(name), "", "none").split("\n")
        if line.startswith("| train | 1")
    )
    return line


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("<img src=x onerror=alert(1)>", "\\<img src=x onerror=alert\\(1\\)\\>"),
        ("[a](http://b)", "\\[a\\]\\(http://b\\)"),
        ("![a](b)", "\\!\\[a\\]\\(b\\)"),
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("US$ and CA$", "US\\$ and CA\\$"),
        ("&lt;b&gt; `c`", "\\&lt;b\\&gt; \\`c\\`"),
        ("__init__ *x*", "\\_\\_init\\_\\_ \\*x\\*"),
    ],
)
def test_names_stay_text_in_a_readme(name, written):
    assert row_of(name) == f"| train | 1 | {written} | 2 | 3 | - |"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_markdown_signs_in_names_are_escaped(name):
    cell = row_of(name).removeprefix("| train | 1 | ").removesuffix(" | 2 | 3 | - |")
    unescaped, signs = "", iter(cell)
    for sign in signs:
        assert sign not in "`*_{}[]<>()#!|&$~"
        unescaped += next(signs) if sign == "\\" else sign
    assert unescaped == name


def test_settings_with_any_characters_are_quoted_as_code():
    text = readme(card("x", {"threshold_source": "a `b` ``c``"}), "", "none")
    assert '- threshold_source: ``` "a `b` ``c``" ```' in text
