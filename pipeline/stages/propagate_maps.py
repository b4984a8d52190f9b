"""Refine the class maps of one shard by a random walk over learned or feature affinities."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from pipeline.datasets.manifest import Record, read_manifest
from pipeline.io.arrays import ClassMaps, MapShard, write_maps
from pipeline.io.images import read_rgb
from pipeline.models.boundary import boundary_map, load_boundary_network
from pipeline.models.layer_features import image_features, load_layer_features
from pipeline.models.views import Views
from pipeline.refinement.affinity import FlatGrid
from pipeline.refinement.feature_affinity import cosine_affinities
from pipeline.refinement.random_walk import (
    affinity_walk,
    class_probabilities,
    confident_markers,
    random_walk,
)
from pipeline.runtime.device import make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Images per batch on a GPU. A CPU processes one image at a time, which stays in its cache.
GPU_BATCH = 32

#: Function from an image and its number of cells to what stops the walk: (H, W) boundaries, or
#: (D, H, W) affinities.
Stops = Callable[[NDArray[np.uint8], tuple[int, int]], Tensor]
#: :func:`random_walk` or :func:`affinity_walk`.
Walk = Callable[..., list[Tensor]]


def propagate_maps(
    *,
    manifest: Path,
    classes: Path,
    source: Path,
    weights: Path,
    pretrained: list[Path],
    settings: Mapping[str, Any],
    affinity: Mapping[str, Any] | None,
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
        The boundary network or, with affinities of features, the classifier.
    pretrained : list of Path
        At most one local file of backbone weights, for affinities of pretrained features.
    settings : mapping
        Keys ``radius``, ``beta``, ``steps``, ``tolerance``, ``markers``, ``flip`` and
        ``max_size``.
    affinity : mapping or None
        Affinities of frozen features: keys ``features`` and ``layers`` of the configuration's
        section ``affinity``. None for learned ones.
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
    if affinity is None:
        stops, walk = _learned(fabric, weights, settings)
    else:
        stops, walk = _of_features(fabric, weights, pretrained, affinity, settings)
    walk = partial(walk, **{key: settings[key] for key in ("radius", "beta", "steps", "tolerance")})
    markers = settings["markers"]

    def propagated(group: Sequence[Record]) -> Iterator[tuple[str, ClassMaps]]:
        items = [shard.of_size(r.id, (r.height, r.width)) for r in group]
        values = [torch.from_numpy(item.values).float().to(fabric.device) for item in items]
        limits = [
            stops(read_rgb(record.image, item.size), (item.values.shape[1], item.values.shape[2]))
            for record, item in zip(group, items, strict=True)
        ]
        starts = [confident_markers(value, **markers) for value in values] if markers else values
        spread = map(class_probabilities if markers else _to_unit_maximum, walk(starts, limits))
        for record, item, value in zip(group, items, spread, strict=True):
            yield record.id, ClassMaps(item.classes, _stored(value), item.size)

    size = GPU_BATCH if fabric.device.type == "cuda" else 1
    wanted = [records[image_id] for image_id in shard.ids]
    groups = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    images = (image for group in groups for image in propagated(group))
    write_maps(maps, progress(images, total=len(wanted), what=f"random walk in {source}"))


def _learned(fabric: Fabric, weights: Path, settings: Mapping[str, Any]) -> tuple[Stops, Walk]:
    """Return the functions of a walk that stops at the boundaries of a boundary network."""
    model = on_device(fabric, load_boundary_network(weights))
    return partial(boundary_map, model, views=Views.from_settings(settings)), random_walk


def _of_features(
    fabric: Fabric,
    weights: Path,
    pretrained: list[Path],
    affinity: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> tuple[Stops, Walk]:
    """Return the functions of a walk over cosines of frozen features."""
    features = load_layer_features(
        weights, affinity["features"], next(iter(pretrained), None), affinity["layers"]
    )
    model = on_device(fabric, features, fold=False)
    views, radius = Views.from_settings(settings), settings["radius"]

    def affinities(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
        sources = image_features(model, image, size, views)
        return cosine_affinities(sources, FlatGrid(*size, radius))

    return affinities, affinity_walk


def _to_unit_maximum(maps: Tensor) -> Tensor:
    """Divide an image's maps by their common maximum, as IRN's code does.

    The relative strength of the classes after the walk is kept.
    """
    return maps / maps.max() if maps.numel() and maps.any() else maps


def _stored(maps: Tensor) -> NDArray[np.float16]:
    return maps.cpu().numpy().astype(np.float16)


if __name__ == "__main__":
    run_stage(propagate_maps, snakemake)
