"""The boundary network of IRN (Ahn, Cho and Kwak 2019): frozen features, one edge map."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.artifacts import read_network, write_weights
from pipeline.device import channels_last
from pipeline.images import fitted_size, normalise, resize, strided_size
from pipeline.models.backbone import create_backbone, initialise_backbone, normalisation, restore
from pipeline.models.classifier import load_classifier

#: Pixels per cell of the edge map.
STRIDE = 4
CHANNELS = 32
#: Settings of a classifier that rebuild its backbone.
SHAPE = ("backbone", "output_stride", "dilation", "last_layer")
GROUPS = 4


class AffinityNetwork(nn.Module):
    """Edges between things from the features of every stage of a frozen backbone.

    IRN, section 4.2, figure 4: features of each stage pass a 1x1 convolution, group norm and
    ReLU, are brought to stride 4 and together give one edge map.

    Parameters
    ----------
    backbone : nn.Module
        A timm network; it is frozen, and stays in evaluation mode.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.mean, self.std = normalisation(backbone)
        stages = [stage["num_chs"] for stage in backbone.feature_info]
        self.branches = nn.ModuleList(_branch(channels) for channels in stages)
        self.edge = nn.Conv2d(CHANNELS * len(stages), 1, 1)

    @property
    def head(self) -> nn.ModuleList:
        """The part that learns."""
        return nn.ModuleList([self.branches, self.edge])

    def train(self, mode: bool = True) -> "AffinityNetwork":
        """Switch the mode of all but the backbone."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) normalised images to (N, ceil(H / 4), ceil(W / 4)) edges in [0, 1]."""
        size = strided_size((images.shape[2], images.shape[3]), STRIDE)
        with torch.no_grad():
            stages = self.backbone.forward_intermediates(
                images, intermediates_only=True, stop_early=True
            )
        aligned = [
            F.interpolate(branch(stage), size, mode="bilinear", align_corners=False)
            for branch, stage in zip(self.branches, stages, strict=True)
        ]
        logits: Tensor = self.edge(torch.cat(aligned, dim=1))
        return logits[:, 0].float().sigmoid()


def _branch(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, CHANNELS, 1, bias=False), nn.GroupNorm(GROUPS, CHANNELS), nn.ReLU()
    )


def create_affinity_network(
    classifier: Path, features: str, weights: Path | None = None
) -> tuple[AffinityNetwork, dict[str, Any]]:
    """Create the network on a classifier's kind of backbone.

    Parameters
    ----------
    classifier : Path
        The classifier's file.
    features : {"classifier", "pretrained"}
        Keep the backbone as the classifier's training left it, or take the weights that
        this training started from, as the papers do.
    weights : Path, optional
        Pretrained backbone, needed for ``"pretrained"`` features.

    Returns
    -------
    network : AffinityNetwork
    description : dict
        What rebuilds it.
    """
    description = read_network(classifier, SHAPE)[1]
    shape = {key: description[key] for key in SHAPE}
    if features == "classifier":
        return AffinityNetwork(load_classifier(classifier).backbone), shape
    backbone = _backbone(shape)
    initialise_backbone(backbone, weights, pretrained=True)
    return AffinityNetwork(backbone), shape


def save_affinity_network(
    path: Path, state: Mapping[str, Tensor], description: Mapping[str, Any]
) -> None:
    """Write a network's state with what rebuilds it."""
    write_weights(path, state, description)


def load_affinity_network(path: Path) -> AffinityNetwork:
    """Rebuild the network that :func:`save_affinity_network` wrote, in evaluation mode."""
    state, description = read_network(path, SHAPE)
    model = AffinityNetwork(_backbone(description))
    restore(model, state, path)
    return model.eval()


@torch.no_grad()
def edge_map(
    model: AffinityNetwork,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    *,
    flip: bool,
    max_size: int | None,
) -> Tensor:
    """Give the edges that an affinity network sees.

    Parameters
    ----------
    model : AffinityNetwork
        In evaluation mode.
    image : (H, W, 3) uint8 array
    size : (int, int)
        Height h and width w of the result.
    flip : bool
        Average with the mirrored image's edges.
    max_size : int or None
        Long side that larger images are shrunk to.

    Returns
    -------
    (h, w) float32 tensor
        In [0, 1], on the model's device.
    """
    device = next(model.parameters()).device
    fitted = resize(image, fitted_size((image.shape[0], image.shape[1]), max_size))
    batch = torch.from_numpy(normalise(fitted, model.mean, model.std))[None].to(device)
    if flip:
        batch = torch.cat([batch, batch.flip(3)])
    edges = model(channels_last(batch))
    if flip:
        edges = (edges[:1] + edges[1:].flip(2)) / 2
    return F.interpolate(edges[None], size, mode="bilinear", align_corners=False)[0, 0]


def _backbone(description: Mapping[str, Any]) -> nn.Module:
    return create_backbone(
        description["backbone"],
        output_stride=description["output_stride"],
        dilation=description["dilation"],
        last_layer=description["last_layer"],
    )
