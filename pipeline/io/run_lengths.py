"""Run lengths of binary masks in the two forms of COCO (Lin et al. 2014).

A mask is written column by column as the lengths of alternating runs of 0 and 1, 0 first: as a
list of numbers, or compressed as text. pycocotools decodes both, but does not check them: lengths
that do not fit the size read and write outside of its arrays.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A character of the text is a number of six bits above this code: five bits of a length, the
#: lowest first, and whether more follow.
FIRST_CODE, MORE, SIGN = 48, 0x20, 0x10
#: Most characters of a length: 30 bits are more pixels than an image may have.
MAX_CHARACTERS = 6

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]


def mask_runs(segmentation: Any, size: tuple[int, int]) -> Runs:
    """Decode a mask to the runs of its pixels.

    Parameters
    ----------
    segmentation : mapping
        Keys ``size`` ([height, width]) and ``counts``: a list of numbers, or compressed text.
    size : (int, int)
        Expected height and width.

    Returns
    -------
    starts, lengths : (N,) int64 array
        Runs of pixels of the mask, with pixels counted column by column; ascending, none empty.

    Raises
    ------
    ValueError
        If the run lengths are damaged, or are of a mask of another size.

    Examples
    --------
    >>> starts, lengths = mask_runs({"size": [2, 3], "counts": [1, 3, 2]}, (2, 3))
    >>> starts.tolist(), lengths.tolist()
    ([1], [3])
    """
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(
            "its segmentation has no size and counts, expected run lengths: write masks with "
            "--convert-to-rle or output_mode=coco_rle"
        )
    if segmentation["size"] != list(size):
        raise ValueError(
            f"its size is {segmentation['size']}, expected that of the image, {list(size)}"
        )
    lengths = _lengths(segmentation["counts"])
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise ValueError(
            f"its run lengths sum to {lengths.sum()} pixels, expected {size[0]} x {size[1]} "
            "lengths of 0 or more"
        )
    ends = np.cumsum(lengths)[1::2]
    inside = lengths[1::2]
    return (ends - inside)[inside > 0], inside[inside > 0]


def _lengths(counts: Any) -> NDArray[np.int64]:
    if isinstance(counts, str):
        return decompressed(counts)
    numbers = isinstance(counts, list) and all(type(number) is int for number in counts)
    if not numbers or any(not 0 <= number < 2**31 for number in counts):
        raise ValueError("its counts are no whole numbers, expected a list of lengths, or text")
    return np.array(counts, np.int64)


def decompressed(text: str) -> NDArray[np.int64]:
    """Decode the compressed text of run lengths.

    From the fourth length on, the text has the difference to the length before the last one.

    Raises
    ------
    ValueError
        If the text has other characters than run lengths are written with, or ends within a length.
    """
    codes = np.array([ord(character) - FIRST_CODE for character in text], np.int64)
    if not len(codes):
        return codes
    if (codes < 0).any() or (codes >= 2 * MORE).any() or codes[-1] & MORE:
        raise ValueError("its counts are damaged, expected complete compressed run lengths")
    last = np.flatnonzero((codes & MORE) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() >= MAX_CHARACTERS:
        raise ValueError("its counts have a length of more than 30 bits, expected fewer pixels")
    place = 5 * (np.arange(len(codes)) - np.repeat(first, last - first + 1))
    numbers = np.add.reduceat((codes & (MORE - 1)) << place, first)
    numbers -= np.where(codes[last] & SIGN, np.int64(1) << (place[last] + 5), 0)
    for parity in (1, 2):  # the very first length stands alone
        numbers[parity::2] = np.cumsum(numbers[parity::2])
    return numbers
