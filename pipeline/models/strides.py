"""Output strides for timm networks without such an argument: VGG and Inception v3.

Strides are replaced by dilation, as in timm's ResNets (Chen et al. 2018, "DeepLab: Semantic Image
Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs",
section 3.1). Parameters keep their names and their meaning: every second cell of a map without
the last stride equals the map with that stride.
"""

from itertools import accumulate
from typing import Any

import torch
from timm.models import is_model_in_modules
from timm.models.inception_v3 import InceptionB, InceptionC, InceptionD, InceptionE
from timm.models.vgg import VGG
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import UserError

#: Names of the layers in each branch of Inception's blocks, in the order of the output channels.
BRANCHES: dict[type[nn.Module], tuple[str, ...]] = {
    InceptionB: (
        "branch3x3",
        "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
        "maximum",
    ),
    InceptionC: (
        "branch1x1",
        "branch7x7_1 branch7x7_2 branch7x7_3",
        "branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5",
        "average branch_pool",
    ),
    InceptionD: (
        "branch3x3_1 branch3x3_2",
        "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
        "maximum",
    ),
    InceptionE: (
        "branch1x1",
        "branch3x3_1 branch3x3_2a",
        "branch3x3_1 branch3x3_2b",
        "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a",
        "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3b",
        "average branch_pool",
    ),
}

#: Blocks that halve the resolution, and the stride of their output.
REDUCTIONS = {"Mixed_6a": 16, "Mixed_7a": 32}


def lacks_stride(name: str) -> bool:
    """Return whether a timm model needs :func:`set_output_stride` to have an output stride."""
    return bool(is_model_in_modules(name, ["vgg", "inception_v3"]))


def set_output_stride(network: Any, output_stride: int) -> None:
    """Set the output stride of a VGG or an Inception v3 without classifier, in place.

    Afterwards ``forward_features`` maps (N, 3, H, W) to (N, ``num_features``, h, w), where h and
    w are H and W divided by the stride and rounded up. It uses all parameters of the network.

    Parameters
    ----------
    network : timm.models.vgg.VGG or timm.models.inception_v3.InceptionV3
        Created with ``num_classes=0``, with or without pretrained weights.
    output_stride : {8, 16, 32}
        Pixels per cell of the last feature map.

    Raises
    ------
    UserError
        If the stride is not one of these.
    """
    if output_stride not in (8, 16, 32):
        kind = type(network).__name__
        raise UserError(f"{kind} cannot have output_stride {output_stride}, expected 8, 16 or 32")
    if isinstance(network, VGG):
        _stride_vgg(network, output_stride)
    else:
        _stride_inception(network, output_stride)
    for info in network.feature_info:
        info["reduction"] = min(info["reduction"], output_stride)


def _stride_vgg(network: Any, output_stride: int) -> None:
    """Remove the last max pool for strides below 32, and the stride of the pool before it for 8.

    At stride 16, without the last pool, this is the VGG-GAP of Zhou et al. 2016 ("Learning Deep
    Features for Discriminative Localization") without its additional convolution.
    """
    # Remove the fully connected layers after the features, which hold most of the parameters.
    network.pre_logits = nn.Identity()
    network.head_hidden_size = network.num_features
    layers = network.features
    pools = [at for at, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    for at in pools:
        # Incomplete cells at the border count as cells, as in timm's ResNets.
        layers[at].ceil_mode = True
    if output_stride < 32:
        del layers[pools[-1]]
        network.feature_ends.pop()
        network.feature_info.pop()
    if output_stride < 16:
        layers[pools[-2]] = _DenseMaxPool()
        _dilate(layers[pools[-2] + 1 :], 2)


def _stride_inception(network: Any, output_stride: int) -> None:
    """Pad every layer by half its kernel, and replace strides beyond the output stride by dilation.

    Without padding, Mixed_6e has 12 x 12 cells for a 224 x 224 image, and cell i is centered at
    pixel 21 + 16 i. With padding it has 14 x 14 cells, and cell i is centered at pixel 16 i as in
    timm's ResNets. Pretrained weights stay valid except at the border, where the layers see zeros.
    """
    dilation = 1
    for name in network.layer_names:
        layer = getattr(network, name)
        if type(layer) in BRANCHES:
            layer = _Block(layer)
            setattr(network, name, layer)
        _dilate(layer, dilation)
        if REDUCTIONS.get(name, 0) > output_stride:
            # The stride is in the last layers of a block. The block itself therefore keeps the
            # current dilation, and the following blocks have twice as much.
            for part in layer.modules():
                if isinstance(part, nn.Conv2d):
                    part.stride = (1, 1)
                elif isinstance(part, nn.MaxPool2d):
                    part.stride = 1
            dilation *= 2


def _dilate(layers: nn.Module, dilation: int) -> None:
    """Set the dilation of convolutions and pools, and the padding that keeps the map size."""
    for part in layers.modules():
        if isinstance(part, nn.Conv2d):
            part.dilation = (dilation, dilation)
            part.padding = tuple(dilation * (size // 2) for size in part.kernel_size)
        elif isinstance(part, nn.MaxPool2d):
            # All max pools of Inception have 3 x 3 kernels.
            part.padding = 1
        elif isinstance(part, _SparsePool):
            part.dilation = dilation


def remove_dilation(network: nn.Module) -> None:
    """Remove the dilation that replaces strides, in place.

    The ResNets of IRN (Ahn, Cho and Kwak 2019) and Puzzle-CAM have a last stage of stride 1
    whose convolutions are not dilated. Each of them covers less of the image than in the
    pretraining.
    """
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and max(part.dilation) > 1:
            part.padding = tuple(size // 2 for size in part.kernel_size)
            part.dilation = (1, 1)


class _DenseMaxPool(nn.MaxPool2d):
    """VGG's 2 x 2 max pool with stride 1; every second value equals the strided pool."""

    def __init__(self) -> None:
        super().__init__(kernel_size=2, stride=1, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) features to maxima over each cell and its right and lower neighbors."""
        # Only the padding on the right and at the bottom is needed.
        padded: Tensor = super().forward(features)
        return padded[..., 1:, 1:]


class _SparsePool(nn.Module):
    """A pool with dilation.

    torch's average pool has no dilation, and its maximum pool does not support enough padding.

    Parameters
    ----------
    pool : nn.Module
        Pool without dilation. Its stride must be 1 if the dilation is not 1.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.dilation = 1

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) non-negative features to pooled features."""
        height, width = features.shape[-2:]
        # Cells that are one dilation apart become neighbors in a separate map. Zeros beyond the
        # border are part of the average, and they do not change a maximum.
        step = self.dilation
        whole = F.pad(features, (0, -width % step, 0, -height % step))
        pooled: Tensor = F.pixel_shuffle(self.pool(F.pixel_unshuffle(whole, step)), step)
        return pooled[..., :height, :width]


class _Block(nn.Module):
    """An Inception block with its pools as layers; in timm they are function calls."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, layer)
        # A sequence of layer names identifies an intermediate result, since branches may share
        # their first layers.
        self.branches = [
            list(accumulate((name,) for name in branch.split())) for branch in BRANCHES[type(block)]
        ]
        self.maximum = _SparsePool(nn.MaxPool2d(3, stride=2))
        self.average = _SparsePool(nn.AvgPool2d(3, stride=1, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) features to the concatenated channels of all branches."""
        done: dict[tuple[str, ...], Tensor] = {(): features}
        for steps in self.branches:
            for step in steps:
                if step not in done:
                    done[step] = self.get_submodule(step[-1])(done[step[:-1]])
        return torch.cat([done[steps[-1]] for steps in self.branches], dim=1)
