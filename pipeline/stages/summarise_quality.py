"""Sum up the figures of label quality, and compare them with the truth where there is one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import read_table, write_scores
from pipeline.datasets.manifest import read_manifest
from pipeline.metrics.quality import rank_correlation
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: What each column of figures says.
TITLES = {
    "confidence": "Confidence of the classifier in the given labels",
    "view_agreement": "Agreement of the maps over scales and flips",
    "method_agreement": "Agreement with the labels of the other methods",
    "refinement_agreement": "What the refinement kept of the maps' label",
    "certainty": "Share of sure pixels",
    "doubt": "Doubt: agreement of methods and sure pixels together, lower is better",
}
#: Images of the list of those that a person should look at first.
WORTH_A_LOOK = 50

#: (N,) figures by name.
Columns = Mapping[str, NDArray[np.float64]]


def summarise_quality(
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
        Per-image scores against the masks; empty where there are none. They decide nothing
        but the correlations.
    method : str
        CLASSIFIER/MAPS/REFINEMENT.
    split : str
        ``"train"`` or ``"val"``.
    summary : Path
        Output (JSON).
    """
    data = read_manifest(manifest, classes)
    rows = read_table(quality)
    ids = [row["id"] for row in rows]
    records = {record.id: record for record in data.records}
    columns = {name: _numbers([row[name] for row in rows]) for name in TITLES}
    targets = data.targets([records[image_id] for image_id in ids]).astype(bool)
    true = {row["id"]: row for path in image_scores for row in read_table(path)}
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
                "classes": {
                    label: _mean(columns[name][targets[:, k]])
                    for k, label in enumerate(data.classes)
                },
                "correlation": _correlations(columns[name], targets, data.classes, ids, true),
            }
            for name, title in TITLES.items()
        ],
        "worth_a_look": [ids[index] for index in order[:WORTH_A_LOOK]],
    }
    write_scores(summary, document)


def _correlations(
    values: NDArray[np.float64],
    targets: NDArray[np.bool_],
    classes: tuple[str, ...],
    ids: list[str],
    true: Mapping[str, Mapping[str, str]],
) -> dict[str, float | None] | None:
    """Correlate a figure with the mIoU of images, and with the mean IoU of classes."""
    if not true:
        return None
    scored = [true.get(image_id, {}) for image_id in ids]
    miou = _numbers([row.get("miou", "") for row in scored])
    of_classes = []
    for k, label in enumerate(classes):
        shares = _numbers([row.get(f"iou:{label}", "") for row in scored])
        of_classes.append((_mean(values[targets[:, k]]), _mean(shares[targets[:, k]])))
    figures, shares = np.array(of_classes, np.float64).T
    return {
        "images": rank_correlation(values, miou),
        "classes": rank_correlation(figures, shares),
    }


def _numbers(cells: list[str]) -> NDArray[np.float64]:
    return np.array([float(cell or "nan") for cell in cells], np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


if __name__ == "__main__":
    run_stage(summarise_quality, snakemake)
