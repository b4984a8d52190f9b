"""The attention-based dropout layer (ADL; Choe and Shim 2019)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.backbone import find_module


class AttentionDropout(nn.Module):
    """Hide the most discriminative region of a feature map, or weigh the map by its importance.

    Choe and Shim 2019, "Attention-based Dropout Layer for Weakly Supervised Object
    Localization", section 3: the attention is the mean over the channels, the importance map
    its sigmoid, and the drop mask is 0 where the attention reaches a share of the image's
    maximum. One of the two is drawn for the whole batch and multiplied with the features. The
    layer has no parameters, and in evaluation mode it passes its input on.

    Parameters
    ----------
    threshold : float
        Share of the maximum, in [0, 1], from which on a place is hidden (gamma).
    drop_rate : float
        Probability, in [0, 1], of the drop mask.
    """

    def __init__(self, threshold: float, drop_rate: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.drop_rate = drop_rate

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) features to features of the same shape."""
        if not self.training:
            return features
        attention = features.mean(dim=1, keepdim=True)
        if torch.rand(()) < self.drop_rate:
            peaks = attention.amax(dim=(2, 3), keepdim=True)
            return features * (attention < self.threshold * peaks).to(features.dtype)
        return features * attention.sigmoid()

    def extra_repr(self) -> str:
        """Show the settings where the network is printed."""
        return f"threshold={self.threshold}, drop_rate={self.drop_rate}"


def insert_adl(
    backbone: nn.Module, *, points: Sequence[str], threshold: float, drop_rate: float
) -> nn.ModuleList:
    """Let the output of some of a backbone's modules pass an attention-based dropout layer.

    The backbone's modules and the names of its parameters stay as they are, so that any
    weights still fit.

    Parameters
    ----------
    backbone : nn.Module
        Changed in place.
    points : sequence of str
        Names of modules whose output is one (N, C, h, w) tensor.
    threshold, drop_rate : float
        As in :class:`AttentionDropout`.

    Returns
    -------
    nn.ModuleList
        The layers. They switch with the network they are made part of: training or evaluation.

    Raises
    ------
    UserError
        If the backbone lacks a module.
    """
    layers = nn.ModuleList()
    for point in points:
        layer = AttentionDropout(threshold, drop_rate)
        find_module(backbone, point).register_forward_hook(partial(_pass_on, layer))
        layers.append(layer)
    return layers


def _pass_on(layer: nn.Module, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    dropped: Tensor = layer(output)
    return dropped
