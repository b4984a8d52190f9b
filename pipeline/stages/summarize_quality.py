"""Summarize the figures of label quality, and correlate them with true scores if available."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import read_manifest
from pipeline.io.tables import read_table, write_json
from pipeline.metrics.quality import rank_correlation
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Titles of the columns of figures.
TITLES = {
    "confidence": "Confidence of the classifier in the given labels",
    "view_agreement": "Agreement of the maps over scales and flips",
    "method_agreement": "Agreement with the labels of the other methods",
    "refinement_agreement": "Agreement of the labels before and after refinement",
    "certainty": "Share of confident pixels",
    "doubt": "Doubt: from agreement of methods and confident pixels, lower is better",
}
#: Number of listed images that a person should look at first.
MAX_LISTED = 50


def summarize_quality(
    *,
    manifest: Path,
    classes: Path,
    quality: Path,
    image_scores: list[Path],
    method: str,
    split: str,
    summary: Path,
) -> None:
    """Write means, rank correlations with the true IoU, and the images that are worth a look.

    Parameters
    ----------
    manifest, classes : Path
        Images with their labels, and the class names.
    quality : Path
        The table of the rule ``assess_labels``.
    image_scores : list of Path
        Per-image scores against the ground truth, if available. They are used for the
        correlations only.
    method : str
        CLASSIFIER/MAPS/REFINEMENT.
    split : str
        ``"train"`` or ``"val"``.
    summary : Path
        Output (JSON).
    """
    data = read_manifest(manifest, classes)
    rows = read_table(quality, needed=("id",), numbers=list(TITLES))
    ids = [row["id"] for row in rows]
    records = {record.id: record for record in data.records}
    columns = {name: _numbers([row[name] for row in rows]) for name in TITLES}
    targets = data.targets([records[image_id] for image_id in ids]).astype(bool)
    shares = [f"iou:{name}" for name in data.classes]
    true = {
        row["id"]: row
        for path in image_scores
        for row in read_table(path, needed=("id",), numbers=("miou", *shares))
    }
    true_scores = (
        _true_scores([true.get(name, {}) for name in ids], targets, data.classes) if true else None
    )
    doubt = np.nan_to_num(columns["doubt"], nan=-1)
    order = sorted(range(len(ids)), key=lambda index: (-doubt[index], ids[index]))
    document = {
        "kind": "quality",
        "method": method,
        "split": split,
        "images": len(ids),
        "figures": [
            {
                "name": name,
                "title": title,
                "mean": _mean(columns[name]),
                "classes": dict(
                    zip(data.classes, _class_means(columns[name], targets), strict=True)
                ),
                "correlation": (
                    _correlations(columns[name], targets, *true_scores) if true_scores else None
                ),
            }
            for name, title in TITLES.items()
        ],
        "worth_a_look": [ids[index] for index in order[:MAX_LISTED]],
    }
    write_json(summary, document)


def _true_scores(
    scored: Sequence[Mapping[str, str]], targets: NDArray[np.bool_], classes: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mIoU of every image, and the mean IoU of every class over its labeled images."""
    miou = _numbers([row.get("miou", "") for row in scored])
    shares = [_numbers([row.get(f"iou:{name}", "") for row in scored]) for name in classes]
    means = [_mean(values[labeled]) for values, labeled in zip(shares, targets.T, strict=True)]
    return miou, np.array(means, np.float64)


def _correlations(
    values: NDArray[np.float64],
    targets: NDArray[np.bool_],
    miou: NDArray[np.float64],
    class_ious: NDArray[np.float64],
) -> dict[str, float | None]:
    """Compute the correlation of a figure with the mIoU of images and the mean IoU of classes."""
    means = np.array(_class_means(values, targets), np.float64)
    return {
        "images": rank_correlation(values, miou),
        "classes": rank_correlation(means, class_ious),
    }


def _class_means(values: NDArray[np.float64], targets: NDArray[np.bool_]) -> list[float]:
    """Return the mean of a figure over the images of each class."""
    return [_mean(values[labeled]) for labeled in targets.T]


def _numbers(cells: list[str]) -> NDArray[np.float64]:
    return np.array([float(cell or "nan") for cell in cells], np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


if __name__ == "__main__":
    run_stage(summarize_quality, snakemake)
