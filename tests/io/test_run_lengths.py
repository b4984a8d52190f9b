"""Run lengths against pycocotools, and damaged ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from pipeline.io.run_lengths import decompressed, mask_runs

MASKS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
                   elements=st.integers(0, 1))  # fmt: skip


def filled(runs, size):
    """Paint runs, one after another."""
    flat = np.zeros(size[0] * size[1], np.uint8)
    for start, length in zip(*runs, strict=True):
        assert length > 0 and not flat[start : start + length].any()
        flat[start : start + length] = 1
    return flat.reshape(size, order="F")


def encoded(mask):
    """Return the compressed run lengths of a mask, by pycocotools."""
    made = coco.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": made["counts"].decode()}


def plain(mask):
    """Return the run lengths of a mask as SAM's mask_to_rle writes them: 0 first."""
    counts, value = [0], 0
    for pixel in mask.ravel(order="F").tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@given(MASKS)
def test_both_forms_are_decoded_to_the_mask(mask):
    for segmentation in (encoded(mask), plain(mask)):
        assert np.array_equal(filled(mask_runs(segmentation, mask.shape), mask.shape), mask)


def test_long_runs_have_several_characters():
    mask = np.zeros((1000, 1200), np.uint8)
    mask[3:, 500:700] = 1
    mask[:, 1199] = 1
    runs = mask_runs(encoded(mask), mask.shape)
    assert np.array_equal(filled(runs, mask.shape), mask)


def test_runs_are_counted_column_by_column():
    starts, lengths = mask_runs({"size": [2, 2], "counts": [1, 2, 1]}, (2, 2))
    assert (starts.tolist(), lengths.tolist()) == ([1], [2])  # lower left and upper right


@given(st.text(max_size=12))
def test_any_text_is_a_mask_or_refused(text):
    try:
        starts, lengths = mask_runs({"size": [3, 5], "counts": text}, (3, 5))
    except ValueError:
        return
    assert filled((starts, lengths), (3, 5)).sum() == lengths.sum() <= 15


@given(MASKS, st.data())
def test_a_text_that_is_cut_off_is_refused(mask, data):
    text = encoded(mask)["counts"]
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ValueError, match="expected"):
        mask_runs({"size": list(mask.shape), "counts": text[:cut]}, mask.shape)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "no size and counts, expected run lengths"),
        ([[1, 2, 3, 4, 5, 6]], "no size and counts"),  # a polygon
        ({"size": [3, 2], "counts": [6]}, r"size is \[3, 2\], expected .* \[2, 3\]"),
        ({"size": [2, 3], "counts": [5]}, "sum to 5 pixels, expected 2 x 3"),
        ({"size": [2, 3], "counts": [3, 4]}, "sum to 7 pixels"),
        ({"size": [2, 3], "counts": [7, -1]}, "no whole numbers"),
        ({"size": [2, 3], "counts": [1.5, 4.5]}, "no whole numbers"),
        ({"size": [2, 3], "counts": [True, 5]}, "no whole numbers"),
        ({"size": [2, 3], "counts": [2**70, 1]}, "no whole numbers"),
        ({"size": [2, 3], "counts": 6}, "no whole numbers"),
        ({"size": [2, 3], "counts": "6é"}, "damaged"),
        ({"size": [2, 3], "counts": "P"}, "damaged"),  # more is said to follow
        ({"size": [2, 3], "counts": "ooooooo0"}, "more than 30 bits"),
    ],
)
def test_damaged_run_lengths_are_refused(segmentation, message):
    with pytest.raises(ValueError, match=message):
        mask_runs(segmentation, (2, 3))


def test_differences_begin_with_the_fourth_length():
    # 5, 1, 2, then 4 - 1 and 1 - 2: a five-bit number above code 48, -1 as 31.
    assert decompressed("512" + chr(48 + 3) + chr(48 + 31)).tolist() == [5, 1, 2, 4, 1]
