"""Operations of a network, counted on the meta device: nothing is computed."""

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.backbone import create_backbone, frozen_module
from pipeline.models.grid import own_stride
from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.resources.network import PROBE, Network, Operations

#: Kinds of operations that attention multiplies tokens with.
PRODUCTS = ("bmm", "scaled_dot_product")
#: Name of the whole network in a counter.
TOTAL = "Global"
#: Containers whose children are listed one by one in ``networks.yaml``.
CONTAINERS = ("blocks", "features", "stages")


@cache
def count(network: Network) -> Operations:
    """Count the operations of a network for each pixel of its input.

    The products of attention are counted on images of two sizes: those of all pairs of tokens grow
    with the square of an image's pixels, those of tokens in windows with its pixels.
    """
    with torch.device("meta"):
        model, encoder = _create(network)
    kind = type(model).__name__
    names = {part: f"{kind}.{name}" if name else TOTAL for name, part in model.named_modules()}
    frozen = [names[frozen_module(encoder, name)] for name in network.frozen]
    counts, output = _counts(model, PROBE)
    forward, resting = _sum(counts, [TOTAL]), _sum(counts, frozen)
    attention, resting_attention = 0.0, 0.0
    if _sum(counts, [TOTAL], PRODUCTS):
        larger, _ = _counts(model, 2 * PROBE)
        attention = _pairwise(counts, larger, [TOTAL])
        resting_attention = _pairwise(counts, larger, frozen)
    learning_attention = attention - resting_attention
    return Operations(
        forward / PROBE**2 - attention * PROBE**2,
        (forward - resting) / PROBE**2 - learning_attention * PROBE**2,
        sum(parameter.numel() for parameter in model.parameters()),
        output.shape[1],
        own_stride(encoder) or PROBE / output.shape[2],
        attention,
        learning_attention,
    )


def _counts(model: nn.Module, side: int) -> tuple[dict[str, dict[Any, int]], Tensor]:
    """Return the operations of an image's forward pass by module and kind, and the output."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), counter, torch.no_grad():
        output = model(torch.zeros(1, 3, side, side))
    return counter.get_flop_counts(), output


def _sum(
    counts: dict[str, dict[Any, int]], modules: Iterable[str], kinds: tuple[str, ...] = ("",)
) -> int:
    """Return the operations of modules of those kinds whose name contains one of the words."""
    return sum(
        amount
        for module in modules
        for kind, amount in counts.get(module, {}).items()
        if any(word in str(kind) for word in kinds)
    )


def _pairwise(
    counts: dict[str, dict[Any, int]], larger: dict[str, dict[Any, int]], modules: list[str]
) -> float:
    """Return operations for each pair of pixels, from counts on images of four times the pixels."""
    small = _sum(counts, modules, PRODUCTS) / PROBE**2
    large = _sum(larger, modules, PRODUCTS) / (4 * PROBE**2)
    # Windows that reach beyond the image have less weight in a larger one.
    return max(0.0, (large - small) / (3 * PROBE**2))


def _create(network: Network) -> tuple[Any, nn.Module]:
    """Return a network and its encoder, which are the same for a classifier."""
    name, stride = network.backbone, network.output_stride
    if network.decoder:
        model: Any = SegmentationNetwork(
            name,
            21,
            stride,
            decoder=network.decoder,
            architecture=network.architecture,
            options=json.loads(network.architecture_options or "{}"),
        ).eval()
        return model, model.encoder
    model = create_backbone(name, output_stride=stride, last_layer=network.last_layer).eval()
    model.forward = model.forward_features  # only called functions are counted
    return model, model


@cache
def parts_of(backbone: str, *, leaves: bool = False) -> dict[str, list[float]]:
    """Return operations and output values of the parts of a backbone at stride 16.

    Parameters
    ----------
    backbone : str
        A timm model name.
    leaves : bool
        Return all modules without children, instead of the parts that ``networks.yaml`` lists.

    Returns
    -------
    dict of str to [float, float]
        Operations, and values of the outputs of all modules without children, both for each
        pixel of the input.
    """
    parts: dict[str, list[float]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            part = parts.setdefault(name if leaves else _part(name), [0.0, 0.0])
            part[1] += output.numel() / PROBE**2 if isinstance(output, Tensor) else 0

        return hook

    with torch.device("meta"):
        model, _ = _create(Network(backbone))
        for name, module in model.named_modules():
            if not any(module.children()):
                module.register_forward_hook(note(name))
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(torch.zeros(1, 3, PROBE, PROBE))
    counts = counter.get_flop_counts()
    for name, part in parts.items():
        part[0] = sum(counts.get(f"{type(model).__name__}.{name}", {}).values()) / PROBE**2
    return parts


def _part(name: str) -> str:
    """Return the listed part that a module is in: layer1 of layer1.0.conv1."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first in CONTAINERS else first
