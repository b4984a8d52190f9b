"""Measure the faithfulness of class maps: whether they show what the classifier uses."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.attribution.faithfulness import FaithfulnessEvaluator, FaithfulnessPair
from pipeline.datasets.manifest import evenly_spaced, read_manifest
from pipeline.io.arrays import maps_by_id
from pipeline.io.images import read_rgb
from pipeline.io.tables import write_json, write_table
from pipeline.metrics.faithfulness import drops, increase_share
from pipeline.models.classifier import load_classifier
from pipeline.runtime.device import make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def evaluate_faithfulness(
    *,
    manifest: Path,
    classes: Path,
    weights: Path,
    maps: list[Path],
    settings: Mapping[str, Any],
    max_size: int | None,
    precision: str,
    split: str,
    method: str,
    scores: Path,
    pairs: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write the faithfulness of the maps of (image, labeled class) pairs, without ground truth.

    Parameters
    ----------
    weights : Path
        The classifier of the maps.
    maps : list of Path
        Shards of class maps; together they cover the split.
    settings : mapping
        Section ``comparison.faithfulness``: ``confidence``, ``images`` and ``steps``.
    max_size : int or None
        Maximum long side in pixels; larger images are shrunk.
    method : str
        CLASSIFIER/MAPS.
    scores, pairs : Path
        Outputs: JSON, and a CSV with one row per pair.
    manifest, classes, precision, split, threads, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If an image has no maps.
    """
    data = read_manifest(manifest, classes)
    labeled = [record for record in data.of_split(split) if record.labels]
    records = evenly_spaced(labeled, settings["images"] or len(labeled))
    shards = maps_by_id(maps, [record.id for record in records])
    fabric = make_fabric(precision, threads, gpu)
    model = on_device(fabric, load_classifier(weights))
    evaluator = FaithfulnessEvaluator(model, settings["confidence"], settings["steps"], max_size)
    found: list[FaithfulnessPair] = []
    for record in progress(records, total=len(records), what=f"faithfulness of {method}"):
        image, image_maps = read_rgb(record.image), shards[record.id][record.id]
        found += evaluator(record.id, image, image_maps, data.classes)
    head = {"method": method, "split": split, "images": len(records), "settings": settings}
    write_json(scores, head | _scores(found))
    write_table(pairs, list(FaithfulnessPair.__dataclass_fields__), map(astuple, found))


def _scores(found: Sequence[FaithfulnessPair]) -> dict[str, Any]:
    if not found:
        return {"pairs": 0, "average_drop": None, "increase": None}
    whole, explained = (np.array([getattr(p, k) for p in found]) for k in ("whole", "explained"))
    areas = {name: [getattr(pair, name) for pair in found] for name in ("deletion", "insertion")}
    return {
        "pairs": len(found),
        "average_drop": float(drops(whole, explained).mean()),
        "increase": increase_share(whole, explained),
        **{name: None if None in values else np.mean(values) for name, values in areas.items()},
    }


if __name__ == "__main__":
    run_stage(evaluate_faithfulness, snakemake)
