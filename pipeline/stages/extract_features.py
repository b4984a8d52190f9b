"""Compute the features that a linear probe is fitted to, for one shard of the train images."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from pipeline.datasets.manifest import Record, read_manifest
from pipeline.errors import UserError
from pipeline.io.arrays import write_features
from pipeline.io.images import read_rgb
from pipeline.models.classifier import CamClassifier, create_probe
from pipeline.models.views import Views
from pipeline.runtime.device import channels_last, make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def extract_features(
    *,
    manifest: Path,
    classes: Path,
    pretrained: list[Path],
    settings: Mapping[str, Any],
    views: Mapping[str, Any],
    seed: int,
    shard: int,
    shards: int,
    features: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write the features of all views of each train image, as 16-bit numbers.

    Parameters
    ----------
    pretrained : list of Path
        At most one local file of backbone weights.
    settings : mapping
        Settings of the probe's backbone: the keys of
        :data:`pipeline.planning.settings.PROBE_BACKBONE`.
    views : mapping
        The entry of ``attributions`` whose views are used: keys ``scales``, ``flip`` and
        ``max_size``.
    features : Path
        Output: a folder with one safetensors file for each image.
    manifest, classes, seed, shard, shards, threads, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If a feature is too large for 16 bits.
    """
    data = read_manifest(manifest, classes)
    records = data.of_shard("train", shard, shards)
    fabric = make_fabric(settings["precision"], threads, gpu)
    probe = create_probe(settings, len(data.classes), next(iter(pretrained), None), seed)
    model, seen = on_device(fabric, probe), Views.from_settings(views)
    features.mkdir(parents=True, exist_ok=True)
    for record in progress(records, total=len(records), what=f"features of train, shard {shard}"):
        found = _features(fabric, model, record, seen)
        write_features(features / f"{record.id}.safetensors", found)


@torch.no_grad()
def _features(
    fabric: Fabric, model: CamClassifier, record: Record, views: Views
) -> list[NDArray[np.float16]]:
    image = read_rgb(record.image, (record.height, record.width))
    scales = []
    for scale in views.scales:
        batch = channels_last(views.batch(model, image, scale))
        with fabric.autocast():  # automatic only for calls of the whole network
            found = model.backbone.forward_features(batch)  # type: ignore[operator]
        scales.append(found.half().contiguous().cpu().numpy())
    if not all(np.isfinite(scale).all() for scale in scales):
        raise UserError(
            f"{record.image}: features of the backbone exceed the range of 16 bits, expected "
            "values up to 65504: set the probe's views_of to null"
        )
    return scales


if __name__ == "__main__":
    run_stage(extract_features, snakemake)
