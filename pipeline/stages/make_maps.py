"""Make the class maps of one shard of a split with a trained network."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from pipeline.attribution import METHODS
from pipeline.attribution.cam import cam_of_features
from pipeline.attribution.fusion import FusedMaps, fuse, fuse_views
from pipeline.datasets.manifest import Record, read_manifest
from pipeline.io.arrays import ClassMaps, MapShard, read_features, write_maps
from pipeline.io.images import read_rgb
from pipeline.models.cell_centers import CellCenters
from pipeline.models.classifier import CamClassifier, load_classifier
from pipeline.models.grid import has_patches
from pipeline.models.inference import labeled_probabilities
from pipeline.models.segmentation_network import load_segmentation_network
from pipeline.models.views import Views
from pipeline.runtime.device import make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Function from an image's record and its class numbers to class maps.
Mapper = Callable[[Record, NDArray[np.int64]], FusedMaps]
#: Settings of the fusion; all others are specific to a method.
FUSION = frozenset({"scales", "flip", "max_size", "stride", "full_resolution", "align"})


def make_maps(
    *,
    manifest: Path,
    classes: Path,
    weights: Path,
    previous: list[Path],
    features: list[Path],
    settings: Mapping[str, Any],
    precision: str,
    split: str,
    shard: int,
    shards: int,
    maps: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write class maps of the classes that each image is labeled with.

    Parameters
    ----------
    weights : Path
        The classifier or, for the method ``segmentation``, the segmentation network.
    previous : list of Path
        At most one shard of maps of the previous self-training round, to average with.
    features : list of Path
        At most one folder of features of the views, which
        :func:`pipeline.stages.extract_features.extract_features` wrote for a linear probe. With it,
        no image is read.
    settings : mapping
        Keys ``method``, ``scales``, ``flip``, ``max_size``, ``stride`` and, for methods on a
        classifier, ``full_resolution`` and, if the method has it, ``align``. All other keys are
        specific to the method.
    maps : Path
        Output: one safetensors file.
    manifest, classes, precision, split, shard, shards, threads, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If an image no longer has the size that it had in the previous round.
    """
    data = read_manifest(manifest, classes)
    records = data.of_shard(split, shard, shards)
    if features:
        make_fabric("32-true", threads, gpus=0)  # a linear layer is not worth a GPU
        mapper = _feature_mapper(weights, features[0], settings)
    else:
        mapper = _image_mapper(make_fabric(precision, threads, gpu), weights, settings)
    previous_maps = MapShard(previous[0]) if previous else None

    def image_maps(record: Record) -> tuple[str, ClassMaps]:
        numbers, size = data.class_numbers(record), (record.height, record.width)
        found = mapper(record, numbers)
        values = found.values
        if previous_maps is not None:
            old = previous_maps.of_size(record.id, size).values
            values = _mean(values, old, settings["previous_weight"])
        return record.id, ClassMaps(numbers, values, size, found.agreement, found.full)

    work = progress(records, total=len(records), what=f"maps of {split}, shard {shard}")
    write_maps(maps, (image_maps(record) for record in work))


def _image_mapper(fabric: Fabric, weights: Path, settings: Mapping[str, Any]) -> Mapper:
    """Return the function that applies a network to an image."""
    views, stride = Views.from_settings(settings), settings["stride"]
    if settings["method"] == "segmentation":
        network = on_device(fabric, load_segmentation_network(weights))
        return lambda record, classes: FusedMaps(
            *labeled_probabilities(network, _image(record), classes, views, stride=stride)
        )
    own = {key: value for key, value in settings.items() if key not in {"method", *FUSION}}
    method = partial(METHODS[settings["method"]], **own)
    classifier, layer = load_classifier(weights), settings.get("layer")
    centers = _centers(classifier, settings, layer)
    model = on_device(fabric, classifier, fold=not layer)
    full = settings["full_resolution"]
    fused = partial(
        fuse, method, model, views=views, stride=stride, full_resolution=full, centers=centers
    )
    return lambda record, classes: fused(_image(record), classes)


def _centers(
    model: CamClassifier, settings: Mapping[str, Any], layer: str | None = None
) -> CellCenters | None:
    """Return the centers of cells if the configuration asks for them, or cells are patches.

    The last patches may lie outside the image, so the map cannot be stretched over it.
    """
    if "align" not in settings:  # a method whose maps have pixels
        return None
    aligned = settings["align"] or has_patches(model.backbone)
    return CellCenters(model.backbone, layer) if aligned else None


def _image(record: Record) -> NDArray[np.uint8]:
    return read_rgb(record.image, (record.height, record.width))


def _feature_mapper(weights: Path, folder: Path, settings: Mapping[str, Any]) -> Mapper:
    """Return the function that applies a linear probe to the stored features of an image."""
    views = Views.from_settings(settings)
    model = load_classifier(weights)
    centers = _centers(model, settings)
    numbers = range(len(views.scales))

    def maps(record: Record, classes: NDArray[np.int64]) -> FusedMaps:
        stored = read_features(folder / f"{record.id}.safetensors", numbers) if len(classes) else []
        indices = torch.as_tensor(classes - 1)
        found = [cam_of_features(model, torch.from_numpy(s).float(), indices) for s in stored]
        return fuse_views(
            [views.aligned(scale) for scale in found],
            (record.height, record.width),
            views,
            stride=settings["stride"],
            full_resolution=settings["full_resolution"],
            centers=centers,
        )

    return maps


def _mean(
    values: NDArray[np.float16], previous: NDArray[np.float16], weight: float
) -> NDArray[np.float16]:
    mean = (1 - weight) * values.astype(np.float32) + weight * previous.astype(np.float32)
    return mean.astype(np.float16)


if __name__ == "__main__":
    run_stage(make_maps, snakemake)
