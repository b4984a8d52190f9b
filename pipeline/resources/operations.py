"""Operations of a network, counted on the meta device: nothing is computed."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.backbone import create_backbone, frozen_module
from pipeline.models.grid import own_stride
from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.resources.network import Network, Operations

#: Side of the square that operations are counted on.
PROBE = 256
#: Containers whose children are listed one by one in ``networks.yaml``.
CONTAINERS = ("blocks", "features", "stages")


@cache
def count(network: Network) -> Operations:
    """Count the operations of a network for each pixel of its input."""
    with torch.device("meta"):
        model, encoder = _create(network)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            output = model(torch.zeros(1, 3, PROBE, PROBE))
    names = {part: f"{type(model).__name__}.{name}" for name, part in model.named_modules()}
    per_part = counter.get_flop_counts()
    frozen = [per_part.get(names[frozen_module(encoder, name)], {}) for name in network.frozen]
    forward = counter.get_total_flops()
    learning = forward - sum(sum(part.values()) for part in frozen)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    stride = own_stride(encoder) or PROBE / output.shape[2]
    return Operations(forward / PROBE**2, learning / PROBE**2, parameters, output.shape[1], stride)


def _create(network: Network) -> tuple[Any, nn.Module]:
    """Return a network and its encoder, which are the same for a classifier."""
    name, stride = network.backbone, network.output_stride
    if network.decoder:
        model: Any = SegmentationNetwork(
            name, 21, stride, decoder=network.decoder, architecture=network.architecture
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
