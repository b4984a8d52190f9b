"""Score the boxes and pixels that class maps localize against the ground truth."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import Box, Record, read_boxes, read_manifest, read_masks
from pipeline.datasets.masks import Mask
from pipeline.io.arrays import IGNORE, MapShard, maps_by_id
from pipeline.io.tables import read_class_scores, write_json, write_table
from pipeline.metrics.ground_truth_boxes import true_boxes
from pipeline.metrics.localization import label_ranks, pixel_histograms, threshold_overlaps
from pipeline.metrics.wsol import BINS, LocalizedPair, localization_scores
from pipeline.refinement.labels import upsampled
from pipeline.runtime.parallel import map_images
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Result of one image: its pairs, and the histograms of its pixels.
Found = tuple[list[LocalizedPair], NDArray[np.int64]]


def localize(
    *,
    manifest: Path,
    classes: Path,
    masks: Path,
    boxes: Path,
    class_scores: list[Path],
    maps: list[Path],
    settings: Mapping[str, Any],
    split: str,
    method: str,
    scores: Path,
    pairs: Path,
    threads: int,
) -> None:
    """Write the localization metrics of a split's (image, labeled class) pairs.

    Parameters
    ----------
    manifest, classes : Path
        Images with their labels, and the class names.
    masks, boxes : Path
        The ground truth. If an image has no true boxes, the boxes around the connected
        components of its mask are used. Images without boxes and mask are not scored.
    class_scores : Path
        The classifier's scores of all classes.
    maps : list of Path
        Shards of class maps; together they cover the split.
    settings : mapping
        Section ``comparison.localization``.
    split : str
        ``"train"`` or ``"val"``.
    method : str
        CLASSIFIER/MAPS.
    scores, pairs : Path
        Outputs: JSON, and a CSV with one row per pair.
    threads : int
        Number of processes.

    Raises
    ------
    UserError
        If a scored image has no maps, or maps of another size than its mask.
    """
    data = read_manifest(manifest, classes)
    known, ground_truth = read_boxes(boxes), read_masks(masks)
    scored = [r for r in data.of_split(split) if r.id in known or r.id in ground_truth]
    shards = maps_by_id(maps, [record.id for record in scored])
    logits = read_class_scores(class_scores)
    items = [
        (r, shards[r.id], known.get(r.id), ground_truth.get(r.id), logits[r.id]) for r in scored
    ]
    levels = np.arange(settings["thresholds"]) / settings["thresholds"]
    work = _Localization(data.classes, settings, levels)
    found: list[LocalizedPair] = []
    pixels = np.zeros((2, BINS), np.int64)
    for image_pairs, histograms in map_images(
        work, items, workers=threads, what=f"boxes of {method}"
    ):
        found += image_pairs
        pixels += histograms
    head = {
        "method": method,
        "split": split,
        "images": len(scored),
        "images_with_known_boxes": sum(record.id in known for record in scored),
        "settings": settings,
    }
    write_json(scores, head | localization_scores(found, pixels, levels, settings))
    columns = [field.name for field in fields(LocalizedPair)][:-2]
    write_table(pairs, columns, ([getattr(pair, name) for name in columns] for pair in found))


@dataclass(frozen=True)
class _Localization:
    """The work on one image, as a callable that can be pickled."""

    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    levels: NDArray[np.float64]

    def __call__(
        self,
        item: tuple[Record, MapShard, list[Box] | None, Mask | None, NDArray[np.float64]],
    ) -> Found:
        record, shard, known, mask, logits = item
        maps = shard.of_size(record.id, (record.height, record.width))
        ground_truth = None if mask is None else mask.read()
        full = upsampled(maps)
        pixels = np.zeros((2, BINS), np.int64)
        if ground_truth is not None:
            scored = ground_truth != IGNORE
            for number, values in zip(maps.classes, full, strict=True):
                pixels += pixel_histograms(values, ground_truth == number, scored, BINS)
        place = {int(number): index for index, number in enumerate(maps.classes)}
        ranks = label_ranks(logits, [number - 1 for number in place])
        pairs = []
        for number, true in true_boxes(record, self.classes, known, ground_truth).items():
            values, rank = full[place[number]], int(ranks[place[number]])
            name = self.classes[number - 1]
            pairs.append(self._pair(record.id, name, rank, values, true))
        return pairs, pixels

    def _pair(
        self, image_id: str, label: str, rank: int, values: NDArray[np.float32], true: Any
    ) -> LocalizedPair:
        threshold = self.settings["threshold"]
        guesses = self.settings["five_boxes"] or {"tight": threshold, "loose": threshold}
        levels = [*self.levels, threshold, guesses["tight"], guesses["loose"]]
        largest, any_box = threshold_overlaps(values, true, levels)
        chosen = largest if self.settings["components"] == "largest" else any_box
        return LocalizedPair(
            id=image_id,
            label=label,
            rank=rank,
            overlap=float(chosen[-3]),
            tight=float(chosen[-2]),
            loose=float(chosen[-1]),
            largest=largest[:-3],
            any_box=any_box[:-3],
        )


if __name__ == "__main__":
    run_stage(localize, snakemake)
