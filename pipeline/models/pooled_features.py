"""Pooled features of a frozen backbone: what linear probes are fitted to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.datasets.manifest import Record, files_by_id
from pipeline.io.arrays import read_features
from pipeline.io.images import read_rgb
from pipeline.models.classifier import CamClassifier
from pipeline.models.views import Views
from pipeline.runtime.device import channels_last, make_fabric, on_device
from pipeline.runtime.progress import progress


@torch.no_grad()
def computed_features(
    model: CamClassifier,
    records: Sequence[Record],
    settings: Mapping[str, Any],
    threads: int,
    gpu: int,
) -> NDArray[np.float32]:
    """Compute pooled features: one row per image, each followed by its mirrored image's row.

    Parameters
    ----------
    model : CamClassifier
    records : sequence of N Record
    settings : mapping
        Keys ``size`` (long side in pixels that images are resized to), ``flip`` and ``precision``.
    threads, gpu : int
        See :mod:`pipeline.stages`.

    Returns
    -------
    (N, F) or (2 N, F) float32 array
    """
    fabric = make_fabric(settings["precision"], threads, gpu)
    applied = on_device(fabric, model, fold=False)  # the network is saved without folding
    views, rows = Views(flip=settings["flip"]), []
    with fabric.autocast():  # automatic only for calls of the whole network
        for record in progress(records, total=len(records), what="features of train"):
            image = read_rgb(record.image)
            batch = views.batch(applied, image, scale=settings["size"] / max(image.shape[:2]))
            maps = applied.backbone.forward_features(channels_last(batch))  # type: ignore[operator]
            rows.append(maps.float().mean(dim=(2, 3)).cpu().numpy())
    return np.concatenate(rows)


def stored_features(
    records: Sequence[Record], folders: Sequence[Path], scales: Sequence[float]
) -> NDArray[np.float32]:
    """Pool stored features of the scale nearest to 1: the same rows as :func:`computed_features`.

    Parameters
    ----------
    records : sequence of N Record
    folders : sequence of Path
        Folders of :func:`pipeline.stages.extract_features.extract_features`, one for each shard.
    scales : sequence of float
        Scales in the files, in order.

    Raises
    ------
    UserError
        If an image has no features, or its file is damaged.
    """
    files = files_by_id([record.id for record in records], folders, ".safetensors", "features")
    nearest = min(range(len(scales)), key=lambda number: (abs(scales[number] - 1), scales[number]))
    rows = [
        read_features(path, [nearest])[0].mean(axis=(2, 3), dtype=np.float32)
        for path in progress(files.values(), total=len(files), what="features of train")
    ]
    return np.concatenate(rows)
