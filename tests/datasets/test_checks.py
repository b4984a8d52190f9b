import logging
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.checks import MAX_PROBLEMS, checked_records
from pipeline.datasets.findings import read_findings, write_findings
from pipeline.datasets.ground_truth import check_ground_truth
from pipeline.datasets.manifest import Box, Record
from pipeline.datasets.source import Candidate, Source
from pipeline.errors import UserError


@pytest.fixture
def source(tmp_path):
    """Two good images with masks, one a split."""
    candidates = []
    for name, split in (("a", "train"), ("b", "val")):
        image, mask = tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png"
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(image)
        Image.fromarray(np.array([[0, 1, 1, 255]] * 3, np.uint8)).save(mask)
        candidates.append(Candidate(name, image, split, ("x",), mask))
    return Source(classes=("x", "y"), candidates=candidates)


def problems(source):
    with pytest.raises(UserError) as caught:
        checked_records(source, threads=2)
    return str(caught.value)


def compare(source, splits=("train", "val")):
    """Check the ground truth of images of 4x3 pixels."""
    records = [Record(c.id, c.image, 4, 3, c.split, c.labels) for c in source.candidates]
    return check_ground_truth(source, records, splits, threads=2)


def test_records_of_a_valid_data_set_have_sizes(source):
    records = checked_records(source, threads=2)
    assert [(r.id, r.width, r.height, r.labels) for r in records] == [
        ("a", 4, 3, ("x",)),
        ("b", 4, 3, ("x",)),
    ]


def test_every_problem_is_listed_at_once(source, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:900])
    good = tmp_path / "a.png"
    source.problems.append("said before")
    source.candidates += [
        Candidate("c", tmp_path / "bad.jpg", "train", ("x",), None),
        Candidate("d", tmp_path / "cut.jpg", "train", ("x",), None),
        Candidate("e", good, "train", ("x",), None),
        Candidate("a", good, "val", ("x",), None),
        Candidate("e", good, "train", ("x",), None),
    ]
    text = problems(source)
    for part in (
        "5 problems:",
        "said before",
        "bad.jpg: not an image of a known format",
        "cut.jpg: cannot be decoded",
        "a: image is in train and in val",
        "e: image is listed 2 times in train",
    ):
        assert part in text


def test_every_problem_of_masks_is_listed_at_once(source, tmp_path):
    small, beyond, color = (tmp_path / f"{name}.png" for name in ("small", "beyond", "color"))
    Image.fromarray(np.zeros((2, 4), np.uint8)).save(small)
    Image.fromarray(np.array([[0, 3, 7, 255]] * 3, np.uint8)).save(beyond)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(color)
    source.problems.append("said before")
    source.candidates += [
        Candidate(path.stem, tmp_path / "a.png", "train", ("x",), path)
        for path in (small, beyond, color)
    ]
    with pytest.raises(UserError) as caught:
        compare(source)
    for part in (
        "4 problems:",
        "said before",
        "small.png: mask is 4x2, expected 4x3",
        "beyond.png: mask has the values [3, 7], expected 0 to 2 and 255",
        "color.png: a mask is RGB",
    ):
        assert part in str(caught.value)


def test_a_wanted_split_without_any_mask_is_a_problem(source):
    first, second = source.candidates
    bare = Candidate("deep__b", second.image, "val", ("x",), None)
    source = Source(source.classes, [first, bare])
    compare(source, splits=["train"])
    with pytest.raises(UserError, match=r"none of the 1 val images .* such as deep/b\.png"):
        compare(source)


def test_masks_that_are_void_everywhere_are_a_problem(source, tmp_path):
    first, second = source.candidates
    void = tmp_path / "void.png"
    Image.fromarray(np.full((3, 4), 255, np.uint8)).save(void)
    masked = Candidate(second.id, second.image, "val", ("x",), void)
    source = Source(source.classes, [first, masked])
    with pytest.raises(UserError, match="all masks of val are 255 at every pixel"):
        compare(source)
    compare(source, splits=["train"])


