"""The data set check page: counts, sizes, example images, and findings to look into."""

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
from pipeline.datasets.review import Correction
from pipeline.report.html import render

#: Maximum number of classes in the co-occurrence matrix.
MAX_MATRIX_CLASSES = 40
#: Images with this many labels or more share one bar of the histogram.
MANY_LABELS = 8
#: Side of the chart of sizes, and its resolution: sizes are rounded to 1/16 octave.
SIDE, PER_OCTAVE = 320, 16


@dataclass(frozen=True)
class Thumbnail:
    """One thumbnail of the contact sheet."""

    record: Record
    url: str


def render_check(
    manifest: Manifest,
    overview: Overview,
    found: Sequence[Finding],
    sheet: Mapping[str, Sequence[Thumbnail]],
    unlabeled: Sequence[Thumbnail],
    corrections: Sequence[Correction] = (),
) -> str:
    """Return the HTML document. Equal arguments give identical bytes.

    Parameters
    ----------
    manifest : Manifest
        At least one record.
    overview : Overview
    found : sequence of Finding
    sheet : mapping of str to sequence of Thumbnail
        Thumbnails by class.
    unlabeled : sequence of Thumbnail
        Thumbnails of images without a label.
    corrections : sequence of Correction
        Image-level labels that a review changed.
    """
    return render(
        "dataset_check.html.j2",
        corrections=corrections,
        manifest=manifest,
        overview=overview,
        found=found,
        sheet=sheet,
        unlabeled=unlabeled,
        classes=_class_rows(manifest.classes, overview),
        histogram=_histogram(overview),
        matrix=_matrix(overview.cooccurrence),
        sizes=measure(manifest.records),
        scatter=_scatter(manifest.records),
        rare=RARE,
    )


def _class_rows(classes: Sequence[str], overview: Overview) -> list[dict[str, Any]]:
    """Return the figures of each class; its companion is the class most often seen with it."""
    others = overview.cooccurrence * ~np.eye(len(classes), dtype=bool)
    rows = []
    for k, name in enumerate(classes):
        train, val = (int(overview.of_class[split][k]) for split in ("train", "val"))
        partner = int(others[k].argmax())
        shared = int(others[k, partner])
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
    """Count images by their number of labels: text, count, and share of the highest count."""
    counts = np.sum(list(overview.with_labels.values()), axis=0).tolist()
    shown = (
        [*counts[:MANY_LABELS], sum(counts[MANY_LABELS:])]
        if len(counts) > MANY_LABELS + 1
        else counts
    )
    texts = ["no label", "1 label", *(f"{k} labels" for k in range(2, len(shown)))][: len(shown)]
    if len(counts) > MANY_LABELS + 1:
        texts[-1] = f"{MANY_LABELS} or more"
    top = max(*shown, 1)
    return [(text, count, count / top) for text, count in zip(texts, shown, strict=True)]


def _matrix(together: NDArray[np.int64]) -> list[int]:
    """Select the classes of the matrix: those that occur most with others, in their order."""
    with_others = together.sum(axis=1) - together.diagonal()
    ranked = sorted(range(len(with_others)), key=lambda k: -with_others[k])
    return sorted(k for k in ranked[:MAX_MATRIX_CLASSES] if with_others[k])


def _scatter(records: Sequence[Record]) -> dict[str, Any]:
    """Compute a chart of widths and heights on log2 axes; images of one size share a larger dot."""
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
