"""Score the boxes around regions of label images against true boxes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.manifest import (
    Box,
    Record,
    files_by_id,
    read_boxes,
    read_manifest,
    read_masks,
)
from pipeline.datasets.masks import Mask
from pipeline.io.arrays import read_made_label
from pipeline.io.tables import write_json
from pipeline.metrics.ground_truth_boxes import true_boxes
from pipeline.metrics.localization import best_overlap, localization_errors
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Minimum intersections over union at which an object counts as localized.
OVERLAPS = (0.3, 0.5, 0.7)


def evaluate_boxes(
    *,
    manifest: Path,
    classes: Path,
    masks: Path,
    boxes: Path,
    labels: list[Path],
    split: str,
    method: str,
    scores: Path,
    threads: int,
) -> None:
    """Write the localization errors of a split's (image, labeled class) pairs as JSON.

    Parameters
    ----------
    manifest, classes : Path
        Images with their labels, and the class names.
    masks, boxes : Path
        The ground truth. If an image has no true boxes, the boxes around the connected
        components of its mask are used. Images without boxes and mask are not scored.
    labels : list of Path
        Folders of label images ``ID.png``.
    split : str
        ``"train"`` or ``"val"``.
    method : str
        CLASSIFIER/MAPS/REFINEMENT.
    scores : Path
        Output.
    threads : int
        Number of processes.

    Raises
    ------
    UserError
        If a scored image has no label image.
    """
    data = read_manifest(manifest, classes)
    known, ground_truth = read_boxes(boxes), read_masks(masks)
    scored = [r for r in data.of_split(split) if r.id in known or r.id in ground_truth]
    files = files_by_id([record.id for record in scored], labels)
    items = [(r, files[r.id], known.get(r.id), ground_truth.get(r.id)) for r in scored]
    work = _Comparison(data.classes)
    found = list(map_images(work, items, workers=threads, what=f"boxes of {method}"))
    by_class = {
        name: [overlap for pairs in found for label, overlap in pairs if label == name]
        for name in data.classes
    }
    overlaps = [overlap for pairs in found for _, overlap in pairs]
    document = {
        "method": method,
        "split": split,
        "images": len(scored),
        "pairs": len(overlaps),
        "images_with_known_boxes": sum(record.id in known for record in scored),
        "error": localization_errors(overlaps, OVERLAPS),
        "classes": {
            name: localization_errors(values, OVERLAPS) for name, values in by_class.items()
        },
    }
    write_json(scores, document)


@dataclass(frozen=True)
class _Comparison:
    """The work on one image, as a callable that can be pickled."""

    classes: tuple[str, ...]

    def __call__(
        self, item: tuple[Record, Path, list[Box] | None, Mask | None]
    ) -> list[tuple[str, float]]:
        """Return the best overlap for every labeled class that has a true box."""
        record, file, known, mask = item
        label = read_made_label(file, (record.height, record.width))
        ground_truth = mask.read() if known is None and mask is not None else None
        return [
            (self.classes[number - 1], best_overlap(label == number, true))
            for number, true in true_boxes(record, self.classes, known, ground_truth).items()
        ]


if __name__ == "__main__":
    run_stage(evaluate_boxes, snakemake)
