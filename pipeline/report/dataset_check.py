"""The page of a data set before any compute: counts, sizes, pictures, what is worth checking."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import Manifest, Record
from pipeline.datasets.overview import Overview, elongation, look_alikes, measure
from pipeline.report.html import render

#: Train images of a class below which it is rare.
RARE = 10
#: Train images of the commonest class per image of the rarest above which they are imbalanced.
IMBALANCED = 50
#: Share of the train images above which a class is everywhere.
EVERYWHERE = 0.95
#: Share of the train images above which those without a label are too many.
UNLABELLED = 0.5
#: Short side below which a picture is small, long side above which it is large, in pixels.
SMALL, LARGE = 64, 4096
#: Long side over short side above which a picture is elongated.
ELONGATED = 5
#: Examples that a finding names.
NAMED = 5

#: Classes in the matrix of those that occur together.
MATRIX = 40
#: Labels per image from which on images are counted together.
MANY = 8
#: Side of the chart of sizes, and its finest step: points of a part of an octave are one.
SIDE, PER_OCTAVE = 320, 16

Twins = Sequence[Sequence[Record]]


@dataclass(frozen=True)
class Finding:
    """Something worth checking: what was got, why it matters, and how to mend it."""

    name: str
    got: str
    why: str
    fix: str

    def __str__(self) -> str:
        line = f"{self.name}: {self.got}. {self.why}. {self.fix}."
        return " ".join(line.split())  # names from a table may hold line breaks


@dataclass(frozen=True)
class Shot:
    """One picture of the contact sheet."""

    record: Record
    url: str


def findings(manifest: Manifest, overview: Overview, twins: Twins) -> list[Finding]:
    """List what is worth checking, at most one finding of each name.

    Parameters
    ----------
    manifest : Manifest
    overview : Overview
        Of that manifest.
    twins : sequence of sequence of Record
        Groups of records with identical files.
    """
    return [
        *_of_twins(twins),
        *_of_names(manifest.classes),
        *_of_counts(manifest.classes, overview),
        *_of_company(manifest.classes, overview),
        *_of_sizes(manifest.records),
    ]


def render_check(
    manifest: Manifest,
    overview: Overview,
    found: Sequence[Finding],
    sheet: Mapping[str, Sequence[Shot]],
    unlabelled: Sequence[Shot],
) -> str:
    """Give the HTML document. The same arguments give the same bytes.

    Parameters
    ----------
    manifest : Manifest
        Of one record or more.
    overview : Overview
    found : sequence of Finding
    sheet : mapping of str to sequence of Shot
        Pictures by class.
    unlabelled : sequence of Shot
        Pictures without a label.
    """
    return render(
        "dataset_check.html.j2",
        manifest=manifest,
        overview=overview,
        found=found,
        sheet=sheet,
        unlabelled=unlabelled,
        classes=_class_rows(manifest.classes, overview),
        histogram=_histogram(overview),
        matrix=_matrix(overview.together),
        sizes=measure(manifest.records),
        scatter=_scatter(manifest.records),
        rare=RARE,
    )


def _of_twins(twins: Twins) -> Iterator[Finding]:
    leaks = [group for group in twins if len({record.split for record in group}) > 1]
    torn = [group for group in twins if len({frozenset(record.labels) for record in group}) > 1]
    if leaks:
        yield Finding(
            "same picture in train and val",
            _listed(_equals(group, key=lambda record: record.split) for group in leaks),
            "Scores on val then reward memory",
            "Keep one of each, or put all of them into one split",
        )
    if torn:
        yield Finding(
            "same picture, other labels",
            _listed(_equals(group, key=lambda record: frozenset(record.labels)) for group in torn),
            "At least one of the rows is wrong, and training is told both",
            "Keep the picture once, with all that it shows",
        )
    if rest := [group for group in twins if group not in leaks and group not in torn]:
        yield Finding(
            "same picture twice",
            _listed(_equals(group, key=lambda record: record.id) for group in rest),
            "It counts twice, in training or in the scores",
            "Delete the copies and their rows",
        )


def _of_names(classes: Sequence[str]) -> Iterator[Finding]:
    if pairs := look_alikes(classes):
        yield Finding(
            "similar class names",
            _listed(f"“{one}” and “{other}”" for one, other in pairs),
            "Where both mean one thing, each is taught not to be the other",
            "If so, give them one spelling in the labels",
        )


def _of_counts(classes: Sequence[str], overview: Overview) -> Iterator[Finding]:
    train, val = (overview.of_class[split].tolist() for split in ("train", "val"))
    counted = {name: count for name, count in zip(classes, train, strict=True) if count}
    if never := [name for name in classes if name not in counted]:
        yield Finding(
            "classes without a train image",
            _listed(never),
            "Nothing is learned of them, and they are in no mask",
            "Label train images with them, or take them out of the classes",
        )
    if few := {name: count for name, count in counted.items() if count < RARE}:
        yield Finding(
            f"classes with fewer than {RARE} train images",
            _listed(f"{name} ({count})" for name, count in few.items()),
            "So few teach the surroundings rather than the object",
            "Add pictures of them, or merge them into a wider class",
        )
    if unseen := [name for name, n in zip(classes, val, strict=True) if name in counted and not n]:
        yield Finding(
            "classes without a val image",
            _listed(unseen),
            "Nothing measures how well they are learned",
            "Move some of their pictures to val, by a column split in the table of labels",
        )
    if counted and max(counted.values()) > IMBALANCED * min(counted.values()):
        most, least = max(counted, key=counted.__getitem__), min(counted, key=counted.__getitem__)
        yield Finding(
            "imbalanced classes",
            f"{most} has {counted[most]} train images, {least} {counted[least]}",
            "The common class makes the loss, and the rare one is hardly ever predicted",
            f"Add pictures of {least}, or leave out some of {most} alone",
        )


def _of_company(classes: Sequence[str], overview: Overview) -> Iterator[Finding]:
    images, counts = overview.images["train"], overview.of_class["train"]
    everywhere = counts > EVERYWHERE * images
    if everywhere.any():
        yield Finding(
            "classes on nearly every image",
            _listed(
                f"{classes[k]} ({counts[k]} of {images})" for k in everywhere.nonzero()[0].tolist()
            ),
            "Without counter-examples a classifier is right without looking at the object",
            "Add pictures without it; where they show no class at all, leave their labels empty",
        )
    unlabelled = int(overview.with_labels["train"][0])
    if unlabelled > UNLABELLED * images:
        yield Finding(
            "mostly images without a label",
            f"{unlabelled} of {images} train images",
            "They say what is absent, never what a class looks like",
            "See that no labels were lost; else leave most of these pictures out",
        )
    # A class that is everywhere is in everyone's company, and is named above.
    apart = overview.together * ~np.eye(len(classes), dtype=bool) * ~everywhere
    always = (apart == counts[:, None]) & (counts > 0)[:, None]
    # Of two that are always together, once.
    pairs = [(a, b) for a, b in np.argwhere(always).tolist() if a < b or not always[b, a]]
    if pairs:
        yield Finding(
            "classes never seen without another",
            _listed(f"{classes[a]} ({counts[a]}, always with {classes[b]})" for a, b in pairs),
            "Image labels cannot tell which pixels are whose, so that maps cover both",
            "Add pictures that show them without it, or merge the two",
        )


def _of_sizes(records: Sequence[Record]) -> Iterator[Finding]:
    if small := [record for record in records if min(record.width, record.height) < SMALL]:
        yield Finding(
            f"pictures below {SMALL} pixels a side",
            _listed_sizes(sorted(small, key=lambda record: min(record.width, record.height))),
            "A cell of a map is several pixels, so that little is left to localise in",
            "Take larger originals, or leave them out",
        )
    if long := [record for record in records if elongation(record) > ELONGATED]:
        yield Finding(
            f"pictures longer than {ELONGATED} : 1",
            _listed_sizes(sorted(long, key=elongation, reverse=True)),
            "Square training crops of them are mostly padding",
            "Cut them into squarer pieces and label each",
        )
    if large := [record for record in records if max(record.width, record.height) > LARGE]:
        yield Finding(
            f"pictures above {LARGE} pixels a side",
            _listed_sizes(sorted(large, key=lambda record: -max(record.width, record.height))),
            "Maps, random walk and CRF cost time and memory by the pixel",
            "Set max_size of attributions, random_walks and prediction, or shrink the files",
        )


def _listed_sizes(records: Sequence[Record]) -> str:
    return _listed(f"{record.id} ({record.width} x {record.height})" for record in records)


def _equals(group: Sequence[Record], key: Callable[[Record], object]) -> str:
    """Name the first record of a group and the first that differs from it."""
    other = next(record for record in group if key(record) != key(group[0]))
    words = (f"{r.id} ({r.split}: {', '.join(r.labels) or 'no label'})" for r in (group[0], other))
    return " = ".join(words) + (f" and {len(group) - 2} more" if len(group) > 2 else "")


def _listed(items: Iterable[str]) -> str:
    listed = list(items)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def _class_rows(classes: Sequence[str], overview: Overview) -> list[dict[str, Any]]:
    """Give each class's figures; its companion is the class that most of its images show too."""
    apart = overview.together * ~np.eye(len(classes), dtype=bool)
    rows = []
    for k, name in enumerate(classes):
        train, val = (int(overview.of_class[split][k]) for split in ("train", "val"))
        partner = int(apart[k].argmax())
        shared = int(apart[k, partner])
        rows.append(
            {
                "name": name,
                "train": train,
                "share": train / max(overview.images["train"], 1),
                "bar": train / max(int(overview.of_class["train"].max()), 1),
                "val": val,
                "val_share": val / max(overview.images["val"], 1),
                "alone": int(overview.alone[k]),
                "companion": classes[partner] if shared else None,
                "shared": shared / train if train else 0.0,
            }
        )
    return rows


