"""Features of several layers of a backbone, concatenated."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.models.grid import as_map

#: Side of the image for measuring the layers' outputs; no timm network needs a larger one.
PROBE = 256


class Inner(NamedTuple):
    """A layer whose output is concatenated with the last features of its backbone.

    Attributes
    ----------
    name : str
    channels : int
    ratio : int
        Cells of its output for each cell of the last features, along one side.
    """

    name: str
    channels: int
    ratio: int


def measure_layers(backbone: nn.Module, names: Sequence[str]) -> list[Inner]:
    """Measure the outputs of all layers of a list, except the last one.

    Parameters
    ----------
    backbone : nn.Module
        A timm network with all its layers. It does not change, and nothing is computed with it.
    names : sequence of str
        Dotted names of modules, in the order in which the network applies them.

    Raises
    ------
    UserError
        If the list is empty, has a name twice, or is in another order, or if a layer is unknown,
        is not applied exactly once, has no (N, C, h, w) output, has no whole number of cells for
        each cell of the last one, or has an output that a later layer changes in place.
    """
    _check_names(backbone, names)
    model = copy.deepcopy(backbone).to("meta").eval()
    outputs: list[tuple[str, Any, int]] = []

    def note(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        features = as_map(model, output)
        outputs.append((name, features, features._version if isinstance(features, Tensor) else 0))

    for name in names:
        model.get_submodule(name).register_forward_hook(partial(note, name))
    with torch.no_grad():
        model.forward_features(torch.zeros(1, 3, PROBE, PROBE, device="meta"))  # type: ignore[operator]
    applied = [name for name, _, _ in outputs]
    if sorted(applied) != sorted(names):
        wrong = next(name for name in names if applied.count(name) != 1)
        raise UserError(
            f"last_layer lists {wrong!r}, which the backbone applies {applied.count(wrong)} times "
            "for an image, expected once"
        )
    if applied != list(names):
        raise UserError(
            f"last_layer is {list(names)}, expected the order in which the backbone applies the "
            f"layers: {applied}"
        )
    for name, output, version in outputs:
        if not isinstance(output, Tensor) or output.dim() != 4:
            raise UserError(
                f"last_layer lists {name!r}, whose output is not an (images, channels, height, "
                "width) tensor: expected a convolutional layer"
            )
        if output._version != version:
            raise UserError(
                f"last_layer lists {name!r}, whose output the next layer changes in place: "
                "expected the end of a block"
            )
    last = outputs[-1][1].shape[2]
    return [_inner(name, output, last, names[-1]) for name, output, _ in outputs[:-1]]


def concatenate_layers(backbone: Any, layers: Sequence[Inner]) -> None:
    """Concatenate the outputs of inner layers with the features of a backbone, in place.

    A finer output is averaged over the cells that lie in each cell of the last features.
    Parameters and modules keep their names.

    Parameters
    ----------
    backbone : nn.Module
        A timm network. Its ``num_features`` becomes the sum of all channels.
    layers : sequence of Inner
        In the order of the result, before the channels of the last features.
    """
    kind = type(backbone)
    # A class of the same name: counted operations are named after it.
    backbone.__class__ = type(kind.__name__, (_SideBySide, kind), {})
    backbone.inner_layers = tuple(layers)
    backbone.num_features += sum(layer.channels for layer in layers)


class _SideBySide:
    """Replace ``forward_features`` of a timm network, see :func:`concatenate_layers`."""

    inner_layers: tuple[Inner, ...]

    def forward_features(self: Any, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to the concatenated (N, ``num_features``, h, w) features."""
        outputs: dict[str, Tensor] = {}
        # The hooks are made for this pass. They run after all others of the same layer, such as
        # an attention-based dropout layer, and a copy of the network has none of the original's.
        hooks = [
            self.get_submodule(layer.name).register_forward_hook(
                partial(_keep, self, outputs, layer)
            )
            for layer in self.inner_layers
        ]
        try:
            features = super().forward_features(images)  # type: ignore[misc]
        finally:
            for hook in hooks:
                hook.remove()
        size = (features.shape[2], features.shape[3])
        inner = [_averaged(outputs[layer.name], layer.ratio, size) for layer in self.inner_layers]
        return torch.cat([*inner, features], dim=1)


def _check_names(backbone: nn.Module, names: Sequence[str]) -> None:
    modules = dict(backbone.named_modules())
    if not names:
        raise UserError("last_layer is an empty list, expected names of layers, or null")
    for name in names:
        if not name or name not in modules:
            tops = ", ".join(key for key in modules if key and "." not in key)
            raise UserError(
                f"last_layer lists {name!r}, expected a module of the backbone: {tops}, or a part "
                "of one, for example layer4.0"
            )
        if names.count(name) > 1:
            raise UserError(f"last_layer lists {name!r} {names.count(name)} times, expected once")


def _inner(name: str, output: Tensor, last: int, last_name: str) -> Inner:
    cells = output.shape[2]
    if cells % last:
        raise UserError(
            f"last_layer lists {name!r}, which has {cells} cells for an image of {PROBE} pixels, "
            f"expected a multiple of the {last} cells of {last_name}"
        )
    return Inner(name, output.shape[1], cells // last)


def _keep(
    backbone: nn.Module,
    outputs: dict[str, Tensor],
    layer: Inner,
    _module: nn.Module,
    _inputs: Any,
    output: Tensor,
) -> None:
    outputs[layer.name] = as_map(backbone, output)


def _averaged(features: Tensor, ratio: int, size: tuple[int, int]) -> Tensor:
    """Average (N, C, h, w) features over squares of cells; the last ones may be partial."""
    if ratio == 1:
        return features
    # Networks that round sizes down ignore the rest of the finer cells.
    inside = features[..., : size[0] * ratio, : size[1] * ratio]
    return F.avg_pool2d(inside, ratio, ceil_mode=True, count_include_pad=False)
