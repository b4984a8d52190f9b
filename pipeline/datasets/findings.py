"""Findings: properties of a data set that harm weakly supervised training, with their fix."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.datasets.manifest import Manifest, Record
from pipeline.datasets.overview import Overview, elongation, joined_names, similar_names
from pipeline.errors import printable
from pipeline.io.files import damaged, replacing
from pipeline.io.tables import read_json

#: A class with fewer train images than this is rare.
RARE = 10
#: Classes are imbalanced if the most frequent one has more than this many times the images of the
#: rarest one.
IMBALANCED = 50
#: A class with more than this share of the train images is on nearly every image.
UBIQUITOUS = 0.95
#: Maximum share of train images without a label.
UNLABELED = 0.5
#: Short side in pixels below which an image is small, and long side above which it is large.
SMALL, LARGE = 64, 4096
#: Images with a larger ratio of long side to short side are elongated.
ELONGATED = 5
#: Maximum number of examples in a finding.
MAX_EXAMPLES = 5

Duplicates = Sequence[Sequence[Record]]


@dataclass(frozen=True)
class Finding:
    """A possible problem: what was found, why it matters, and how to fix it."""

    name: str
    got: str
    why: str
    fix: str

    def __str__(self) -> str:
        line = f"{self.name}: {self.got}. {self.why}. {self.fix}."
        return printable(" ".join(line.split()))  # names from a table may contain line breaks


def findings(
    manifest: Manifest,
    overview: Overview,
    duplicates: Duplicates,
    dim: Sequence[tuple[Record, int]] = (),
) -> list[Finding]:
    """Return the findings about a data set, at most one of each name.

    Parameters
    ----------
    manifest : Manifest
    overview : Overview
        Overview of the manifest.
    duplicates : sequence of sequence of Record
        Groups of records with identical files.
    dim : sequence of (Record, int)
        16-bit images that use little of the value range, with their largest values.
    """
    return [
        *_duplicate_findings(duplicates),
        *_name_findings(manifest.classes),
        *_count_findings(manifest.classes, overview),
        *_cooccurrence_findings(manifest.classes, overview),
        *_size_findings(manifest.records),
        *depth_findings(dim, len(manifest.records)),
    ]


def _duplicate_findings(duplicates: Duplicates) -> Iterator[Finding]:
    leaks = [group for group in duplicates if len({record.split for record in group}) > 1]
    conflicting = [group for group in duplicates if len({frozenset(r.labels) for r in group}) > 1]
    if leaks:
        yield Finding(
            "same image in train and val",
            listed(_first_difference(group, key=lambda record: record.split) for group in leaks),
            "Scores on val then reward memorized images",
            "Keep one of each, or put all of them into one split",
        )
    if conflicting:
        yield Finding(
            "same image, different labels",
            listed(
                _first_difference(group, key=lambda record: frozenset(record.labels))
                for group in conflicting
            ),
            "At least one of the rows is wrong, and the network is trained on both",
            "Keep the image once, with the labels of all classes that it shows",
        )
    if rest := [group for group in duplicates if group not in leaks and group not in conflicting]:
        yield Finding(
            "same image twice",
            listed(_first_difference(group, key=lambda record: record.id) for group in rest),
            "The image counts twice, in training or in the scores",
            "Delete the copies and their rows",
        )


def _name_findings(classes: Sequence[str]) -> Iterator[Finding]:
    joined = joined_names(classes)
    if joined:
        yield Finding(
            "class names that look like several names",
            listed(f"“{name}”" for name in joined),
            "Names that are not joined by “;” are one class, whose images count as negative "
            "examples of the classes in its name",
            "If they are several labels, join them by “;” in the table",
        )
    if pairs := similar_names([name for name in classes if name not in joined]):
        yield Finding(
            "similar class names",
            listed(f"“{one}” and “{other}”" for one, other in pairs),
            "If both names mean the same class, the images of each are negative examples of the "
            "other",
            "In that case, use one spelling in the labels",
        )


def _count_findings(classes: Sequence[str], overview: Overview) -> Iterator[Finding]:
    train, val = (overview.of_class[split].tolist() for split in ("train", "val"))
    counted = {name: count for name, count in zip(classes, train, strict=True) if count}
    if never := [name for name in classes if name not in counted]:
        yield Finding(
            "classes without a train image",
            listed(never),
            "Networks cannot learn them, so predictions never show them",
            "Label train images with them, or remove them from the classes",
        )
    if few := {name: count for name, count in counted.items() if count < RARE}:
        yield Finding(
            f"classes with fewer than {RARE} train images",
            listed(f"{name} ({count})" for name, count in few.items()),
            "With so few images, a classifier may learn the surroundings instead of the object",
            "Add images of them, or merge them into a broader class",
        )
    if unseen := [name for name, n in zip(classes, val, strict=True) if name in counted and not n]:
        yield Finding(
            "classes without a val image",
            listed(unseen),
            "The scores cannot show how well they are learned",
            "Move some of their images to val, with a column `split` in the table of labels",
        )
    if counted and max(counted.values()) > IMBALANCED * min(counted.values()):
        most, least = max(counted, key=counted.__getitem__), min(counted, key=counted.__getitem__)
        yield Finding(
            "imbalanced classes",
            f"{most} has {counted[most]} train images, {least} {counted[least]}",
            "The frequent class dominates the loss, and the rare class is hardly ever predicted",
            f"Add images of {least}, or remove some images that show only {most}",
        )


def _cooccurrence_findings(classes: Sequence[str], overview: Overview) -> Iterator[Finding]:
    images, counts = overview.images["train"], overview.of_class["train"]
    ubiquitous = counts > UBIQUITOUS * images
    if ubiquitous.any():
        yield Finding(
            "classes on nearly every image",
            listed(
                f"{classes[k]} ({counts[k]} of {images})" for k in ubiquitous.nonzero()[0].tolist()
            ),
            "Without negative examples, a classifier can be right without using the object",
            "Add images without the class; leave the labels of images without any class empty",
        )
    unlabeled = int(overview.with_labels["train"][0])
    if unlabeled > UNLABELED * images:
        yield Finding(
            "mostly images without a label",
            f"{unlabeled} of {images} train images",
            "Images without a label are negative examples only: they show no class",
            "Check that no labels were lost; otherwise leave out most of these images",
        )
    # A class on nearly every image occurs with every other class, and is reported above.
    others = overview.cooccurrence * ~np.eye(len(classes), dtype=bool) * ~ubiquitous
    always = (others == counts[:, None]) & (counts > 0)[:, None]
    # Report two classes that always occur together once.
    pairs = [(a, b) for a, b in np.argwhere(always).tolist() if a < b or not always[b, a]]
    if pairs:
        yield Finding(
            "classes never seen without another",
            listed(f"{classes[a]} ({counts[a]}, always with {classes[b]})" for a, b in pairs),
            "Image-level labels cannot separate the two, so class activation maps cover both",
            "Add images that show the class without the other, or merge the two",
        )


def _size_findings(records: Sequence[Record]) -> Iterator[Finding]:
    if small := [record for record in records if min(record.width, record.height) < SMALL]:
        yield Finding(
            f"images with a side below {SMALL} pixels",
            _listed_sizes(sorted(small, key=lambda record: min(record.width, record.height))),
            "A cell of a class map covers many pixels, so their maps have very few cells",
            "Use larger originals, or leave these images out",
        )
    if long := [record for record in records if elongation(record) > ELONGATED]:
        yield Finding(
            f"images more elongated than {ELONGATED} : 1",
            _listed_sizes(sorted(long, key=elongation, reverse=True)),
            "Square training crops of them are mostly padding",
            "Cut them into parts that are closer to squares, and label each part",
        )
    if large := [record for record in records if max(record.width, record.height) > LARGE]:
        yield Finding(
            f"images with a side above {LARGE} pixels",
            _listed_sizes(sorted(large, key=lambda record: -max(record.width, record.height))),
            "Class maps, random walks and the dense CRF need time and memory for every pixel",
            "Set `max_size` of attributions, random_walks and prediction, or shrink the files",
        )


def depth_findings(dim: Sequence[tuple[Record, int]], images: int) -> Iterator[Finding]:
    """Yield a finding if images with 16 bits per channel use little of the value range.

    Parameters
    ----------
    dim : sequence of (Record, int)
        These images with their largest values.
    images : int
        Total number of images.
    """
    if dim:
        brightest = max(most for _, most in dim)
        bits = brightest.bit_length()
        examples = listed(f"{record.id} (largest value {most})" for record, most in dim)
        yield Finding(
            "16-bit images that are almost black",
            f"{len(dim)} of {images}: {examples}",
            f"In every file, 0 is read as black and 65535 as white, so {brightest} becomes "
            f"{brightest >> 8} of 255",
            f"If the values have {bits} bits, multiply all values in all files by "
            f"{2 ** (16 - bits)} and save the files again",
        )


def _listed_sizes(records: Sequence[Record]) -> str:
    return listed(f"{record.id} ({record.width} x {record.height})" for record in records)


def _first_difference(group: Sequence[Record], key: Callable[[Record], object]) -> str:
    """Return the first record of a group and the first that differs from it, as text."""
    other = next(record for record in group if key(record) != key(group[0]))
    texts = (f"{r.id} ({r.split}: {', '.join(r.labels) or 'no label'})" for r in (group[0], other))
    return " = ".join(texts) + (f" and {len(group) - 2} more" if len(group) > 2 else "")


def listed(items: Iterable[str]) -> str:
    """Join the first few items, and count the others."""
    names = list(items)
    more = f" and {len(names) - MAX_EXAMPLES} more" if len(names) > MAX_EXAMPLES else ""
    return ", ".join(names[:MAX_EXAMPLES]) + more


def write_findings(path: Path, found: Sequence[Finding]) -> None:
    """Write findings as a JSON list; names that cannot be printed are escaped."""
    rows = [{key: printable(text) for key, text in asdict(item).items()} for item in found]
    with replacing(path) as partial:
        text = json.dumps(rows, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")


def read_findings(path: Path) -> list[Finding]:
    """Read what :func:`write_findings` wrote.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    rows = read_json(path)
    try:
        if not all(isinstance(text, str) for row in rows for text in row.values()):
            raise TypeError("a value is not a string")
        return [Finding(**row) for row in rows]
    except (TypeError, AttributeError) as error:
        raise damaged(path, "list of findings", error) from error
