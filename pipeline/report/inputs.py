"""The report's inputs, read from the workflow's files."""

import csv
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.upper_bound import GROUND_TRUTH
from pipeline.io.files import damaged
from pipeline.io.tables import NUMBER, Fields, read_columns, read_document, read_table

logger = logging.getLogger(__name__)

#: Number of path segments of a method, by the folder of each kind of file.
METHOD_LENGTH = {
    "classifiers": 1, "maps": 2, "affinity": 2, "pseudo_labels": 3, "segmentation": 3,
    "predictions": 3, "quality": 3,
}  # fmt: skip
#: Display text of the network in each folder of trainings.
NETWORKS = {
    "classifiers": "Classifier", "affinity": "Boundary network",
    "segmentation": "Segmentation network",
}  # fmt: skip
#: Display text of each kind of score, in the order of the pipeline.
KINDS = {"maps": "class maps", "pseudo_labels": "pseudo-labels", "predictions": "predictions"}


#: Fields of a score of maps, pseudo-labels or predictions.
SCORE: Fields = {
    "kind": str, "method": str, "split": str, "images": int, "settings": dict,
    "threshold": dict | None, "miou": NUMBER | None, "pixel_accuracy": NUMBER | None,
    "false_positive_share": NUMBER | None, "false_negative_share": NUMBER | None,
    "classes": list, "absent_classes": list, "confusion": list,
}  # fmt: skip
#: Fields of the localization scores of labels, and of compared maps.
BOXES: Fields = {
    "method": str, "split": str, "images": int, "pairs": int, "images_with_known_boxes": int,
    "error": dict,
}  # fmt: skip
LOCALIZATION: Fields = {"method": str, "curve": list | None}
#: Fields of a summary of label quality.
QUALITY: Fields = {
    "method": str, "split": str, "images": int, "figures": list, "worth_a_look": list,
}  # fmt: skip
#: Prefix of the columns of a per-image table that hold the IoU of a class.
IOU = "iou:"


@dataclass(frozen=True)
class ImageScore:
    """Scores of one image: its mIoU, and the IoU of each class it shows or is labeled with.

    Class names are those of the data set and ``background``; IoUs are in [0, 1].
    """

    miou: float
    classes: Mapping[str, float]


@dataclass(frozen=True)
class Quality:
    """Quality of a method's labels, estimated without ground truth.

    Attributes
    ----------
    method, split : str
    images : int
    figures : sequence of dict
        Figures with ``name``, ``title``, ``mean`` and ``correlation`` with the true IoU, or None.
    worth_a_look : sequence of str
        Image ids, the most doubtful first.
    doubts : mapping of str to float
        Doubt in [0, 1] by image id.
    """

    method: str
    split: str
    images: int
    figures: Sequence[Mapping[str, Any]]
    worth_a_look: Sequence[str]
    doubts: Mapping[str, float]


@dataclass(frozen=True)
class History:
    """Training history of one network: the columns of its CSV by name, NaN for an empty cell.

    Attributes
    ----------
    kind : str
        The network, a value of :data:`NETWORKS`.
    method : str
        The method that the network belongs to.
    columns : mapping of str to list of float
    """

    kind: str
    method: str
    columns: Mapping[str, list[float]]


@dataclass(frozen=True)
class StageTime:
    """Jobs of one rule: their number, total seconds, and peak memory of one job in MB."""

    rule: str
    jobs: int
    seconds: float
    memory: float


def method_of(path: Path) -> tuple[str, str]:
    """Return the kind and the method of a result from its path.

    Parameters
    ----------
    path : Path
        For example ``results/demo/pseudo_labels/plain/cam/crf/train/0``.

    Returns
    -------
    kind : str
        One of :data:`METHOD_LENGTH`.
    method : str
        For example ``plain/cam/crf``, or ``ground_truth`` for the upper bound.

    Raises
    ------
    ValueError
        If the path is not one of the workflow's.
    """
    parts = path.parts
    # Start after results/EXPERIMENT: an experiment may be named like a kind.
    start = parts.index("results") + 2 if "results" in parts[:-2] else 0
    for index in range(start, len(parts)):
        length = METHOD_LENGTH.get(parts[index], 0)
        if length and parts[index + 1 : index + 2] == (GROUND_TRUTH,):
            length = 1
        if length and len(parts) > index + length:
            return parts[index], "/".join(parts[index + 1 : index + 1 + length])
    raise ValueError(f"{path}: not a path of maps, labels, predictions or a network")


