"""Where the cells of a network's feature map look: the pixels at their centers."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.models.grid import patch_side

#: Largest stride of a network. Padding depends on a side's remainder by it.
LARGEST_STRIDE = 32
#: Lengths, in pixels, of the images that centers are measured on: the next one if the borders reach
#: the middle, as in Inception, whose blocks contain average pooling. And their short side.
LENGTHS, SHORT = (6 * LARGEST_STRIDE, 30 * LARGEST_STRIDE), 2 * LARGEST_STRIDE
#: Change of the images' values: small, so that every network is linear in it.
EPSILON = 1e-4
#: Largest error of a cell's distance from its neighbors, in pixels.
TOLERANCE = 0.05
#: Channels that change by less than this share of the largest change are left out.
LEAST_GAIN = 1e-6
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Linear)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


class Centers(NamedTuple):
    """Positions of cells along one side: cell i is centered at pixel ``first + i * pitch``.

    Pixels are counted from 0, at their centers.
    """

    first: float
    pitch: float


class CellCenters:
    """The centers of the receptive fields of a feature map's cells.

    A cell lies where strides and padding put it. With the same padding on both sides, cell 0 of a
    network of stride s is centered at pixel 0. With padding as in TensorFlow ("same"), its
    center is at a pixel from 0 to s - 1, depending on the image's size. Bilinear resizing assumes
    (s - 1) / 2.

    The centers are measured on a copy of the network whose convolutions pass on only the center
    of their windows, so that a cell's output is the mean of few pixels around its center. From
    images with a small ramp of values, the output is the position of that center (Araujo, Norris
    and Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", define it). Where
    branches or channels have different centers, the result is their mean.

    The cells of transformers are patches (:class:`pipeline.models.grid.Grid`), and their centers
    are known.

    Parameters
    ----------
    backbone : nn.Module
        A timm network. It does not change.
    layer : str, optional
        Module whose output is the feature map. By default the last features.
    """

    def __init__(self, backbone: nn.Module, layer: str | None = None) -> None:
        self._patch = patch_side(backbone, layer)
        self._model = backbone if self._patch else _only_centers(backbone)
        self._layer = layer
        self._measured: dict[tuple[int, int], Centers] = {}

    def of_layer(self, layer: str) -> "CellCenters":
        """Return the centers of another layer, which share the copy of the network."""
        other = copy.copy(self)
        other._patch = patch_side(self._model, layer) if self._patch else None
        other._layer, other._measured = layer, {}
        return other

    def of_side(self, pixels: int, axis: int) -> Centers:
        """Return the centers of the cells along one side of an image.

        Parameters
        ----------
        pixels : int
            Length of the side.
        axis : {0, 1}
            0 for the height, 1 for the width.

        Raises
        ------
        UserError
            If the cells are not evenly spaced.
        """
        if self._patch:
            return Centers((self._patch - 1) / 2, self._patch)
        # Halving a side and rounding up gives even and odd numbers in an order that depends only
        # on the remainder, and so does the padding.
        key = (pixels % LARGEST_STRIDE, axis)
        if key not in self._measured:
            measured = (self._measure(length + key[0], axis) for length in LENGTHS)
            found = next((centers for centers in measured if centers is not None), None)
            if found is None:
                raise UserError(
                    f"align: the cells of {type(self._model).__name__} have no even distance: "
                    "expected a convolutional network, or align: false"
                )
            self._measured[key] = found
        return self._measured[key]

    @torch.no_grad()
    def _measure(self, side: int, axis: int) -> Centers | None:
        """Measure the centers on an image; None if cells in the middle have no even distance."""
        positions = torch.arange(side, dtype=torch.float64)
        shape = (3, side, SHORT) if axis == 0 else (3, SHORT, side)
        ramp = (positions / side - 0.5).view((1, -1, 1) if axis == 0 else (1, 1, -1)).expand(shape)
        flat = torch.ones(shape, dtype=torch.float64)
        images = torch.stack([flat + EPSILON * part for part in (ramp, -ramp, flat, -flat)])
        outputs = self._outputs(images)
        # Maximum pooling takes the largest value of a ramp: the mean with the opposite ramp is
        # the center.
        change, gain = outputs[0] - outputs[1], outputs[2] - outputs[3]
        seen = gain.abs() > gain.abs().amax() * LEAST_GAIN
        lines = torch.where(seen, change / gain, torch.nan).nanmean(dim=0).movedim(axis, 0)
        found = (lines[:, lines.shape[1] // 2] + 0.5) * side
        middle = len(found) // 2
        before, center, after = found[middle - 1 : middle + 2].tolist()
        pitch = (after - before) / 2
        if not abs(center - before - pitch) < TOLERANCE or not pitch > 0:
            return None
        return Centers(center - middle * pitch, pitch)

    def _outputs(self, images: Tensor) -> Tensor:
        """Return the feature maps of the network of centers."""
        features: Any = None

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            nonlocal features
            # Later layers may change it in place.
            features = output.clone() if isinstance(output, Tensor) else output

        if self._layer is None:
            features = self._model.forward_features(images)  # type: ignore[operator]
        else:
            hook = self._model.get_submodule(self._layer).register_forward_hook(keep)
            self._model.forward_features(images)  # type: ignore[operator]
            hook.remove()
        if not isinstance(features, Tensor) or features.dim() != 4:
            raise UserError(
                f"align: the output of {self._layer or 'the backbone'} is not an (images, "
                "channels, height, width) tensor: expected a convolutional layer"
            )
        return features


def _only_centers(backbone: nn.Module) -> nn.Module:
    """Return a copy whose convolutions average the channels at the center of their windows."""
    model = copy.deepcopy(backbone).cpu().eval().requires_grad_(False)
    for part in model.modules():
        if isinstance(part, CONVOLUTIONS):
            part.weight = nn.Parameter(_centered(part.weight), requires_grad=False)
            if part.bias is not None:
                part.bias.zero_()
            part.register_forward_hook(_scaled)
        elif isinstance(part, NORMS):
            part.register_forward_hook(_unchanged)
    return model.double()


def _centered(weight: Tensor) -> Tensor:
    """Return weights of 1 at the center of each window, or around it if its side is even."""
    window = torch.zeros(1, 1, *weight.shape[2:], dtype=torch.float64)
    for axis, side in enumerate(window.shape[2:], start=2):
        first = (side - 1) // 2
        window.narrow(axis, first, side // 2 + 1 - first).add_(1)
    window = (window == len(window.shape[2:])).double()
    return window.expand(weight.shape)


def _scaled(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Scale the output of a convolution to a maximum of 1; remove a global one's.

    Activations are then in their linear range. All images of the batch are scaled alike. A
    convolution of one cell weights channels by the mean of the whole image (squeeze and
    excitation), and has no position.
    """
    if inputs[0].dim() != 4 or inputs[0].shape[2:].numel() == 1:
        return torch.zeros_like(output)
    return output / output.amax()


def _unchanged(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
    return inputs[0]
