"""An output stride for networks of timm that have none: VGG and Inception v3.

Strides become dilation, as in timm's ResNets (Chen et al. 2018, "DeepLab: Semantic Image
Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs",
section 3.1). Parameters keep their names and their meaning: of a map whose last stride was taken
out, every second cell is the map with that stride.
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

#: Branches of Inception's blocks by the names of their layers, in the order of their channels.
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

#: Blocks that halve the resolution, and the output stride that each gives.
REDUCTIONS = {"Mixed_6a": 16, "Mixed_7a": 32}


def lacks_stride(name: str) -> bool:
    """Tell whether a timm model has no output stride but :func:`set_output_stride` gives it one."""
    return bool(is_model_in_modules(name, ["vgg", "inception_v3"]))


def set_output_stride(network: Any, output_stride: int) -> None:
    """Change a VGG or an Inception v3 without classifier to an output stride, in place.

    Afterwards ``forward_features`` maps (N, 3, H, W) to (N, ``num_features``, h, w), with h and
    w being H and W over the stride, rounded up, and all parameters have a part in it.

    Parameters
    ----------
    network : timm.models.vgg.VGG or timm.models.inception_v3.InceptionV3
        Made with ``num_classes=0``, with or without pretrained weights.
    output_stride : {8, 16, 32}
        Pixels per cell of the last feature map.

    Raises
    ------
    UserError
        For another stride.
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
    """Take out the last max pool below stride 32, and the stride of the one before at stride 8.

    Without the last pool, at stride 16, it is the VGG-GAP of Zhou et al. 2016 ("Learning Deep
    Features for Discriminative Localization") but for the convolution added there.
    """
    # The fully connected layers, most of the parameters, come after the features.
    network.pre_logits = nn.Identity()
    network.head_hidden_size = network.num_features
    layers = network.features
    pools = [at for at, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    for at in pools:
        # A border that does not fill a cell has a cell too, as in timm's ResNets.
        layers[at].ceil_mode = True
    if output_stride < 32:
        del layers[pools[-1]]
        network.feature_ends.pop()
        network.feature_info.pop()
    if output_stride < 16:
        layers[pools[-2]] = _DenseMaxPool()
        _dilate(layers[pools[-2] + 1 :], 2)


def _stride_inception(network: Any, output_stride: int) -> None:
    """Pad every layer by half its kernel, and make strides beyond the output stride dilation.

    Without padding, Mixed_6e has 12 x 12 cells for a 224 x 224 image, cell i centered at pixel
    21 + 16 i; with it, 14 x 14, cell i centered at pixel 16 i as in timm's ResNets. Pretrained
    weights stay valid but for the border, where they see zeros in place of more image.
    """
    dilation = 1
    for name in network.layer_names:
        layer = getattr(network, name)
        if type(layer) in BRANCHES:
            layer = _Block(layer)
            setattr(network, name, layer)
        _dilate(layer, dilation)
        if REDUCTIONS.get(name, 0) > output_stride:
            # Strides are in the last layers of a block, so that the block itself has the
            # dilation so far, and those that follow twice as much.
            for part in layer.modules():
                if isinstance(part, nn.Conv2d):
                    part.stride = (1, 1)
                elif isinstance(part, nn.MaxPool2d):
                    part.stride = 1
            dilation *= 2


def _dilate(layers: nn.Module, dilation: int) -> None:
    """Set the dilation of convolutions and pools, and the padding that keeps the map's size."""
    for part in layers.modules():
        if isinstance(part, nn.Conv2d):
            part.dilation = (dilation, dilation)
            part.padding = tuple(dilation * (size // 2) for size in part.kernel_size)
        elif isinstance(part, nn.MaxPool2d):
            # Inception's are all of 3 x 3 values.
            part.padding = 1
        elif isinstance(part, _SparsePool):
            part.dilation = dilation


def remove_dilation(network: nn.Module) -> None:
    """Leave strides out without making up for them by dilation, in place.

    The ResNets of IRN (Ahn, Cho and Kwak 2019), and of Puzzle-CAM after it, have a last stage
    of stride 1 whose convolutions look at neighboring cells: less of the image each than in
    the pretraining.
    """
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and max(part.dilation) > 1:
            part.padding = tuple(size // 2 for size in part.kernel_size)
            part.dilation = (1, 1)


class _DenseMaxPool(nn.MaxPool2d):
    """VGG's max pool, of 2 x 2 values, at every place; every second one is the strided pool's."""

    def __init__(self) -> None:
        super().__init__(kernel_size=2, stride=1, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) features to maxima over a place, its right, lower and diagonal one."""
        # Of the padding only that at the right and at the bottom is wanted.
        padded: Tensor = super().forward(features)
        return padded[..., 1:, 1:]


class _SparsePool(nn.Module):
    """A pool with dilation, which torch's average lacks and its maximum cannot pad enough for.

    Parameters
    ----------
    pool : nn.Module
        Without dilation; its stride may be other than 1 as long as the dilation is 1.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.dilation = 1

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) features that are not below zero to pooled ones."""
        height, width = features.shape[-2:]
        # Places that lie a dilation apart become neighbors in a map of their own. Zeros beyond
        # the border are what the average counts there, and change no maximum.
        step = self.dilation
        whole = F.pad(features, (0, -width % step, 0, -height % step))
        pooled: Tensor = F.pixel_shuffle(self.pool(F.pixel_unshuffle(whole, step)), step)
        return pooled[..., :height, :width]


class _Block(nn.Module):
    """An Inception block whose pools, which timm calls as functions, are layers as well."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, layer)
        # The names of a branch's layers so far identify its state: branches may share a start.
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
