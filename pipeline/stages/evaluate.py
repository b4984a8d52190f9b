"""Score label images (pseudo-labels or predictions) against the ground truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.upper_bound import display_name
from pipeline.datasets.corrected.table import read_corrected, supervision
from pipeline.datasets.manifest import Manifest, files_by_id, read_manifest, read_masks
from pipeline.datasets.masks import Mask
from pipeline.errors import UserError
from pipeline.io.arrays import read_made_label, write_counts
from pipeline.io.tables import write_json, write_table
from pipeline.metrics.segmentation import Counts, confusion_matrix, image_counts, scores_of
from pipeline.refinement.thresholds import chosen_threshold
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def evaluate(
    *,
    manifest: Path,
    classes: Path,
    masks: Path,
    labels: list[Path],
    split: str,
    kind: str,
    method: str,
    settings: Mapping[str, Any],
    scores: Path,
    threshold: list[Path],
    corrected: list[Path],
    images: Path,
    counts: Path,
    threads: int,
) -> None:
    """Write the scores of a split (JSON) and of every image (CSV), and all pixel counts.

    Parameters
    ----------
    manifest, classes, masks : Path
        Images, class names, and the ground truth, or the corrected masks that take its place.
        Images without a mask are not scored.
    labels : list of Path
        Folders of label images ``ID.png``.
    split : str
        ``"train"`` or ``"val"``.
    kind : {"pseudo_labels", "predictions"}
        Kind of the label images.
    method : str
        CLASSIFIER/MAPS/REFINEMENT, or ``ground_truth`` for the upper bound.
    settings : mapping
        Settings to store with the score.
    threshold : list of Path
        The file of a background threshold chosen without masks, if there is one.
    corrected : list of Path
        The table of corrected masks, if a network that learned them made the label images.
    scores, images, counts : Path
        Outputs.
    threads : int
        Number of processes.

    Raises
    ------
    UserError
        If a scored image has no label image or one of another size.
    """
    data = read_manifest(manifest, classes)
    ids = [record.id for record in data.of_split(split)]
    ground_truth = scored_masks(ids, masks)
    files = files_by_id(list(ground_truth), labels)
    names = ["background", *data.classes]
    pairs = [(ground_truth[image_id], files[image_id]) for image_id in ground_truth]
    work = _Counting(len(names))
    found = map_images(work, pairs, workers=threads, what=f"scores of {display_name(method)}")
    # One image at a time: with many classes, the matrices of all images take gigabytes.
    total = np.zeros((len(names), len(names) + 1), np.int64)
    of_images, rows = [], []
    for image_id, counted in zip(ground_truth, found, strict=True):
        total += counted
        of_images.append(image_counts([counted])[0])
        rows.append(_row(image_id, scores_of(counted, names)))
    columns = ("id", "miou", "pixel_accuracy", *(f"iou:{name}" for name in names))
    write_table(images, columns, rows)
    write_counts(counts, list(ground_truth), np.stack(of_images))
    head = {
        "kind": kind,
        "method": method,
        "split": split,
        "images": len(ground_truth),
        "images_in_split": len(ids),
        "settings": settings,
        "threshold": _threshold(settings.get("background"), threshold),
    }
    head = with_supervision(head, corrected, data)
    write_json(scores, head | scores_of(total, names))


def scored_masks(ids: Sequence[str], masks: Path) -> dict[str, Mask]:
    """Return the ground-truth masks of a split's images, in the given order.

    Raises
    ------
    UserError
        If no image has a mask.
    """
    known = read_masks(masks)
    ground_truth = {image_id: known[image_id] for image_id in ids if image_id in known}
    if not ground_truth:
        raise UserError(f"{masks}: no image of this split has a mask, expected one or more")
    return ground_truth


def with_supervision(
    head: Mapping[str, Any], corrected: Sequence[Path], manifest: Manifest
) -> dict[str, Any]:
    """Return the head of a score with the corrected masks that a network learned, if any.

    Parameters
    ----------
    head : mapping
        With the key ``settings``.
    corrected : sequence of Path
        At most one table of corrected masks.
    manifest : Manifest
    """
    if not corrected:
        return dict(head)
    masks = read_corrected(corrected)
    stated = supervision(masks, manifest.of_split("train"))
    settings = {"supervision": stated} | dict(head["settings"])
    return {**head, "settings": settings, "corrected_masks": len(masks)}


@dataclass(frozen=True)
class _Counting:
    classes: int

    def __call__(self, pair: tuple[Mask, Path]) -> Counts:
        ground_truth, predicted = pair[0].read(), read_made_label(pair[1])
        try:
            return confusion_matrix(ground_truth, predicted, self.classes)
        except ValueError as error:
            raise UserError(f"{pair[1]}: against {pair[0].path}: {error}") from error


def _threshold(
    background: Mapping[str, Any] | None, files: Sequence[Path]
) -> dict[str, Any] | None:
    """Return the background threshold that was used, and how it was chosen."""
    if not background:
        return None
    if files:
        value = chosen_threshold(files[0], background["value"])
        return {
            "value": value,
            "threshold_source": f"by the rule {background['value']!r}, without masks",
        }
    return {key: background[key] for key in ("value", "threshold_source")}


def _row(image_id: str, score: Mapping[str, Any]) -> tuple[Any, ...]:
    shares = (row["iou"] for row in score["classes"])
    return (image_id, score["miou"], score["pixel_accuracy"], *shares)


if __name__ == "__main__":
    run_stage(evaluate, snakemake)
