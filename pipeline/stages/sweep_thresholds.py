"""Score class maps against the ground truth at many background thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import read_manifest
from pipeline.datasets.masks import Mask
from pipeline.io.arrays import MapShard, maps_by_id, write_counts
from pipeline.io.tables import write_json
from pipeline.metrics.segmentation import Counts, image_counts, scores_of, threshold_counts
from pipeline.refinement.labels import upsampled
from pipeline.refinement.thresholds import chosen_threshold
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage
from pipeline.stages.evaluate import scored_masks, with_supervision

if TYPE_CHECKING:
    snakemake: Any


def sweep_thresholds(
    *,
    manifest: Path,
    classes: Path,
    masks: Path,
    maps: list[Path],
    split: str,
    method: str,
    thresholds: int,
    label_free: Path,
    corrected: list[Path],
    rule: str,
    settings: Mapping[str, Any],
    scores: Path,
    counts: Path,
    threads: int,
) -> None:
    """Write the mIoU of every threshold, and all scores of the best one.

    A threshold that a rule chose without ground truth is scored too.

    Parameters
    ----------
    manifest, classes, masks : Path
        Images, class names, and the ground truth.
    maps : list of Path
        Shards of class maps; together they cover the split.
    split : str
        ``"train"`` or ``"val"``.
    method : str
        CLASSIFIER/MAPS.
    thresholds : int
        Number of thresholds, evenly spaced inside (0, 1).
    label_free : Path
        Thresholds that were chosen without masks, from the same maps.
    corrected : list of Path
        The table of corrected masks, if a network that learned them made the maps.
    rule : str
        Rule whose threshold is scored.
    settings : mapping
        Settings to store with the score.
    scores, counts : Path
        Outputs: JSON, and the pixel counts of every image at the best threshold.
    threads : int
        Number of processes.

    Raises
    ------
    UserError
        If a scored image has no maps, or maps of another size than its mask.
    """
    data = read_manifest(manifest, classes)
    ids = [record.id for record in data.of_split(split)]
    ground_truth = scored_masks(ids, masks)
    shards = maps_by_id(maps, list(ground_truth))
    names = ["background", *data.classes]
    levels = np.arange(1, thresholds + 1) / (thresholds + 1)
    free = chosen_threshold(label_free, rule)
    work = _Sweep(np.sort([*levels, free]), len(names))
    items = [(image_id, shards[image_id], mask) for image_id, mask in ground_truth.items()]
    total = np.zeros((thresholds + 1, len(names), len(names) + 1), np.int64)
    of_images = []
    for found in map_images(work, items, workers=threads, what=f"thresholds of {method}"):
        total += found
        of_images.append(image_counts(found))
    place = int(np.searchsorted(work.thresholds, free))
    swept = np.delete(np.arange(thresholds + 1), place)
    rows = [scores_of(total[k], names) for k in swept]
    best = max(range(thresholds), key=lambda k: rows[k]["miou"])
    miou = scores_of(total[place], names)["miou"]
    write_counts(counts, list(ground_truth), np.stack([image[swept[best]] for image in of_images]))
    head = {
        "kind": "maps",
        "method": method,
        "split": split,
        "images": len(ground_truth),
        "images_in_split": len(ids),
        "settings": settings,
        "threshold": {
            "value": float(levels[best]),
            "threshold_source": f"best of {thresholds} in a sweep against the masks of this split",
        },
        "label_free": {
            "rule": rule,
            "value": free,
            "miou": miou,
            "cost": rows[best]["miou"] - miou,
        },
        "sweep": [
            {"threshold": float(level), "miou": row["miou"]}
            for level, row in zip(levels, rows, strict=True)
        ],
    }
    write_json(scores, with_supervision(head, corrected, data) | rows[best])


@dataclass(frozen=True)
class _Sweep:
    thresholds: NDArray[np.float64]
    classes: int

    def __call__(self, item: tuple[str, MapShard, Mask]) -> Counts:
        image_id, shard, mask = item
        label = mask.read()
        maps = shard.of_size(image_id, (label.shape[0], label.shape[1]))
        full = upsampled(maps)
        return threshold_counts(label, full, maps.classes, self.thresholds, self.classes)


if __name__ == "__main__":
    run_stage(sweep_thresholds, snakemake)
