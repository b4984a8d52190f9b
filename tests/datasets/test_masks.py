import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets.masks import Mask, find_masks, mask_of, read_mask_values
from pipeline.errors import UserError


def test_stored_values_become_label_values(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 255, 9, 200]], np.uint8)).save(path)
    assert Mask(path).read().tolist() == [[0, 255, 9, 200]]
    problems: list[str] = []
    given = {"255": "dog", "9": "ignore", "200": "background"}
    values = read_mask_values(given, ("cat", "dog"), problems)
    assert problems == []
    assert Mask(path, values).read().tolist() == [[0, 2, 255, 0]]


@given(
    st.dictionaries(st.integers(0, 255), st.sampled_from(["cat", "dog", "background", "ignore"])),
    st.lists(st.integers(0, 255), min_size=1, max_size=30),
)
def test_mask_values_are_mapped_to_class_numbers(tmp_path_factory, given, pixels):
    path = tmp_path_factory.mktemp("mask") / "m.png"
    Image.fromarray(np.array([pixels], np.uint8)).save(path)
    classes, problems = ("cat", "dog"), []
    values = read_mask_values({str(k): v for k, v in given.items()}, classes, problems)
    names = {0: "background", 255: "ignore"} | given if given else {}
    if given and not set(pixels) <= names.keys():
        with pytest.raises(UserError, match=r"m\.png: mask has the values"):
            Mask(path, values).read()
        return
    numbers = {"background": 0, "cat": 1, "dog": 2, "ignore": 255}
    expected = [numbers[names[value]] for value in pixels] if given else pixels
    assert Mask(path, values).read().tolist() == [expected]


def test_names_that_are_no_class_are_named():
    problems: list[str] = []
    read_mask_values({"255": "cats", "1": "ignore"}, ("cat", "ignore"), problems)
    ambiguous, unknown = problems
    assert "'ignore' is a class and the name for ignored pixels" in ambiguous
    assert unknown.startswith("mask_values: 255 is 'cats', expected background, ignore or one of")
    assert "did you mean 'cat'?" in unknown


def test_a_broken_link_among_the_masks_is_a_problem(tmp_path):
    (tmp_path / "sub").symlink_to("gone")
    problems: list[str] = []
    assert find_masks(tmp_path, problems) == {}
    (problem,) = problems
    assert problem.startswith(f"{tmp_path / 'sub'}: its link leads to gone, where there is no file")


def test_masks_are_found_in_any_case_and_other_kinds_are_problems(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a.PNG", "deep/b.png", "c.bmp", "d.png", "d.jpg", "e.png", "e.Png", "._a.png"):
        (tmp_path / name).touch()
    problems: list[str] = []
    found = find_masks(tmp_path, problems)
    assert problems == []
    assert sorted(found) == ["a", "c", "d", "deep/b", "e"]
    masks = {stem: mask_of(stem, None, found, problems) for stem in ("a", "c", "d", "deep/b", "x")}
    assert masks == {
        "a": tmp_path / "a.PNG", "c": None, "d": tmp_path / "d.png",
        "deep/b": tmp_path / "deep/b.png", "x": None,
    }  # fmt: skip
    (problem,) = problems
    assert problem.startswith(f"{tmp_path / 'c.bmp'}: masks of this kind are not read, expected c")
    mask_of("e", None, found, problems)
    assert "e.Png and e.png are masks of one image, expected one of them" in problems[1]
