"""Compare the pseudo-labels of several methods on the same images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.datasets.manifest import Record, files_by_id, read_manifest
from pipeline.io.arrays import read_made_label
from pipeline.io.tables import write_table
from pipeline.metrics.agreement import label_agreement
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def compare_labels(
    *,
    manifest: Path,
    classes: Path,
    labels: list[Path],
    methods: Sequence[str],
    split: str,
    agreement: Path,
    threads: int,
) -> None:
    """Write the agreement of each method's label images with those of the other methods.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    labels : list of Path
        Folders of label images: all shards of the first method, then of the second, ...
    methods : sequence of str
        CLASSIFIER/MAPS/REFINEMENT, at least two.
    split : str
        ``"train"`` or ``"val"``.
    agreement : Path
        Output (CSV): ``id`` and one column per method, the mean of
        :func:`pipeline.metrics.agreement.label_agreement` with the other methods.
    threads : int
        Number of processes.
    """
    records = read_manifest(manifest, classes).of_split(split)
    shards = len(labels) // len(methods)
    folders = [labels[start : start + shards] for start in range(0, len(labels), shards)]
    ids = [record.id for record in records]
    files = [files_by_id(ids, of_method) for of_method in folders]
    items = [(r, [by_id[r.id] for by_id in files]) for r in records]
    rows = map_images(_agreements, items, workers=threads, what=f"agreement on {split}")
    named = ((image_id, *row) for image_id, row in zip(ids, rows, strict=True))
    write_table(agreement, ("id", *methods), named)


def _agreements(item: tuple[Record, Sequence[Path]]) -> list[float]:
    """Return the mean agreement of each label image with the other ones of its image."""
    record, paths = item
    labels = [read_made_label(path, (record.height, record.width)) for path in paths]
    table = np.full((len(labels), len(labels)), np.nan)
    for first in range(len(labels)):
        for second in range(first):
            table[first, second] = label_agreement(labels[first], labels[second])
            table[second, first] = table[first, second]
    known = np.isfinite(table)
    total, count = np.where(known, table, 0).sum(axis=1), known.sum(axis=1)
    shares = np.divide(total, count, out=np.full(len(labels), np.nan), where=count > 0)
    return [float(share) for share in shares]


if __name__ == "__main__":
    run_stage(compare_labels, snakemake)
