"""Every network of a configuration built once, to see whether it can be."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from pipeline.errors import UserError
from pipeline.models.affinity import AffinityNetwork
from pipeline.models.backbone import find_module
from pipeline.models.classifier import create_classifier
from pipeline.models.segmenter import create_segmenter
from pipeline.network_check import layers_of_maps
from pipeline.workflow import Plan

#: Any number of classes will do.
CLASSES = 2


def network_problems(plan: Plan) -> Iterator[str]:
    """Say of every network that cannot be built why, and of every layer that it lacks.

    Parameters
    ----------
    plan : Plan

    Yields
    ------
    str
        One problem, after its place in the configuration.
    """
    for name in plan.config["classifiers"]:
        yield from _classifier_problems(plan, name)
    if "segmenter" in plan.config:
        yield from _segmenter_problems(plan.config["segmenter"])


def _classifier_problems(plan: Plan, name: str) -> Iterator[str]:
    place, settings = f"classifiers.{name}", plan.config["classifiers"][name]
    try:
        model = create_classifier({"pooling": "gap"} | settings | {"pretrained": False}, CLASSES)
        if any(path.split("/")[0] == name for path in plan.walked):
            AffinityNetwork(model.backbone)
    except UserError as error:
        yield f"{place}: {error}"
        return
    yield from _lacking(f"{place}.frozen", model.backbone, settings.get("frozen", ()))
    for classifier, attribution, layer in layers_of_maps(plan):
        if classifier == name:
            yield from _lacking(f"attributions.{attribution} of {name}", model.backbone, [layer])


def _segmenter_problems(settings: dict[str, Any]) -> Iterator[str]:
    try:
        model = create_segmenter(settings | {"pretrained": False}, CLASSES)
    except UserError as error:
        yield f"segmenter: {error}"
        return
    yield from _lacking("segmenter.frozen", model.encoder, settings["frozen"])


def _lacking(place: str, backbone: nn.Module, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            find_module(backbone, name)
        except UserError as error:
            yield f"{place}: {error}"
