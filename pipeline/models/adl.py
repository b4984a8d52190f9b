"""The attention-based dropout layer (ADL; Choe and Shim 2019)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.backbone import find_module
from pipeline.models.grid import change_map


class AttentionDropout(nn.Module):
    """Hide the most discriminative region of a feature map, or weight the map by its importance.

    Choe and Shim 2019, "Attention-based Dropout Layer for Weakly Supervised Object
    Localization", section 3. The attention is the mean over the channels, and the importance map
    is its sigmoid. The drop mask is 0 where the attention reaches a share of the maximum of the
    image. One of the two is drawn for the whole batch and multiplied with the features. The
    layer has no parameters. In evaluation mode it returns its input.

    Parameters
    ----------
    threshold : float
        Share of the maximum, in [0, 1], from which a position is hidden (gamma).
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
        """Return the settings, which are shown when the network is printed."""
        return f"threshold={self.threshold}, drop_rate={self.drop_rate}"


def insert_adl(
    backbone: nn.Module, *, points: Sequence[str], threshold: float, drop_rate: float
) -> nn.ModuleList:
    """Insert an attention-based dropout layer after some modules of a backbone.

    Modules and parameter names of the backbone do not change, so that all weights still fit.

    Parameters
    ----------
    backbone : nn.Module
        Changed in place.
    points : sequence of str
        Names of modules whose output is a feature map, or tokens.
    threshold, drop_rate : float
        See :class:`AttentionDropout`.

    Returns
    -------
    nn.ModuleList
        The layers. They switch between training and evaluation with the network that owns them.

    Raises
    ------
    UserError
        If the backbone does not have one of the modules.
    """
    layers = nn.ModuleList()
    for point in points:
        layer = AttentionDropout(threshold, drop_rate)
        find_module(backbone, point).register_forward_hook(partial(_apply, layer, backbone))
        layers.append(layer)
    return layers


def _apply(
    layer: nn.Module, backbone: nn.Module, _module: nn.Module, _inputs: Any, output: Tensor
) -> Tensor:
    """Apply a dropout layer to the feature map in the output of a module, as a forward hook."""
    return change_map(backbone, output, layer)
