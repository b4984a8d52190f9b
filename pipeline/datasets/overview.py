"""Statistics of a data set: images, labels, co-occurring classes, sizes, identical files."""

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

#: Words with at least this similarity (difflib's ratio) may be misspellings of each other.
MIN_SIMILARITY = 0.8
#: Largest value of a 16-bit image that uses a quarter of the range (14 bits).
DIM = 2**14 - 1


@dataclass(frozen=True)
class Overview:
    """Counts of images and labels. Class number k is at index ``k - 1``.

    Attributes
    ----------
    images : dict of str to int
        Number of images by split.
    of_class : dict of str to (C,) int64 array
        Number of images of each class by split.
    with_labels : dict of str to (K + 1,) int64 array
        Number of images with 0, 1, ... K labels by split; K is the maximum over all images.
    cooccurrence : (C, C) int64 array
        Number of train images that show both classes; symmetric. The diagonal counts all images
        of a class.
    alone : (C,) int64 array
        Number of train images that show the class and no other.
    """

    images: dict[str, int]
    of_class: dict[str, NDArray[np.int64]]
    with_labels: dict[str, NDArray[np.int64]]
    cooccurrence: NDArray[np.int64]
    alone: NDArray[np.int64]


@dataclass(frozen=True)
class Range:
    """Minimum, median and maximum of a measure of images."""

    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True)
class Sizes:
    """Sizes of images: sides in pixels, area in megapixels, long side over short side.

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
    # The product is exact in float64, and BLAS is faster than the loop over integers.
    train = shown["train"].astype(np.float64)
    return Overview(
        images={split: len(matrix) for split, matrix in shown.items()},
        of_class={split: matrix.astype(np.int64).sum(axis=0) for split, matrix in shown.items()},
        with_labels={
            split: np.bincount(counts, minlength=most + 1).astype(np.int64)
            for split, counts in per_image.items()
        },
        cooccurrence=(train.T @ train).astype(np.int64),
        alone=train[per_image["train"] == 1].sum(axis=0).astype(np.int64),
    )


def measure(records: Sequence[Record]) -> Sizes:
    """Compute the ranges of image sizes, and find the extremes (the first among ties).

    Parameters
    ----------
    records : sequence of Record
        At least one record.
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
    """Return the ratio of an image's long side to its short side: 1 for a square."""
    return max(record.width, record.height) / min(record.width, record.height)


def class_examples(
    manifest: Manifest, count: int, limit: int
) -> tuple[dict[str, list[Record]], list[Record]]:
    """Select example images of each class, and of the images without a label.

    Examples are evenly spaced over the train images. If there are too few, val images are added.

    Parameters
    ----------
    manifest : Manifest
    count : int
        Images per class.
    limit : int
        Maximum total number of images. With many classes, each has fewer, but at least one.

    Returns
    -------
    dict of str to list of Record
        Examples by class, in the order of classes.
    list of Record
        Examples without a label.
    """
    count = min(count, max(1, limit // (len(manifest.classes) + 1)))
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
    """Return groups of records whose files have the same bytes (by SHA-256).

    Only files of equal length are read.

    Parameters
    ----------
    records : sequence of Record
    workers : int
        Number of processes.

    Returns
    -------
    list of tuple of Record
        Groups of two or more records, in the given order.

    Raises
    ------
    UserError
        If a file does not exist.
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


def dim_images(records: Sequence[Record], workers: int) -> list[tuple[Record, int]]:
    """Return the images with 16 bits per channel that use a quarter of the range or less.

    Of 8-bit images, only the headers are read.

    Parameters
    ----------
    records : sequence of Record
    workers : int
        Number of processes.

    Returns
    -------
    list of (Record, int)
        Records in the given order, each with its largest value.

    Raises
    ------
    UserError
        If a file cannot be read.
    """
    paths = [record.image for record in records]
    maxima = map_images(deep_maximum, paths, workers=workers, what="bit depths of images read")
    pairs = zip(records, maxima, strict=True)
    return [(record, most) for record, most in pairs if most is not None and most <= DIM]


def similar_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of names that differ only in spelling: case, spaces, plural, a typo."""
    return [(one, other) for one, other in combinations(names, 2) if _are_similar(one, other)]


def joined_names(names: Sequence[str]) -> list[str]:
    """Return the names that look like several labels joined by something other than ";".

    These are names with a comma or a bar, and names that consist of other names joined by a
    space, a slash, "&" or "+".
    """
    known = set(names)
    parts = {name: [part for part in re.split(r"[\s/&+]+", name) if part] for name in names}
    return [
        name
        for name in names
        if re.search("[,|]", name) or (len(parts[name]) > 1 and known.issuperset(parts[name]))
    ]


def _are_similar(one: str, other: str) -> bool:
    # Names with different numbers ("type 1", "type 2", WordNet's "n02085620") differ on purpose.
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return False
    left, right = _words(one), _words(other)
    if len(left) != len(right):
        left, right = ["".join(left)], ["".join(right)]
    # Compare word by word: "white-throated sparrow" and "white-crowned sparrow" are not similar.
    return all(map(_same_word, left, right))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", name.casefold()) if word] or [name]


def _same_word(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=lambda word: (len(word), word))
    plurals = (f"{short}s", f"{short}es", f"{short.removesuffix('y')}ies")
    matcher = difflib.SequenceMatcher(None, short, long, autojunk=False)
    return short == long or long in plurals or matcher.ratio() >= MIN_SIMILARITY


def _range(values: Sequence[float]) -> Range:
    return Range(float(np.min(values)), float(np.median(values)), float(np.max(values)))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such image, but the manifest lists it: run prepare_dataset again"
        ) from error
