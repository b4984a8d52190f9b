from pathlib import Path

import pytest

from pipeline.datasets.contradictions import (
    MaskContents,
    contradiction_findings,
    mask_problems,
    suggested_values,
)
from pipeline.datasets.manifest import Record

CLASSES = ("cat", "dog")


def seen(*masks, split="train"):
    """Masks of (stored values, labels, shown classes)."""
    return [
        MaskContents(
            Record(f"{split}{k}", Path("x"), 4, 3, split, tuple(labels)),
            frozenset(stored),
            frozenset(shown),
        )
        for k, (stored, labels, shown) in enumerate(masks)
    ]


BINARY = seen(*[({0, 255}, ["cat"], [])] * 3, ({0}, [], []))


@pytest.mark.parametrize(
    ("masks", "classes", "expected"),
    [
        (BINARY, ["cat"], {255: "cat"}),
        # From 0 with 255 as background.
        (
            seen(({0, 255}, ["cat"], []), ({1, 255}, ["dog"], []), ({0, 1, 255}, CLASSES, [])),
            CLASSES,
            {0: "cat", 1: "dog", 255: "background"},
        ),
        # The gray levels of VOC's colors, 255 at the borders of objects.
        (
            seen(({0, 38, 255}, ["cat"], []), ({0, 75, 255}, ["dog"], []), ({0}, [], [])),
            CLASSES,
            {38: "cat", 75: "dog"},
        ),
        # The classes in another order.
        (
            seen(({0, 2}, ["cat"], ["dog"]), ({0, 1}, ["dog"], ["cat"])),
            CLASSES,
            {1: "dog", 2: "cat"},
        ),
        # Right as they are.
        (seen(({0, 1}, ["cat"], ["cat"]), ({0, 2}, ["dog"], ["dog"])), CLASSES, None),
        # Nothing is known of empty masks, of two values of one class, of values of all images.
        (seen(*[({0}, ["cat"], [])] * 2), ["cat"], None),
        (seen(({0, 7, 9}, ["cat"], []), ({0}, [], [])), ["cat"], None),
        (seen(*[({0, 7, 9}, CLASSES, [])] * 2), CLASSES, None),
        # A rare class is not the meaning of any other rare value.
        (
            seen(*[({0, 1}, ["cat"], [])] * 8, ({0, 1}, CLASSES, []), ({0, 1, 9}, ["cat"], [])),
            CLASSES,
            None,
        ),
    ],
)
def test_mask_values_that_agree_with_the_labels_are_suggested(masks, classes, expected):
    assert suggested_values(masks, classes) == expected


def test_masks_that_never_show_their_labels_are_refused_with_values_and_fix():
    (problem,) = mask_problems(BINARY, ["train"], ["cat"], mapped=False)
    assert problem == (
        "none of the 3 masks of labeled train images shows a class that its image is labeled "
        "with: their values are 0, 255 (0 is the background, 255 is ignored), expected the "
        "class numbers: save cat as 1, or set `mask_values: {255: cat}` in the "
        "configuration's dataset if the values mean that"
    )
    assert list(mask_problems(BINARY, ["val"], ["cat"], mapped=False)) == []
    (mapped,) = mask_problems(BINARY, ["train"], ["cat"], mapped=True)
    assert mapped.endswith("values are 0, 255, expected values that `mask_values` assigns to cat")


def test_one_mask_that_shows_its_label_is_enough_and_each_split_counts():
    right = seen(({0, 1}, ["cat"], ["cat"]), ({0}, ["cat"], []))
    assert list(mask_problems(right, ["train"], CLASSES, mapped=False)) == []
    empty = seen(*[({0}, ["dog"], [])] * 2, split="val")
    (problem,) = mask_problems([*right, *empty], ["train", "val"], CLASSES, mapped=False)
    assert problem.startswith("none of the 2 masks of labeled val images")
    assert "their only value is 0 (0 is the background), expected" in problem
    assert problem.endswith("save dog as 2")


def test_masks_of_images_without_a_label_alone_are_refused():
    bare = seen(({0}, [], []), ({0}, [], []), split="val")
    right = seen(({0, 1}, ["cat"], ["cat"]))
    (problem,) = mask_problems([*right, *bare], ["train", "val"], CLASSES, mapped=False)
    assert problem.startswith(
        "none of the val images that have a mask has a label, such as val0 (2 in all), so "
        "scores would measure only the background, expected masks of labeled images too"
    )
    # Not scored, or without any mask, which is a problem of its own.
    assert list(mask_problems([*right, *bare], ["train"], CLASSES, mapped=False)) == []
    assert list(mask_problems(right, ["train", "val"], CLASSES, mapped=False)) == []


def test_contradictions_are_counted_with_examples():
    masks = seen(
        ({0, 1}, ["cat"], ["cat"]),
        ({0, 2}, ["cat"], ["dog"]),
        ({0}, ["dog"], []),
        ({0, 1}, [], ["cat"]),
    )
    (finding,) = contradiction_findings(masks, CLASSES, mapped=False)
    assert finding.got == (
        "3 of 4 (75.0 %), such as train1 (labels: cat; mask: dog), train2 (labels: dog; mask: no "
        "class), train3 (labels: none; mask: cat)"
    )
    assert list(contradiction_findings(masks[:1], CLASSES, mapped=False)) == []


def test_a_class_that_no_mask_of_its_images_shows_is_a_finding():
    hidden = seen(*[({0, 1}, CLASSES, ["cat"])] * 3)
    found = list(contradiction_findings(hidden, CLASSES, mapped=False))
    assert [item.name for item in found] == [
        "masks that contradict the labels",
        "classes that no mask of their images shows",
    ]
    assert found[1].got == "dog (3 images)"
    assert len(list(contradiction_findings(hidden[:2], CLASSES, mapped=False))) == 1