def test_empty_splits_and_missing_labels_are_problems(source):
    assert "split val has no image" in problems(Source(("x",), source.candidates[:1]))
    bare = [Candidate(c.id, c.image, c.split, (), None) for c in source.candidates]
    assert "no training image has a label" in problems(Source(("x",), bare))
    assert "split train has no image" in problems(Source(("x",), []))


def test_many_problems_are_cut_and_counted(source):
    source.problems += [f"problem {number}" for number in range(MAX_PROBLEMS + 7)]
    text = problems(source)
    assert f"{MAX_PROBLEMS + 7} problems" in text
    assert "... and 7 more" in text
    assert text.count("\n") == MAX_PROBLEMS + 1


def test_masks_without_image_are_a_warning_where_images_lack_masks(source, tmp_path, caplog):
    source.unused_masks = (tmp_path / "a_mask.png",)
    assert compare(source).findings == ()  # every image has its own
    first = source.candidates[0]
    source.candidates[0] = Candidate(first.id, first.image, "train", first.labels, None)
    (finding,) = compare(source, splits=["val"]).findings
    assert finding.got == f"1, the first {tmp_path / 'a_mask.png'}"
    assert f"worth checking: {finding}" in caplog.text


def test_undecodable_mask_names_are_escaped_in_findings(source, tmp_path, caplog):
    source.unused_masks = (tmp_path / os.fsdecode(b"\xff\x1b[31m.png"),)
    source.candidates[0] = replace(source.candidates[0], mask=None)
    found = compare(source, splits=["val"]).findings
    path = tmp_path / "findings.json"
    write_findings(path, found)
    (finding,) = read_findings(path)
    assert finding.got == f"1, the first {tmp_path}/\\udcff\\x1b[31m.png"
    assert f"worth checking: {finding}" in caplog.text


def test_labels_that_contradict_the_mask_stay_and_are_counted(source, caplog):
    first = source.candidates[0]
    source.candidates[0] = Candidate(first.id, first.image, "train", ("x", "y"), first.mask)
    with caplog.at_level(logging.WARNING):
        (finding,) = compare(source).findings
    assert finding.got == "1 of 2 (50.0 %), such as a (labels: x, y; mask: x)"
    assert f"worth checking: {finding}" in caplog.text


def binary(source, values=(0, 255)):
    """Return every mask the values of a tool that writes 0 and 255."""
    for candidate in source.candidates:
        Image.fromarray(np.array([values * 2] * 3, np.uint8)).save(candidate.mask)
    return Source(("x",), source.candidates)


def test_masks_with_other_values_are_refused_with_the_setting_to_change(source):
    source = binary(source)
    with pytest.raises(UserError, match="1 problem:") as caught:
        compare(source)
    assert "their values are 0, 255 (0 is the background, 255 is ignored)" in str(caught.value)
    assert "save x as 1, or set `mask_values: {255: x}`" in str(caught.value)
    source.mask_values = {0: 0, 255: 1}
    assert compare(source).findings == ()


def test_a_mask_of_wrong_size_does_not_hide_other_problems(source, tmp_path):
    source = binary(source)
    small = tmp_path / "small.png"
    Image.fromarray(np.zeros((2, 4), np.uint8)).save(small)
    source.candidates.append(Candidate("c", tmp_path / "a.png", "val", ("x",), small))
    with pytest.raises(UserError, match="2 problems:") as caught:
        compare(source)
    assert "small.png: mask is 4x2" in str(caught.value)
    assert "none of the 2 masks of labeled train and val images" in str(caught.value)


def test_contradictions_of_a_split_that_is_not_scored_are_a_finding(source):
    first = source.candidates[0]
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(first.mask)
    with pytest.raises(UserError, match="none of the 1 masks of labeled train images"):
        compare(source)
    assert [f.name for f in compare(source, splits=["val"]).findings] == [
        "masks that contradict the labels"
    ]


