"""What a data set holds, in numbers: images, labels, classes together, sizes, equal files."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import Manifest, Record, evenly_spaced
from pipeline.errors import UserError
from pipeline.io.files import sha256_of
from pipeline.io.images import deep_maximum
from pipeline.runtime.parallel import map_images

#: Similarity of two words (difflib's ratio) from which on one may be a slip of the other.
NEAR = 0.8
#: Largest value of a picture of 16 bits that uses a quarter of the range: 14 bits.
DIM = 2**14 - 1


@dataclass(frozen=True)
class Overview:
    """Counts of images and labels. Class number k is at index ``k - 1``.

    Attributes
    ----------
    images : dict of str to int
        Images by split.
    of_class : dict of str to (C,) int64 array
        Images of each class by split.
    with_labels : dict of str to (K + 1,) int64 array
        By split, the number of images with 0, 1, ... K labels; K is the most of any image.
    together : (C, C) int64 array
        Train images that show both classes: symmetric, with each class's own on the diagonal.
    alone : (C,) int64 array
        Train images that show the class and no other.
    """

    images: dict[str, int]
    of_class: dict[str, NDArray[np.int64]]
    with_labels: dict[str, NDArray[np.int64]]
    together: NDArray[np.int64]
    alone: NDArray[np.int64]


@dataclass(frozen=True)
class Range:
    """Smallest, median and largest of a measure of pictures."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class Sizes:
    """Sizes of pictures: sides in pixels, area in megapixels, long side over short side.

    ``smallest`` and ``largest`` are by area.
    """

    width: Range
    height: Range
    megapixels: Range
    elongation: Range
    smallest: Record
    largest: Record
    longest: Record


def summarize(manifest: Manifest) -> Overview:
    """Count the images and labels of a data set."""
    shown = {split: manifest.targets(manifest.of_split(split)) for split in ("train", "val")}
    per_image = {split: matrix.sum(axis=1).astype(np.int64) for split, matrix in shown.items()}
    most = max(int(counts.max(initial=0)) for counts in per_image.values())
    # In float64 the product is exact, and linear algebra's own instead of a loop over integers.
    train = shown["train"].astype(np.float64)
    return Overview(
        images={split: len(matrix) for split, matrix in shown.items()},
        of_class={split: matrix.astype(np.int64).sum(axis=0) for split, matrix in shown.items()},
        with_labels={
            split: np.bincount(counts, minlength=most + 1).astype(np.int64)
            for split, counts in per_image.items()
        },
        together=(train.T @ train).astype(np.int64),
        alone=train[per_image["train"] == 1].sum(axis=0).astype(np.int64),
    )


def measure(records: Sequence[Record]) -> Sizes:
    """Give the range of the pictures' sizes and name the extremes; of equals, the first.

    Parameters
    ----------
    records : sequence of Record
        One or more.
    """
    areas = [record.width * record.height for record in records]
    shapes = [elongation(record) for record in records]
    return Sizes(
        width=_range([record.width for record in records]),
        height=_range([record.height for record in records]),
        megapixels=_range([area / 1e6 for area in areas]),
        elongation=_range(shapes),
        smallest=records[int(np.argmin(areas))],
        largest=records[int(np.argmax(areas))],
        longest=records[int(np.argmax(shapes))],
    )


def elongation(record: Record) -> float:
    """Give a picture's long side over its short side: 1 for a square."""
    return max(record.width, record.height) / min(record.width, record.height)