def by_method(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Group shards by their method, in the given order."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[method_of(path)[1]].append(path)
    return dict(groups)


def read_all_scores(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read score documents in the order of the pipeline: maps, pseudo-labels, predictions."""
    order = list(KINDS)
    return sorted(map(read_score, paths), key=lambda score: order.index(score["kind"]))


def read_score(path: Path) -> dict[str, Any]:
    """Read a score document of maps, pseudo-labels or predictions.

    Raises
    ------
    UserError
        If the file is damaged or not a score.
    """
    score = read_document(path, SCORE)
    if score["kind"] not in KINDS:
        reason = f"'kind' is {score['kind']!r}, expected one of {', '.join(KINDS)}"
        raise damaged(path, "score", reason)
    return score


def read_image_scores(path: Path) -> dict[str, ImageScore]:
    """Return the scores of a per-image table by image id, without images that have no mIoU."""
    rows = read_table(path, needed=("id",), numbers=("miou",))
    return {row["id"]: _image_score(row) for row in rows if row["miou"]}


def read_quality(tables: Sequence[Path], documents: Sequence[Path]) -> list[Quality]:
    """Read the label quality of methods: per-image tables and their summaries.

    Parameters
    ----------
    tables : sequence of Path
        ``quality/CLASSIFIER/MAPS/REFINEMENT/SPLIT.csv`` with columns ``id`` and ``doubt``.
    documents : sequence of Path
        One JSON document per table, with the same name.
    """
    doubts = {(method_of(path)[1], path.stem): _doubts(path) for path in tables}
    return [
        Quality(
            score["method"],
            score["split"],
            score["images"],
            score["figures"],
            score["worth_a_look"],
            doubts.get((score["method"], score["split"]), {}),
        )
        for score in (read_document(path, QUALITY) for path in documents)
    ]


def read_history(path: Path) -> History:
    """Read a training history."""
    kind, method = method_of(path)
    return History(NETWORKS[kind], method, read_columns(path, ("epoch", "learning_rate")))


def read_times(paths: Sequence[Path]) -> list[StageTime]:
    """Compute the totals of Snakemake's benchmark files by rule, in the given order.

    Damaged files are left out with a warning. They only inform the reader, and replacing one
    would mean running its job again.
    """
    jobs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for path in paths:
        if (taken := read_benchmark(path)) is not None:
            parts = path.with_suffix("").parts
            jobs[parts[len(parts) - parts[::-1].index("benchmarks")]].append(taken)
    return [
        StageTime(rule, len(rows), sum(s for s, _ in rows), max(m for _, m in rows))
        for rule, rows in jobs.items()
    ]


def read_benchmark(path: Path) -> tuple[float, float] | None:
    """Return the seconds and the peak memory in MB of a job, or None if the file is damaged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        seconds = float(row["s"])
        memory = 0.0 if row["max_rss"] in ("-", "NA") else float(row["max_rss"])
    except (OSError, ValueError, TypeError, KeyError, StopIteration, csv.Error):
        seconds = memory = math.nan
    if math.isfinite(seconds) and math.isfinite(memory):
        return seconds, memory
    logger.warning(
        "%s: not a complete benchmark table, expected columns s and max_rss with numbers: "
        "the times are shown without this job",
        path,
    )
    return None


def representative_ids(scores: Mapping[str, float], count: int) -> dict[str, list[str]]:
    """Select the images with the best, the median and the worst scores.

    Parameters
    ----------
    scores : mapping of str to float
        Score by image id; ties are ordered by id.
    count : int
        Images per group.

    Returns
    -------
    dict of str to list of str
        Groups ``best``, ``median`` and ``worst``; no image is in two of them.
    """
    ranked = sorted(scores, key=lambda image_id: (-scores[image_id], image_id))
    if count and len(ranked) <= 3 * count:
        third = -(-len(ranked) // 3)
        groups = (ranked[:third], ranked[third : 2 * third], ranked[2 * third :])
        return dict(zip(("best", "median", "worst"), groups, strict=True))
    middle = (len(ranked) - count) // 2
    return {
        "best": ranked[:count],
        "median": ranked[middle : middle + count],
        "worst": ranked[len(ranked) - count :],
    }


def _image_score(row: Mapping[str, str]) -> ImageScore:
    classes = {
        name.removeprefix(IOU): float(value)
        for name, value in row.items()
        if name.startswith(IOU) and value
    }
    return ImageScore(float(row["miou"]), classes)


def _doubts(path: Path) -> dict[str, float]:
    rows = read_table(path, needed=("id",), numbers=("doubt",))
    return {row["id"]: float(row["doubt"]) for row in rows if row["doubt"]}
