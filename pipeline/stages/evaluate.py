"""Score label images - pseudo-labels or predictions - against the masks."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts import read_label, replacing, write_scores
from pipeline.datasets.manifest import read_manifest, read_masks
from pipeline.errors import UserError
from pipeline.metrics.segmentation import Counts, confusion_matrix, scores_of
from pipeline.parallel import map_images
from pipeline.stage import run_stage

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
    images: Path,
    threads: int,
) -> None:
    """Write the scores of a split as JSON, and those of every image as CSV.

    Parameters
    ----------
    manifest, classes, masks : Path
        Images, class names, and the ground truth. Images without a mask are not scored.
    labels : list of Path
        Folders of label images ``ID.png``.
    split : str
        ``"train"`` or ``"val"``.
    kind : {"labels", "predictions"}
        What is scored.
    method : str
        CLASSIFIER/MAPS/REFINEMENT.
    settings : mapping
        What is printed with the score.
    scores, images : Path
        Outputs.
    threads : int
        Processes.

    Raises
    ------
    UserError
        If a scored image has no label image or one of another size.
    """
    data = read_manifest(manifest, classes)
    truth = scored_masks([record.id for record in data.of_split(split)], masks)
    files = {path.stem: path for folder in labels for path in folder.glob("*.png")}
    lacking = sorted(truth.keys() - files.keys())
    if lacking:
        raise UserError(
            f"{len(lacking)} of {len(truth)} scored images have no label image in "
            f"{', '.join(map(str, labels))}, first {', '.join(lacking[:3])}"
        )
    names = ["background", *data.classes]
    pairs = [(truth[image_id], files[image_id]) for image_id in truth]
    counting = _Counting(len(names))
    counts = list(map_images(counting, pairs, workers=threads, what=f"scores of {method}"))
    _write_images(images, list(truth), [scores_of(count, names) for count in counts])
    background = settings.get("background")
    chosen = {key: background[key] for key in ("value", "chosen")} if background else None
    head = {
        "kind": kind,
        "method": method,
        "split": split,
        "images": len(truth),
        "settings": settings,
        "threshold": chosen,
    }
    write_scores(scores, head | scores_of(np.sum(counts, axis=0), names))


def scored_masks(ids: Sequence[str], masks: Path) -> dict[str, Path]:
    """Give the masks of a split's images, in order.

    Raises
    ------
    UserError
        If there is none.
    """
    known = read_masks(masks)
    truth = {image_id: known[image_id] for image_id in ids if image_id in known}
    if not truth:
        raise UserError(f"{masks}: no image of this split has a mask, expected one or more")
    return truth


@dataclass(frozen=True)
class _Counting:
    classes: int

    def __call__(self, pair: tuple[Path, Path]) -> Counts:
        truth, predicted = map(read_label, pair)
        try:
            return confusion_matrix(truth, predicted, self.classes)
        except ValueError as error:
            raise UserError(f"{pair[1]}: against {pair[0]}: {error}") from error


def _write_images(path: Path, ids: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "miou", "pixel_accuracy"))
        for image_id, row in zip(ids, rows, strict=True):
            writer.writerow((image_id, row["miou"], row["pixel_accuracy"]))


if __name__ == "__main__":
    run_stage(evaluate, snakemake)
