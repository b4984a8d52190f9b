"""Judge class maps by what their classifier still recognises when they hide the rest."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.artifacts import MapShard, replacing, write_scores
from pipeline.datasets.manifest import Record, read_manifest
from pipeline.device import channels_last, make_fabric, on_device
from pipeline.errors import UserError
from pipeline.images import fitted_size, normalise, read_rgb, resize
from pipeline.metrics.faithfulness import (
    curve_area,
    deletion_images,
    drops,
    explanation_images,
    increase_share,
    insertion_images,
)
from pipeline.models.classifier import CamClassifier, load_classifier
from pipeline.progress import progress
from pipeline.refinement.labels import upsampled
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Confidences from (N, C) logits, by name.
CONFIDENCES = {"sigmoid": torch.sigmoid, "softmax": lambda logits: logits.softmax(dim=1)}


@dataclass(frozen=True)
class JudgedPair:
    """One class of one image: confidences, and areas under the curves (None without them)."""

    id: str
    label: str
    whole: float
    explained: float
    deletion: float | None
    insertion: float | None


def judge_faithfulness(
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
) -> None:
    """Write the faithfulness of maps of (image, labelled class) pairs; no truth is needed.

    Parameters
    ----------
    manifest, classes : Path
        Images with their labels, and the class names.
    weights : Path
        The classifier that the maps are of.
    maps : list of Path
        Shards of class maps; together they cover the split.
    settings : mapping
        Section ``comparison.faithfulness``: ``confidence``, ``images`` and ``steps``.
    max_size : int or None
        Long side that larger images are shrunk to.
    precision : str
        Arithmetic of the forward pass.
    split : str
        ``"train"`` or ``"val"``.
    method : str
        CLASSIFIER/MAPS.
    scores, pairs : Path
        Outputs: JSON, and a CSV row a pair.
    threads : int
        CPU threads.

    Raises
    ------
    UserError
        If an image has no maps.
    """
    data = read_manifest(manifest, classes)
    shards = {image_id: shard for shard in map(MapShard, maps) for image_id in shard.ids}
    records = _spread([r for r in data.of_split(split) if r.labels], settings["images"])
    lacking = [record.id for record in records if record.id not in shards]
    if lacking:
        raise UserError(f"{len(lacking)} of {len(records)} images have no maps, first {lacking[0]}")
    fabric = make_fabric(precision, threads)
    model = on_device(fabric, load_classifier(weights))
    judge = _Judge(model, settings["confidence"], settings["steps"], max_size)
    found: list[JudgedPair] = []
    for record in progress(records, total=len(records), what=f"faithfulness of {method}"):
        found += judge(record, shards[record.id], data.classes)
    head = {"method": method, "split": split, "images": len(records), "settings": settings}
    write_scores(scores, head | _scores(found))
    _write_pairs(pairs, found)


def _spread(records: Sequence[Record], count: int | None) -> Sequence[Record]:
    """Take a number of records, evenly spaced; all without one."""
    if count is None or count >= len(records):
        return records
    return [records[index * len(records) // count] for index in range(count)]


@dataclass(frozen=True)
class _Judge:
    """The work on one image."""

    model: CamClassifier
    confidence: str
    steps: int
    max_size: int | None

    @torch.no_grad()
    def __call__(self, record: Record, shard: MapShard, classes: Sequence[str]) -> list[JudgedPair]:
        maps, photograph = shard[record.id], read_rgb(record.image)
        size = fitted_size((photograph.shape[0], photograph.shape[1]), self.max_size)
        scaled = normalise(resize(photograph, size), self.model.mean, self.model.std)
        device = next(self.model.parameters()).device
        image = torch.from_numpy(scaled).to(device)
        values = torch.stack([_resized(full, size) for full in upsampled(maps)]).to(device)
        own = torch.from_numpy(maps.classes - 1).to(device)
        hidden = explanation_images(
            image.expand(len(own), *image.shape), values, self.model.mean, self.model.std
        )
        confidences = self._confidences(torch.cat([image[None], hidden]))[:, own]
        return [
            JudgedPair(
                record.id,
                classes[int(number)],
                float(confidences[0, index]),
                float(confidences[1 + index, index]),
                *self._areas(image, values[index], int(number)),
            )
            for index, number in enumerate(own)
        ]

    def _areas(
        self, image: Tensor, values: Tensor, number: int
    ) -> tuple[float, float] | tuple[None, None]:
        if not self.steps:
            return None, None
        deleted = deletion_images(image, values, self.steps)
        inserted = insertion_images(image, values, self.steps)
        curves = [self._confidences(part)[:, number] for part in (deleted, inserted)]
        deletion, insertion = (curve_area(curve.cpu().numpy()) for curve in curves)
        return deletion, insertion

    def _confidences(self, images: Tensor) -> Tensor:
        logits = self.model(channels_last(images)).logits.float()
        confidences: Tensor = CONFIDENCES[self.confidence](logits)
        return confidences


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> Tensor:
    height, width = size
    small = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small)


def _scores(found: Sequence[JudgedPair]) -> dict[str, Any]:
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


def _write_pairs(path: Path, found: Sequence[JudgedPair]) -> None:
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(JudgedPair.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(map(asdict, found))


if __name__ == "__main__":
    run_stage(judge_faithfulness, snakemake)
