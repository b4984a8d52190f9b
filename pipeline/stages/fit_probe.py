"""Fit a linear probe: a linear classifier on the pooled features of a frozen backbone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.datasets.manifest import Record, files_by_id, read_manifest
from pipeline.io.arrays import read_features
from pipeline.io.images import read_rgb
from pipeline.models.classifier import CamClassifier, create_probe, save_classifier
from pipeline.models.probe import fit_linear
from pipeline.models.views import Views
from pipeline.runtime.device import channels_last, make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage
from pipeline.training.supervision import require_contrast

if TYPE_CHECKING:
    snakemake: Any


def fit_probe(
    *,
    manifest: Path,
    classes: Path,
    pretrained: list[Path],
    features: list[Path],
    settings: Mapping[str, Any],
    scales: list[float],
    seed: int,
    weights: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Fit a classifier to the labels of the train split; masks are not among the inputs.

    Parameters
    ----------
    pretrained : list of Path
        At most one local file of backbone weights.
    features : list of Path
        Folders of :func:`pipeline.stages.extract_features.extract_features`, one for each shard.
        Empty if features are computed here.
    settings : mapping
        An entry of the configuration's ``classifiers`` of kind ``linear-probe``.
    scales : list of float
        Scales in the files of ``features``.
    seed : int
        Seed of the weights of a backbone without pretrained weights.
    weights : Path
        Output: the network (safetensors).
    manifest, classes, threads, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If all train images have the same labels.
    """
    data = read_manifest(manifest, classes)
    records = data.of_split("train")
    require_contrast(data.targets(records), data.classes)
    model = create_probe(settings, len(data.classes), next(iter(pretrained), None), seed)
    if features:
        files = files_by_id([record.id for record in records], features, ".safetensors", "features")
        pooled = _stored(list(files.values()), scales)
    else:
        fabric = make_fabric(settings["precision"], threads, gpu)
        applied = on_device(fabric, model, fold=False)  # the network is saved without folding
        with fabric.autocast():  # automatic only for calls of the whole network
            pooled = _computed(applied, records, settings["size"], settings["flip"])
    targets = np.repeat(data.targets(records), len(pooled) // len(records), axis=0)
    how = {"solver": settings["solver"], "c": settings["c"], "constant": settings["bias"]}
    found, bias = fit_linear(pooled, targets, **how)
    state = model.state_dict()
    if settings["bias"]:
        state["bias"] = torch.from_numpy(bias)
    state["head.weight"] = torch.from_numpy(found)[:, :, None, None]
    save_classifier(weights, state, {**settings, "pooling": "gap"}, len(data.classes))


@torch.no_grad()
def _computed(
    model: CamClassifier, records: Sequence[Record], size: int, flip: bool
) -> NDArray[np.float32]:
    """Compute pooled features: one row per image, each followed by its mirrored image's row."""
    views, rows = Views(flip=flip), []
    for record in progress(records, total=len(records), what="features of train"):
        image = read_rgb(record.image)
        batch = views.batch(model, image, scale=size / max(image.shape[:2]))
        maps = model.backbone.forward_features(channels_last(batch))  # type: ignore[operator]
        rows.append(maps.float().mean(dim=(2, 3)).cpu().numpy())
    return np.concatenate(rows)


def _stored(files: Sequence[Path], scales: Sequence[float]) -> NDArray[np.float32]:
    """Pool stored features of the scale nearest to 1: the same rows as :func:`_computed`."""
    nearest = min(range(len(scales)), key=lambda number: (abs(scales[number] - 1), scales[number]))
    rows = [
        read_features(path, [nearest])[0].mean(axis=(2, 3), dtype=np.float32)
        for path in progress(files, total=len(files), what="features of train")
    ]
    return np.concatenate(rows)


if __name__ == "__main__":
    run_stage(fit_probe, snakemake)
