"""Fit a linear probe: a linear classifier on the pooled features of a frozen backbone."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.datasets.manifest import read_manifest
from pipeline.models.classifier import create_probe, save_classifier
from pipeline.models.pooled_features import computed_features, stored_features
from pipeline.models.probe import fit_linear
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
        pooled = stored_features(records, features, scales)
    else:
        pooled = computed_features(model, records, settings, threads, gpu)
    targets = np.repeat(data.targets(records), len(pooled) // len(records), axis=0)
    how = {"solver": settings["solver"], "c": settings["c"], "constant": settings["bias"]}
    found, bias = fit_linear(pooled, targets, **how)
    state = model.state_dict()
    if settings["bias"]:
        state["bias"] = torch.from_numpy(bias)
    state["head.weight"] = torch.from_numpy(found)[:, :, None, None]
    save_classifier(weights, state, {**settings, "pooling": "gap"}, len(data.classes))


if __name__ == "__main__":
    run_stage(fit_probe, snakemake)
