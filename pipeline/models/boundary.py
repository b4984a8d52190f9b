"""The boundary network of IRN (Ahn, Cho and Kwak 2019): frozen features, one boundary map."""

from collections.abc import Mapping
from math import lcm
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.io.arrays import read_network, write_weights
from pipeline.io.images import FILTER, at_least, strided_size
from pipeline.models.backbone import (
    create_backbone,
    initialize_backbone,
    kept_stages,
    normalization,
    restore,
)
from pipeline.models.classifier import load_classifier
from pipeline.models.grid import own_multiple
from pipeline.models.views import Views
from pipeline.runtime.device import channels_last

#: Pixels per cell of the boundary map.
STRIDE = 4
CHANNELS = 32
#: Settings of a classifier that its backbone is rebuilt from.
SHAPE = ("backbone", "output_stride", "dilation", "last_layer")
#: Settings of the training images: side of a crop and the resizing filter.
TRAINING_IMAGES = ("crop", "interpolation")
CROP = 512
GROUPS = 4


class BoundaryNetwork(nn.Module):
    """Boundaries between regions, from the features of all stages of a frozen backbone.

    IRN, section 4.2, figure 4. The features of each stage pass a 1x1 convolution, group norm and
    ReLU at stride 4. A last convolution makes one boundary map of all of them. Finer stages are
    max-pooled to stride 4 before their convolution. Coarser stages are upsampled between group
    norm and ReLU, so that a cell has the same position in every image. Of a plain transformer, the
    features after each quarter of the blocks take the place of stages.

    Parameters
    ----------
    backbone : nn.Module
        A timm network. It is frozen and stays in evaluation mode.
    crop : int
        Side of the training crops. :func:`boundary_map` pads smaller images to it.
    interpolation : {"bilinear", "bicubic"}
        Filter that images are resized with, in training and inference.
    """

    def __init__(self, backbone: Any, *, crop: int = CROP, interpolation: str = FILTER) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.mean, self.std = normalization(backbone)
        self.crop, self.interpolation = crop, interpolation
        stages = kept_stages(backbone)
        self.stages = list(stages)
        self.strides = [int(stage["reduction"]) for stage in stages.values()]
        # Upsampling by a factor that is not whole, for patches of 14 pixels, has to end at a cell.
        self.multiple = lcm(STRIDE, own_multiple(backbone), *self.strides)
        self.branches = nn.ModuleList(_branch(stage["num_chs"]) for stage in stages.values())
        self.edge = nn.Conv2d(CHANNELS * len(stages), 1, 1)

    @property
    def head(self) -> nn.ModuleList:
        """The trainable part."""
        return nn.ModuleList([self.branches, self.edge])

    def train(self, mode: bool = True) -> "BoundaryNetwork":
        """Set the mode of all parts except the backbone."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor, *, logits: bool = False) -> Tensor:
        """Map (N, 3, H, W) normalized images to (N, ceil(H / 4), ceil(W / 4)) boundary maps.

        Values are in [0, 1]. With ``logits`` they are the values before the sigmoid.
        """
        height, width = strided_size((images.shape[2], images.shape[3]), STRIDE)
        with torch.no_grad():
            stages = self.backbone.forward_intermediates(
                _padded(images, self.multiple),
                indices=self.stages,
                intermediates_only=True,
                stop_early=True,
            )
        aligned = [
            _at_stride(branch, stage, stride)[..., :height, :width]
            for branch, stage, stride in zip(self.branches, stages, self.strides, strict=True)
        ]
        values: Tensor = self.edge(torch.cat(aligned, dim=1))[:, 0].float()
        return values if logits else values.sigmoid()


def _at_stride(branch: nn.Module, features: Tensor, stride: int) -> Tensor:
    """Apply a branch to (N, C, h, w) features, and return its output at a stride of 4."""
    project, norm, activate = branch.children()
    while stride < STRIDE:
        features = F.max_pool2d(features, kernel_size=3, stride=2, padding=1)
        stride *= 2
    values: Tensor = norm(project(features))
    if stride > STRIDE:
        factor = stride / STRIDE
        values = F.interpolate(values, scale_factor=factor, mode="bilinear", align_corners=False)
    return cast(Tensor, activate(values))


def _padded(images: Tensor, multiple: int, least: int = 0) -> Tensor:
    """Pad images on the right and bottom with zero (the mean color) to a multiple and a size."""
    height, width = images.shape[2:]
    rows, columns = (-(-side // multiple) * multiple for side in at_least((height, width), least))
    return F.pad(images, (0, columns - width, 0, rows - height))


def _branch(channels: int) -> nn.Module:
    """Create the layers of one stage."""
    return nn.Sequential(
        nn.Conv2d(channels, CHANNELS, 1, bias=False), nn.GroupNorm(GROUPS, CHANNELS), nn.ReLU()
    )


def create_boundary_network(
    classifier: Path,
    features: str,
    weights: Path | None = None,
    *,
    crop: int = CROP,
    interpolation: str = FILTER,
) -> tuple[BoundaryNetwork, dict[str, Any]]:
    """Create the boundary network on the backbone of a classifier.

    Parameters
    ----------
    classifier : Path
        The classifier's file.
    features : {"classifier", "pretrained"}
        Use the trained backbone of the classifier, or the pretrained weights that its training
        started from. The papers use pretrained features.
    weights : Path, optional
        Pretrained backbone, needed for ``"pretrained"`` features.
    crop, interpolation
        See :class:`BoundaryNetwork`.

    Returns
    -------
    network : BoundaryNetwork
    description : dict
        Settings that the network is rebuilt from.
    """
    backbone, shape = load_features(classifier, features, weights)
    network = BoundaryNetwork(backbone, crop=crop, interpolation=interpolation)
    return network, shape | {"crop": crop, "interpolation": interpolation}


def load_features(
    classifier: Path, features: str, weights: Path | None
) -> tuple[nn.Module, dict[str, Any]]:
    """Create the backbone whose features affinities are computed from.

    Parameters
    ----------
    classifier, features, weights
        See :func:`create_boundary_network`.

    Returns
    -------
    backbone : nn.Module
    shape : dict
        Settings that the backbone is rebuilt from, :data:`SHAPE`.
    """
    description = read_network(classifier, SHAPE)[1]
    shape = {key: description[key] for key in SHAPE}
    if features == "classifier":
        return load_classifier(classifier).backbone, shape
    backbone = _backbone(shape)
    initialize_backbone(backbone, weights, pretrained=True)
    return backbone, shape


def save_boundary_network(
    path: Path, state: Mapping[str, Tensor], description: Mapping[str, Any]
) -> None:
    """Write the state of a boundary network and the settings that it is rebuilt from."""
    write_weights(path, state, description)


def load_boundary_network(path: Path) -> BoundaryNetwork:
    """Read a network that :func:`save_boundary_network` wrote, in evaluation mode."""
    state, description = read_network(path, (*SHAPE, *TRAINING_IMAGES))
    model = BoundaryNetwork(
        _backbone(description),
        crop=description["crop"],
        interpolation=description["interpolation"],
    )
    restore(model, state, path)
    return model.eval()


@torch.no_grad()
def boundary_map(
    model: BoundaryNetwork,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    views: Views,
) -> Tensor:
    """Compute the boundary map of an image.

    An image that is smaller than the training crop is padded to it, as in training, since group
    norm depends on the padding. A larger image is not cropped.

    Parameters
    ----------
    model : BoundaryNetwork
        In evaluation mode.
    image : (H, W, 3) uint8 array
    size : (int, int)
        Height h and width w of the result.
    views : Views
        The image at one scale and, if wanted, its mirror image: their logits are averaged.

    Returns
    -------
    (h, w) float32 tensor
        Boundary map in [0, 1], on the model's device.
    """
    (scale,) = views.scales
    batch = views.batch(model, image, scale)
    height, width = strided_size((batch.shape[2], batch.shape[3]), STRIDE)
    padded = _padded(batch, 1, least=model.crop)
    logits = views.aligned(model(channels_last(padded), logits=True)[:, :height, :width])
    boundaries = logits.mean(dim=0, keepdim=True).sigmoid()
    return F.interpolate(boundaries[None], size, mode="bilinear", align_corners=False)[0, 0]


def _backbone(description: Mapping[str, Any]) -> nn.Module:
    """Create the backbone that a description contains, with random weights."""
    return create_backbone(
        description["backbone"],
        output_stride=description["output_stride"],
        dilation=description["dilation"],
        last_layer=description["last_layer"],
    )
