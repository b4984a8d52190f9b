"""The page of a data set before any compute: counts, sizes, pictures, what is worth checking."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.findings import RARE, Finding
from pipeline.datasets.manifest import Manifest, Record
from pipeline.datasets.overview import Overview, measure
from pipeline.report.html import render

#: Classes in the matrix of those that occur together.
MATRIX = 40
#: Labels per image from which on images are counted together.
MANY = 8
#: Side of the chart of sizes, and its finest step: points of a part of an octave are one.
SIDE, PER_OCTAVE = 320, 16


@dataclass(frozen=True)
class Shot:
    """One picture of the contact sheet."""

    record: Record
    url: str


def render_check(
    manifest: Manifest,
    overview: Overview,
    found: Sequence[Finding],
    sheet: Mapping[str, Sequence[Shot]],
    unlabeled: Sequence[Shot],
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
    unlabeled : sequence of Shot
        Pictures without a label.
    """
    return render(
        "dataset_check.html.j2",
        manifest=manifest,
        overview=overview,
        found=found,
        sheet=sheet,
        unlabeled=unlabeled,
        classes=_class_rows(manifest.classes, overview),
        histogram=_histogram(overview),
        matrix=_matrix(overview.together),
        sizes=measure(manifest.records),
        scatter=_scatter(manifest.records),
        rare=RARE,
    )


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
