"""Features of inner layers of a frozen backbone, on a grid of an image's cells."""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.io.arrays import read_network
from pipeline.io.images import FILTER
from pipeline.models.backbone import find_module, kept_stages, normalization
from pipeline.models.boundary import STRIDE, load_features
from pipeline.models.cell_centers import CellCenters
from pipeline.models.grid import as_map
from pipeline.models.resampling import resampling_weights
from pipeline.models.views import Views

#: Channels that are resampled at a time, so that they stay in the cache of a CPU.
CHANNELS = 16
#: Height and width of the image for checking the layers; no timm network needs a larger one. They
#: differ by half, which tells a map from an output with other axes, such as an attention's heads.
PROBE = (256, 384)
#: Fewest rows of a feature map of that image. A pooled output has one.
LEAST = 4


class _CompleteError(Exception):
    """All wanted layers have been applied."""


class LayerFeatures(nn.Module):
    """The features of several layers of a frozen backbone.

    Parameters
    ----------
    backbone : nn.Module
        A timm network. It is frozen and stays in evaluation mode.
    layers : sequence of str, optional
        Dotted names of modules. By default :func:`default_layers`.
    interpolation : {"bilinear", "bicubic"}
        Filter that images are resized with.

    Raises
    ------
    UserError
        If a layer is unknown or has no feature map.
    """

    def __init__(
        self, backbone: Any, layers: Sequence[str] | None = None, *, interpolation: str = FILTER
    ) -> None:
        super().__init__()
        names = default_layers(backbone) if layers is None else layers
        for name in names:
            find_module(backbone, name)
        _check_outputs(backbone, names)
        self.backbone = backbone.requires_grad_(False).eval()
        self.layers = tuple(names)
        self.mean, self.std = normalization(backbone)
        self.interpolation = interpolation
        everything = CellCenters(backbone)
        self.centers = {name: everything.of_layer(name) for name in names}

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) normalized images to an (N, C, h, w) feature map of each layer.

        Layers after the last one of them are not applied.
        """
        outputs: dict[str, Tensor] = {}

        def keep(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
            # A later layer may change it in place.
            outputs[name] = as_map(self.backbone, output).clone()
            if len(outputs) == len(self.layers):
                raise _CompleteError

        hooks = [
            find_module(self.backbone, name).register_forward_hook(partial(keep, name))
            for name in self.layers
        ]
        try:
            self.backbone.forward_features(images)
        except _CompleteError:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return [outputs[name] for name in self.layers]


def default_layers(backbone: nn.Module) -> list[str]:
    """Return the layer whose features are used if the configuration names none.

    It is the last stage with cells of at most 4 pixels, the side of a cell of the maps: on
    photographs, coarser features do not follow the borders of objects. A network without such a
    stage, like a plain transformer, has its last layer.
    """
    stages = list(kept_stages(backbone).values())
    fine = [stage["module"] for stage in stages if stage["reduction"] <= STRIDE]
    return [fine[-1] if fine else stages[-1]["module"]]


def load_layer_features(
    classifier: Path, features: str, pretrained: Path | None, layers: Sequence[str] | None
) -> LayerFeatures:
    """Read the features of layers of a classifier's backbone, in evaluation mode.

    Parameters
    ----------
    classifier : Path
        The classifier's file.
    features, pretrained
        See :func:`pipeline.models.boundary.create_boundary_network`.
    layers : sequence of str, optional
        See :class:`LayerFeatures`.
    """
    backbone, _ = load_features(classifier, features, pretrained)
    description = read_network(classifier, ("interpolation",))[1]
    return LayerFeatures(backbone, layers, interpolation=description["interpolation"]).eval()


@torch.no_grad()
def image_features(
    model: LayerFeatures, image: NDArray[np.uint8], size: tuple[int, int], views: Views
) -> Iterator[Iterator[Tensor]]:
    """Compute the features of an image, resampled with their cells at their centers.

    Parameters
    ----------
    model : LayerFeatures
        In evaluation mode.
    image : (H, W, 3) uint8 array
    size : (int, int)
        Height h and width w of the result in cells, which are evenly distributed over the image.
    views : Views
        The image at one scale and, if wanted, its mirror image. The features of the mirror image
        are further features of the same cells.

    Yields
    ------
    iterator of (c, h, w) float32 tensor
        For each layer and view: its features in parts of at most 16 channels, on the model's
        device.
    """
    (scale,) = views.scales
    batch = views.batch(model, image, scale)
    sides = (batch.shape[2], batch.shape[3])
    pixels = (sides[0] / size[0], sides[1] / size[1])
    for name, found in zip(model.layers, model(batch), strict=True):
        shape = (found.shape[2], found.shape[3])
        weights = resampling_weights(size, pixels, shape, sides, model.centers[name])
        rows, *columns = (part.to(found.device) for part in weights)
        for features, across in zip(views.aligned(found), columns, strict=False):
            yield _resampled(features, rows, across)


def _resampled(features: Tensor, rows: Tensor, columns: Tensor) -> Iterator[Tensor]:
    """Yield (C, h, w) features on another grid in parts of few channels."""
    for part in torch.split(features, CHANNELS):
        yield rows @ part.float() @ columns.T


def _check_outputs(backbone: nn.Module, names: Sequence[str]) -> None:
    """Check that each layer is applied once to an image and returns a feature map."""
    model: Any = copy.deepcopy(backbone).to("meta").eval()
    outputs: dict[str, list[Any]] = {name: [] for name in names}

    def note(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs[name].append(as_map(model, output))

    for name in names:
        find_module(model, name).register_forward_hook(partial(note, name))
    with torch.no_grad():
        model.forward_features(torch.zeros(1, 3, *PROBE, device="meta"))
    stages = kept_stages(backbone).values()
    for name, found in outputs.items():
        if len(found) != 1:
            raise UserError(
                f"layer {name!r} is applied {len(found)} times to an image, expected a layer of "
                "the backbone that is applied once"
            )
        if not _is_map(found[0]):
            raise UserError(
                f"layer {name!r} returns no feature map, expected a stage or a block of the "
                f"backbone: {', '.join(stage['module'] for stage in stages)}"
            )


def _is_map(output: Any) -> bool:
    """Return whether an output for the image of :data:`PROBE` is an (N, C, h, w) feature map."""
    if not isinstance(output, Tensor) or output.dim() != 4:
        return False
    rows, columns = output.shape[2:]
    # Sides may be rounded up or down.
    return rows >= LEAST and abs(2 * columns - 3 * rows) <= 3