def test_values_that_no_class_has_are_listed_with_what_they_may_mean(source):
    source = binary(source, (0, 200))
    with pytest.raises(UserError, match="3 problems:") as caught:
        compare(source)
    lines = str(caught.value).split("\n  ")
    assert lines[1].startswith("the masks agree with the labels if their values mean `mask_values")
    assert "{200: x}" in lines[1] and lines[2].endswith("the values [200], expected 0 to 1 and 255")
    source.mask_values = {0: 0, 255: 1}
    with pytest.raises(UserError, match="2 problems:") as caught:
        compare(source)
    assert "has the values [200], expected those of `mask_values`, 0 and 255: 0, 255" in str(
        caught.value
    )


def test_boxes_that_labels_do_not_need_are_left_out_and_named(source):
    first = source.candidates[0]
    boxes = (Box("x", 0, 0, 2, 2), Box("x", 9, 9, 12, 12))
    source.candidates[0] = Candidate(first.id, first.image, "train", ("x",), first.mask, boxes)
    with pytest.raises(UserError, match="completely outside the image"):
        compare(source)
    source.unusable_boxes = ["b.xml: said before"]
    ground_truth = compare(source)
    assert ground_truth.boxes == {"a": (), "b": ()}
    (finding,) = ground_truth.findings
    assert finding.got == "2, the first in b.xml: said before"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\nb", "control character U+000A"),
        ("\x1b[31m", "control character U+001B"),
        (b"\xff".decode("utf-8", "surrogateescape"), "not UTF-8"),
        ("x" * 240, "has 240 bytes, expected at most"),
    ],
)
def test_names_that_results_cannot_have_are_refused_in_one_line_each(source, name, words):
    image = source.candidates[0].image
    source.candidates.append(Candidate(name, image, "train", ("x",), None))
    title, *lines = problems(source).split("\n")
    assert title == "the data set has 1 problem:" and len(lines) == 1
    assert words in lines[0]


def test_class_names_with_control_characters_are_refused():
    source = Source(classes=("cat\nx: y", "$\\frac{$", "x" * 10_000, "cat\nx: y"))
    source.check_names()
    assert [problem.split(":")[0] for problem in source.problems] == [
        "class 'cat\\nx", f"class '{'x' * 49} ... {'x' * 26}'", "class 'cat\\nx", "class 'cat\\nx",
    ]  # fmt: skip
    assert "U+000A" in source.problems[0]


def test_large_images_are_refused_by_the_configured_limit(source):
    records = checked_records(source, 1, max_pixels=12)
    assert len(records) == 2
    with pytest.raises(UserError, match="4 x 3 = 12 pixels, expected at most 11"):
        checked_records(source, 1, max_pixels=11)


def test_large_masks_are_refused_by_the_limit_of_images(source):
    records = checked_records(source, 1)
    check_ground_truth(source, records, ["train", "val"], threads=1, max_pixels=12)
    with pytest.raises(UserError, match="the mask has 4 x 3 = 12 pixels, expected at most 11"):
        check_ground_truth(source, records, ["train", "val"], threads=1, max_pixels=11)


def test_ignored_files_are_reported(source, caplog):
    source.skipped = (source.candidates[0].image.with_name("._a.jpg"),)
    checked_records(source, threads=1)
    assert "1 entries in the image folder were skipped" in caplog.text


def test_pipes_instead_of_images_and_masks_do_not_hang(source, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    source.candidates.append(Candidate("c", tmp_path / "pipe.png", "train", ("x",), None))
    assert "pipe.png: a named pipe, expected an image" in problems(source)
    source.candidates[-1] = replace(source.candidates[0], mask=tmp_path / "pipe.png", id="c")
    with pytest.raises(UserError, match=r"pipe\.png: a named pipe, expected a mask"):
        compare(source)