def pictures_of_classes(
    manifest: Manifest, count: int, most: int
) -> tuple[dict[str, list[Record]], list[Record]]:
    """Choose pictures that stand for each class, and for the images without a label.

    They are evenly spaced over the train images; where those are too few, over the val
    images besides.

    Parameters
    ----------
    manifest : Manifest
    count : int
        Pictures a class.
    most : int
        Pictures in all; with many classes each has fewer, but at least one.

    Returns
    -------
    dict of str to list of Record
        By class, in the classes' order.
    list of Record
        Images without a label.
    """
    count = min(count, max(1, most // (len(manifest.classes) + 1)))
    groups: dict[str, dict[str, list[Record]]] = {
        name: {"train": [], "val": []} for name in ("", *manifest.classes)
    }
    for record in manifest.records:
        for name in record.labels or ("",):
            groups[name][record.split].append(record)
    chosen = {}
    for name, splits in groups.items():
        train = evenly_spaced(splits["train"], count)
        chosen[name] = train + evenly_spaced(splits["val"], count - len(train))
    unlabeled = chosen.pop("")
    return chosen, unlabeled


def identical_files(records: Sequence[Record], workers: int) -> list[tuple[Record, ...]]:
    """Group the records whose files have the same bytes (by SHA-256).

    Only files of the same length are read.

    Parameters
    ----------
    records : sequence of Record
    workers : int
        Processes.

    Returns
    -------
    list of tuple of Record
        Groups of two or more, in the records' order.

    Raises
    ------
    UserError
        If a file is gone.
    """
    lengths = [_length(record.image) for record in records]
    shared = Counter(lengths)
    suspects = [r for r, length in zip(records, lengths, strict=True) if shared[length] > 1]
    paths = [record.image for record in suspects]
    digests = map_images(sha256_of, paths, workers=workers, what="files of equal length compared")
    groups: dict[str, list[Record]] = {}
    for record, digest in zip(suspects, digests, strict=True):
        groups.setdefault(digest, []).append(record)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def dim_pictures(records: Sequence[Record], workers: int) -> list[tuple[Record, int]]:
    """Return the pictures of 16 bits a channel that use a quarter of the range or less.

    Only headers are read of pictures of 8 bits.

    Parameters
    ----------
    records : sequence of Record
    workers : int
        Processes.

    Returns
    -------
    list of (Record, int)
        With the largest value of each, in the records' order.

    Raises
    ------
    UserError
        If a file cannot be read.
    """
    paths = [record.image for record in records]
    maxima = map_images(deep_maximum, paths, workers=workers, what="depths of pictures read")
    pairs = zip(records, maxima, strict=True)
    return [(record, most) for record, most in pairs if most is not None and most <= DIM]


def look_alikes(names: Sequence[str]) -> list[tuple[str, str]]:
    """Give the pairs of names that differ in spelling only: case, spaces, a plural, a slip."""
    return [(one, other) for one, other in combinations(names, 2) if _alike(one, other)]


def joined_names(names: Sequence[str]) -> list[str]:
    """Give the names that read as several: labels that something else than ";" joins.

    A comma or a bar is enough; what stands apart by a space, a slash, "&" or "+" has to be made
    of other names.
    """
    known = set(names)
    apart = {name: [part for part in re.split(r"[\s/&+]+", name) if part] for name in names}
    return [
        name
        for name in names
        if re.search("[,|]", name) or (len(apart[name]) > 1 and known.issuperset(apart[name]))
    ]


def _alike(one: str, other: str) -> bool:
    # Names with other numbers ("type 1", "type 2", WordNet's "n02085620") differ on purpose.
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return False
    left, right = _words(one), _words(other)
    if len(left) != len(right):
        left, right = ["".join(left)], ["".join(right)]
    # Word by word, or "white-throated sparrow" and "white-crowned sparrow" would be near.
    return all(map(_same_word, left, right))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", name.casefold()) if word] or [name]


def _same_word(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=lambda word: (len(word), word))
    plurals = (f"{short}s", f"{short}es", f"{short.removesuffix('y')}ies")
    matcher = difflib.SequenceMatcher(None, short, long, autojunk=False)
    return short == long or long in plurals or matcher.ratio() >= NEAR


def _range(values: Sequence[float]) -> Range:
    return Range(float(np.min(values)), float(np.median(values)), float(np.max(values)))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such image, though the manifest names it: run prepare_dataset again"
        ) from error