def _histogram(overview: Overview) -> list[tuple[str, int, float]]:
    """Give images by their number of labels: words, count, and share of the highest count."""
    counts = np.sum(list(overview.with_labels.values()), axis=0).tolist()
    shown = [*counts[:MANY], sum(counts[MANY:])] if len(counts) > MANY + 1 else counts
    words = ["no label", "1 label", *(f"{k} labels" for k in range(2, len(shown)))][: len(shown)]
    if len(counts) > MANY + 1:
        words[-1] = f"{MANY} or more"
    top = max(*shown, 1)
    return [(word, count, count / top) for word, count in zip(words, shown, strict=True)]


def _matrix(together: NDArray[np.int64]) -> list[int]:
    """Choose the classes whose company is shown: those with the most, in their order."""
    company = together.sum(axis=1) - together.diagonal()
    ranked = sorted(range(len(company)), key=lambda k: -company[k])
    return sorted(k for k in ranked[:MATRIX] if company[k])


def _scatter(records: Sequence[Record]) -> dict[str, Any]:
    """Lay out pictures by width and height on axes of octaves; equal ones are one larger dot."""
    sides = [side for record in records for side in (record.width, record.height)]
    low, high = floor(log2(min(sides))), max(ceil(log2(max(sides))), floor(log2(min(sides))) + 1)
    dots = Counter(
        (round(log2(r.width) * PER_OCTAVE), round(log2(r.height) * PER_OCTAVE)) for r in records
    )
    unit = SIDE / (high - low)
    step = ceil((high - low) / 8)
    return {
        "side": SIDE,
        "ticks": [(round((k - low) * unit, 1), 2**k) for k in range(low, high + 1, step)],
        "dots": [
            (
                round((x / PER_OCTAVE - low) * unit, 1),
                round(SIDE - (y / PER_OCTAVE - low) * unit, 1),
                round(2 + 14 * sqrt(count / len(records)), 1),
            )
            for (x, y), count in sorted(dots.items())
        ],
    }
