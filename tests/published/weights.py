"""Weights from a seed, the same on every machine: whole numbers over a power of two, no libm.

Each convolution has a slot: the seed, its weight's shape, and how many convolutions of that shape
were defined before. Names of modules and the order of unequal shapes do not matter. A norm has
the slot of the convolution defined last before it.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

SEED = 2021
LAYERS = (nn.Conv2d, nn.GroupNorm, _BatchNorm)
STEPS = 2**23

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def fill(network: Network, statistics: Mapping[str, NDArray[Any]]) -> Network:
    """Set a network's weights in place: the backbone's by SEED, all others by SEED + 1.

    Parameters
    ----------
    network : nn.Module
        One of its modules is a ResNet with ``layer4``.
    statistics : mapping
        ``mean`` and ``variance`` of all batch norms of the backbone, in order of definition.
    """
    _fill_layers(_layers(backbone_of(network).modules()), SEED)
    # Features behind a ReLU are positive: filters that sum to 0 keep the outputs' contrast.
    _fill_layers(layers_behind(network), SEED + 1, centered=True)
    norms = [part for part in backbone_of(network).modules() if isinstance(part, _BatchNorm)]
    widths = [norm.num_features for norm in norms]
    means, variances = (
        torch.from_numpy(statistics[key]).split(widths) for key in ("mean", "variance")
    )
    for norm, mean, variance in zip(norms, means, variances, strict=True):
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    return network


def backbone_of(network: nn.Module) -> nn.Module:
    """Return the ResNet inside a network."""
    return next(part for part in network.modules() if hasattr(part, "layer4"))


def layers_behind(network: nn.Module) -> list[nn.Module]:
    """Return convolutions and norms outside the backbone, in order of definition."""
    inside = set(backbone_of(network).modules())
    return _layers(part for part in network.modules() if part not in inside)


def checksum(modules: Iterable[nn.Module]) -> float:
    """Return the sum of absolute weights in float64, each module's own parameters once."""
    own = (weight for part in modules for weight in part.parameters(recurse=False))
    return sum(float(weight.detach().double().abs().sum()) for weight in own)


def _layers(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return [part for part in modules if isinstance(part, LAYERS)]


def _fill_layers(layers: Sequence[nn.Module], seed: int, centered: bool = False) -> None:
    before: Counter[str] = Counter()
    slot = ""
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            shape = "x".join(map(str, layer.weight.shape))
            slot = f"{seed}:{shape}:{before[shape]}"
            before[shape] += 1
            _fill_convolution(layer, slot, centered)
        else:
            layer.weight.copy_(0.7 + 0.3 * _uniform(f"{slot}:scale", layer.weight))
            layer.bias.copy_(0.2 * _uniform(f"{slot}:shift", layer.bias))


def _fill_convolution(layer: nn.Conv2d, slot: str, centered: bool) -> None:
    weight = _uniform(f"{slot}:weight", layer.weight).double()
    if centered:
        weight -= weight.mean(dim=(1, 2, 3), keepdim=True)
    layer.weight.copy_(weight * sqrt(6 / layer.weight[0].numel()))
    if layer.bias is not None:
        layer.bias.copy_(0.1 * _uniform(f"{slot}:bias", layer.bias))


def _uniform(name: str, like: Tensor) -> Tensor:
    """Return float32 values in [-1, 1) of another tensor's shape, by the CRC-32 of a name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    whole = torch.randint(0, 2 * STEPS, tuple(like.shape), generator=generator)
    return (whole - STEPS).float() / STEPS
