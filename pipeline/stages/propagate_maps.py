"""Refine the class maps of one shard by a random walk that stops at learned boundaries."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.datasets.manifest import Record, read_manifest
from pipeline.io.arrays import ClassMaps, MapShard, write_maps
from pipeline.io.images import read_rgb
from pipeline.models.boundary import boundary_map, load_boundary_network
from pipeline.models.views import Views
from pipeline.refinement.random_walk import class_probabilities, confident_markers, random_walk
from pipeline.runtime.device import make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Images per batch on a GPU. A CPU processes one image at a time, which stays in its cache.
GPU_BATCH = 32


def propagate_maps(
    *,
    manifest: Path,
    classes: Path,
    source: Path,
    weights: Path,
    settings: Mapping[str, Any],
    precision: str,
    maps: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write refined maps of the same images and classes.

    The maps of an image are divided by their maximum. A marker-based random walk gives posteriors
    instead.

    Parameters
    ----------
    source : Path
        One shard of class maps.
    weights : Path
        The boundary network.
    settings : mapping
        Keys ``radius``, ``beta``, ``steps``, ``tolerance``, ``markers``, ``flip`` and
        ``max_size``.
    maps : Path
        Output: one safetensors file.
    manifest, classes, precision, threads, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If an image no longer has the size that its maps were made for.
    """
    shard = MapShard(source)
    records = {record.id: record for record in read_manifest(manifest, classes).records}
    fabric = make_fabric(precision, threads, gpu)
    model = on_device(fabric, load_boundary_network(weights))
    boundaries = partial(boundary_map, model, views=Views.from_settings(settings))
    markers = settings["markers"]
    walk = partial(
        random_walk,
        radius=settings["radius"],
        beta=settings["beta"],
        steps=settings["steps"],
        tolerance=settings["tolerance"],
    )

    def propagated(group: Sequence[Record]) -> Iterator[tuple[str, ClassMaps]]:
        items = [shard.of_size(r.id, (r.height, r.width)) for r in group]
        values = [torch.from_numpy(item.values).float().to(fabric.device) for item in items]
        boundary_maps = [
            boundaries(read_rgb(record.image, item.size), item.values.shape[1:])
            for record, item in zip(group, items, strict=True)
        ]
        starts = [confident_markers(value, **markers) for value in values] if markers else values
        spread = map(
            class_probabilities if markers else _to_unit_maximum, walk(starts, boundary_maps)
        )
        for record, item, value in zip(group, items, spread, strict=True):
            yield record.id, ClassMaps(item.classes, _stored(value), item.size)

    size = GPU_BATCH if fabric.device.type == "cuda" else 1
    wanted = [records[image_id] for image_id in shard.ids]
    groups = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    images = (image for group in groups for image in propagated(group))
    write_maps(maps, progress(images, total=len(wanted), what=f"random walk in {source}"))


def _to_unit_maximum(maps: Tensor) -> Tensor:
    """Divide an image's maps by their common maximum, as IRN's code does.

    The relative strength of the classes after the walk is kept.
    """
    return maps / maps.max() if maps.numel() and maps.any() else maps


def _stored(maps: Tensor) -> NDArray[np.float16]:
    return maps.cpu().numpy().astype(np.float16)


if __name__ == "__main__":
    run_stage(propagate_maps, snakemake)
