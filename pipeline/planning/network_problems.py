"""Check the networks of a configuration by building each of them once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from math import isqrt
from pathlib import Path
from typing import Any

import timm
from torch import nn

from pipeline.errors import UserError
from pipeline.models.backbone import find_module, find_stride, frozen_module, load_backbone
from pipeline.models.boundary import BoundaryNetwork
from pipeline.models.cell_centers import CellCenters
from pipeline.models.classifier import CamClassifier, create_classifier
from pipeline.models.layer_features import LayerFeatures
from pipeline.models.segmentation_network import create_segmentation_network
from pipeline.planning.inputs import given_weights, pretrained_backbones
from pipeline.planning.layers import aligned_maps, layers_of_maps
from pipeline.planning.plan import Plan

#: Number of classes of the networks that are built; any number will do.
CLASSES = 2


def network_problems(plan: Plan) -> Iterator[str]:
    """Yield problems of networks: failed builds, missing layers, unfit weights.

    Parameters
    ----------
    plan : Plan

    Yields
    ------
    str
        A message that begins with the place in the configuration.
    """
    # A file that does not fit several networks is reported once.
    yield from dict.fromkeys(_problems(plan))


def _problems(plan: Plan) -> Iterator[str]:
    yield from _unused_weights(plan.config)
    weights = {backbone: Path(path) for backbone, path in given_weights(plan.config).items()}
    for name in plan.config["classifiers"]:
        yield from _classifier_problems(plan, name, weights)
    if "segmentation" in plan.config:
        yield from _segmentation_problems(plan.config["segmentation"], weights)


def _unused_weights(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield weights with misspelled backbone names, whose network would use a download.

    Experiments may share a file of paths, so weights of unused networks are allowed.
    """
    used = set(pretrained_backbones(config))
    without = sorted(used - config["weights"].keys())
    for name in sorted(config["weights"].keys() - used):
        same = [other for other in without if other.partition(".")[0] == name.partition(".")[0]]
        known = timm.is_model(name)
        if near := same or ([] if known else get_close_matches(name, without)):
            yield (
                f"weights.{name}: no network has that backbone, and the weights of {near[0]} would "
                f"be downloaded: did you mean weights.{near[0]}?"
            )
        elif not known:
            yield f"weights.{name}: expected the timm name of a backbone"


def _classifier_problems(plan: Plan, name: str, weights: Mapping[str, Path]) -> Iterator[str]:
    place, settings = f"classifiers.{name}", plan.config["classifiers"][name]
    try:
        model = create_classifier({"pooling": "gap"} | settings | {"pretrained": False}, CLASSES)
        walked = any(path.split("/")[0] == name for path in plan.walked)
        if walked and plan.learns_affinities:
            BoundaryNetwork(model.backbone)
    except UserError as error:
        yield f"{place}: {error}"
        return
    if walked and not plan.learns_affinities:
        yield from _layer_problems(f"affinity.layers of {name}", model.backbone, plan)
    yield from _misfit(model.backbone, settings, weights)
    yield from _uneven_tiles(place, settings)
    yield from _lacking(
        f"{place}.frozen", model.backbone, settings.get("frozen", ()), frozen_module
    )
    for classifier, attribution, layer in layers_of_maps(plan):
        if classifier == name:
            yield from _lacking(f"attributions.{attribution} of {name}", model.backbone, [layer])
    for classifier, attribution, inner in aligned_maps(plan):
        if classifier == name:
            yield from _without_centers(f"attributions.{attribution} of {name}", model, inner)


def _layer_problems(place: str, backbone: nn.Module, plan: Plan) -> Iterator[str]:
    """Yield the problem of layers whose features cannot be compared, or have no even places."""
    try:
        model = LayerFeatures(backbone, plan.config["affinity"]["layers"])
        for centers in model.centers.values():
            for axis in (0, 1):
                centers.of_side(0, axis)
    except UserError as error:
        yield f"{place}: {error}"


def _segmentation_problems(settings: dict[str, Any], weights: Mapping[str, Path]) -> Iterator[str]:
    try:
        model = create_segmentation_network(settings | {"pretrained": False}, CLASSES)
    except UserError as error:
        yield f"segmentation: {error}"
        return
    yield from _misfit(model.encoder, settings, weights)
    yield from _lacking("segmentation.frozen", model.encoder, settings["frozen"], frozen_module)


def _misfit(
    backbone: nn.Module, settings: Mapping[str, Any], weights: Mapping[str, Path]
) -> Iterator[str]:
    """Load the user's weights into a backbone that starts from them; yield the problem."""
    name = settings["backbone"]
    if settings["pretrained"] and name in weights:
        try:
            load_backbone(backbone, weights[name])
        except UserError as error:
            yield f"weights.{name}: {error}"


def _uneven_tiles(place: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problem of a Puzzle-CAM whose tiles have no whole number of cells."""
    if settings.get("puzzle"):
        stride = find_stride(settings["backbone"], settings["output_stride"])
        step, crop = stride * isqrt(settings["puzzle"]["pieces"]), settings["augmentation"]["crop"]
        if crop % step:
            yield f"{place}.augmentation.crop is {crop}, expected a multiple of {step}"


def _without_centers(place: str, model: CamClassifier, layer: str | None) -> Iterator[str]:
    """Measure where cells look; yield the problem of a network or layer without such places."""
    if layer is not None and layer not in dict(model.backbone.named_modules()):
        return  # reported as a layer that is missing
    try:
        centers = CellCenters(model.backbone, layer)
        for axis in (0, 1):
            centers.of_side(0, axis)
    except UserError as error:
        yield f"{place}: {error}"


def _lacking(
    place: str,
    backbone: nn.Module,
    names: Iterable[str],
    find: Callable[[nn.Module, str], nn.Module] = find_module,
) -> Iterator[str]:
    for name in names:
        try:
            find(backbone, name)
        except UserError as error:
            yield f"{place}: {error}"
