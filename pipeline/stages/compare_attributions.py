"""Collect all metrics of the compared class maps in one table."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.datasets.manifest import read_manifest
from pipeline.io.tables import read_document, read_table, write_table
from pipeline.metrics.faithfulness import drops, win_shares
from pipeline.report.inputs import read_benchmark, read_score
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Columns that are copied from each kind of score.
LOCALIZATION = (
    "pxap", "gt_known_loc", "max_box_acc", "max_box_acc_v2", "top1_cls_error", "top1_loc_error",
    "top5_loc_error",
)  # fmt: skip
FAITHFULNESS = ("average_drop", "increase", "deletion", "insertion")
COLUMNS = ("method", "miou", "threshold", *LOCALIZATION, *FAITHFULNESS, "win", "seconds_per_image")

#: Column values of one compared method; None if there is no value.
Row = dict[str, Any]


def compare_attributions(
    *,
    manifest: Path,
    classes: Path,
    sweeps: list[Path],
    localization: list[Path],
    faithfulness: list[Path],
    pairs: list[Path],
    times: list[Path],
    jobs: Mapping[str, Sequence[int]],
    split: str,
    table: Path,
) -> None:
    """Write one CSV row per method; shares are in [0, 1].

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    sweeps, localization : list of Path
        Scores against the ground truth; empty without ground truth.
    faithfulness, pairs : list of Path
        Scores and tables of confidences of every method, in the order of ``jobs``.
    times : list of Path
        Snakemake's benchmark files of all jobs that made the maps.
    jobs : mapping of str to sequence of int
        For each row's CLASSIFIER/MAPS, the positions of its jobs in ``times``.
    split : str
        ``"train"`` or ``"val"``.
    table : Path
        Output.
    """
    rows: dict[str, Row] = {name: dict.fromkeys(COLUMNS) | {"method": name} for name in jobs}
    for score in map(read_score, sweeps):
        threshold = score["threshold"]["value"]
        rows[score["method"]] |= {"miou": score["miou"], "threshold": threshold}
    for columns, files in ((LOCALIZATION, localization), (FAITHFULNESS, faithfulness)):
        for score in (read_document(path, {"method": str}) for path in files):
            rows[score["method"]] |= {name: score.get(name) for name in columns}
    for name, share in _wins(dict(zip(jobs, pairs, strict=True))).items():
        rows[name]["win"] = share
    images = len(read_manifest(manifest, classes).of_split(split))
    for name, positions in jobs.items():
        taken = [read_benchmark(times[position]) for position in positions]
        seconds = [item[0] for item in taken if item is not None]
        if len(seconds) == len(taken):
            rows[name]["seconds_per_image"] = sum(seconds) / images
    write_table(table, COLUMNS, ([row[name] for name in COLUMNS] for row in rows.values()))


def _wins(pairs: Mapping[str, Path]) -> dict[str, float]:
    """Compute win shares among the maps of each classifier; confidences of others differ."""
    lost: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for method, path in pairs.items():
        rows = read_table(path, numbers=("whole", "explained"))
        whole, explained = (
            np.array([float(row[k]) for row in rows]) for k in ("whole", "explained")
        )
        lost[method.split("/")[0]][method] = list(drops(whole, explained))
    wins: dict[str, float] = {}
    for by_method in lost.values():
        table = np.array(list(by_method.values()))
        if len(by_method) > 1 and table.size:
            wins |= dict(zip(by_method, map(float, win_shares(table)), strict=True))
    return wins


if __name__ == "__main__":
    run_stage(compare_attributions, snakemake)
