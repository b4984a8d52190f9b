"""Feature maps of timm networks that have only one stride: transformers and others.

Transformers return tokens, or maps whose last axis is the
channels, and many accept only images of whole patches or windows.
"""

import copy
from collections.abc import Callable
from functools import cache
from math import isqrt
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import UserError

#: Arguments by which families of timm accept images of any size. timm raises TypeError for an
#: unknown one.
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
#: Exceptions that timm raises when a network does not accept an argument or its value.
REFUSALS = (TypeError, AssertionError, ValueError, NotImplementedError)
#: Exceptions of a network that does not accept an image.
IMAGE_REFUSALS = (*REFUSALS, RuntimeError)
#: Side of the image that shapes are measured on, for a network without a default.
SIDE = 224


class Grid(NamedTuple):
    """How a timm network divides images into cells.

    Attributes
    ----------
    arguments : dict
        Arguments of timm by which the network accepts images of any size, and returns features
        without pooling.
    stride : int
        Pixels per cell along one side.
    multiple : int
        Sides of images are padded to a multiple of this.
    reductions : tuple of int
        Strides of all stages, or of all blocks of a plain transformer.
    channels : int
        Channels of the features.
    unused : tuple of str
        Parameters that the features do not depend on.
    patches : bool
        Whether cell i has the pixels from i * stride to (i + 1) * stride, as in transformers.
        Otherwise its center depends on the padding of convolutions.
    """

    arguments: dict[str, Any]
    stride: int
    multiple: int
    reductions: tuple[int, ...]
    channels: int
    unused: tuple[str, ...]
    patches: bool


class Seen(NamedTuple):
    """Height and width of the images of a forward pass, without and with padding."""

    image: tuple[int, int]
    padded: tuple[int, int]


def create_on_grid(name: str) -> nn.Module:
    """Create a timm network with its own stride for images of any size, with random weights.

    Images are padded on the right and at the bottom with zero (the mean color). Cells without any
    pixel of the image are removed.

    Parameters
    ----------
    name : str
        A timm model name.

    Returns
    -------
    nn.Module
        ``forward_features`` maps (N, 3, H, W) to (N, ``num_features``, ceil(H / stride),
        ceil(W / stride)). The attribute ``grid`` is a :class:`Grid`.

    Raises
    ------
    UserError
        If the network accepts only images of one size.
    """
    grid = find_grid(name)
    backbone: Any = timm.create_model(name, num_classes=0, **grid.arguments)
    kind = type(backbone)
    # A class of the same name: counted operations are named after it.
    backbone.__class__ = type(kind.__name__, (_OnGrid, kind), {})
    backbone.grid, backbone.num_features = grid, grid.channels
    # With several processes, training would wait for their gradients.
    for parameter in grid.unused:
        backbone.get_parameter(parameter).requires_grad_(False)
    return backbone  # type: ignore[no-any-return]


@cache
def find_grid(name: str) -> Grid:
    """Measure how a timm network divides images, on the meta device: nothing is computed.

    Raises
    ------
    UserError
        If the network accepts only images of one size.
    """
    with torch.device("meta"):
        model, arguments = _accepting_any_size(name)
        reductions = tuple(int(stage["reduction"]) for stage in model.feature_info)
        stride = reductions[-1]
        side = int((model.pretrained_cfg.get("input_size") or (SIDE,))[-1])
        # Larger than the default image, since a network of one size accepts that one.
        images = torch.zeros(1, 3, side * 3 // 2 + 3, 2 * side + 5)
        for multiple in (1, stride, side):
            padded = _padded(images, multiple)
            output = _attempt(model, padded)
            # Tokens of partial patches cannot be assigned to rows.
            if output is None or (output.dim() == 3 and multiple == 1):
                continue
            size = _map_size(model, output, _sides(padded))
            if size == tuple(-(-length // stride) for length in _sides(padded)):
                patches = output.dim() == 3 or _channels_last(model) or _attends(model)
                channels = _placed(model, output, size).shape[1]
                unused = _unused(model, padded)
                return Grid(arguments, stride, multiple, reductions, channels, unused, patches)
    raise UserError(
        f"backbone {name} accepts only images of {side} x {side} pixels, expected a network for "
        "images of any size, for example vit_tiny_patch16_224 or swin_tiny_patch4_window7_224"
    )


def as_map(backbone: nn.Module, output: Any) -> Any:
    """Return the output of a module, during or after a forward pass, as a feature map.

    Parameters
    ----------
    backbone : nn.Module
        The network.
    output : object
        Output of one of its modules.

    Returns
    -------
    (N, C, h, w) tensor or object
        For a network from :func:`create_on_grid`: the map of the patch tokens (without class and
        register tokens), or of an output whose last axis is the channels, in both cases without
        cells of padding. For other networks and for outputs of other shapes: the output itself.
    """
    if not isinstance(backbone, _OnGrid) or not isinstance(output, Tensor):
        return output
    image, padded = backbone.seen
    size = _map_size(backbone, output, padded)
    if size is None:
        return output
    rows, columns = (-(-image[axis] * size[axis] // padded[axis]) for axis in (0, 1))
    return _placed(backbone, output, size)[..., :rows, :columns]


def change_map(backbone: nn.Module, output: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the feature map in the output of a module, but not its class and register tokens.

    Parameters
    ----------
    backbone : nn.Module
        The network.
    output : tensor
        Output of one of its modules.
    change : callable
        Maps (N, C, h, w) features to features of the same shape.

    Returns
    -------
    tensor
        Of the same shape as ``output``.
    """
    size = None
    if isinstance(backbone, _OnGrid):
        size = _map_size(backbone, output, backbone.seen.padded)
    if size is None:
        return change(output)
    changed = change(_placed(backbone, output, size))
    if output.dim() == 4:
        return changed.movedim(1, -1) if _channels_last(backbone) else changed
    prefix = output.shape[1] - size[0] * size[1]
    return torch.cat([output[:, :prefix], changed.flatten(2).movedim(1, 2)], dim=1)


def own_stride(backbone: nn.Module) -> int | None:
    """Return the stride of a network from :func:`create_on_grid`, and None for all others."""
    return backbone.grid.stride if isinstance(backbone, _OnGrid) else None


def own_multiple(backbone: nn.Module) -> int:
    """Return the number of pixels that sides of images have to be a multiple of."""
    return backbone.grid.multiple if isinstance(backbone, _OnGrid) else 1


def has_patches(backbone: nn.Module) -> bool:
    """Return whether the cells of a network are patches (:class:`Grid`)."""
    return isinstance(backbone, _OnGrid) and backbone.grid.patches


def patch_side(backbone: nn.Module, layer: str | None = None) -> float | None:
    """Return the side of the patches of a layer in pixels; None if its cells are not patches.

    Parameters
    ----------
    backbone : nn.Module
        It does not change, and nothing is computed.
    layer : str, optional
        Dotted name of a module. By default the features.

    Raises
    ------
    UserError
        If the output of the layer is no feature map.
    """
    if not has_patches(backbone):
        return None
    if layer is None:
        return own_stride(backbone)
    model: Any = copy.deepcopy(backbone).to("meta").eval()
    sides: list[float] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        padded = model.seen.padded
        size = _map_size(model, output, padded) if isinstance(output, Tensor) else None
        sides.extend([padded[0] / size[0]] if size else [])

    model.get_submodule(layer).register_forward_hook(note)
    with torch.no_grad():
        model.forward_features(torch.zeros(1, 3, SIDE, SIDE, device="meta"))
    if not sides:
        raise UserError(f"align: the output of {layer} is not a feature map")
    return sides[-1]


class _OnGrid(nn.Module):
    """Replace ``forward_features`` of a timm network, see :func:`create_on_grid`."""

    grid: Grid
    #: Of the last forward pass.
    seen: Seen

    def forward_features(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to (N, ``num_features``, h, w) features."""
        padded = _padded(images, self.grid.multiple)
        self.seen = Seen(_sides(images), _sides(padded))
        features: Tensor = as_map(self, super().forward_features(padded))  # type: ignore[misc]
        return features


def _accepting_any_size(name: str) -> tuple[Any, dict[str, Any]]:
    """Create a network that accepts images of any size if it can, and return its arguments."""
    for arguments in ANY_SIZE:
        try:
            whole = timm.create_model(name, num_classes=0, **arguments)
        except TypeError:
            continue
        break
    try:
        model = timm.create_model(name, num_classes=0, global_pool="", **arguments)
    except IMAGE_REFUSALS:
        return whole.eval(), arguments
    # Without pooling, some networks normalize the features by a layer that the weights lack.
    if model.state_dict().keys() <= whole.state_dict().keys():
        return model.eval(), arguments | {"global_pool": ""}
    return whole.eval(), arguments


@torch.no_grad()
def _attempt(model: Any, images: Tensor) -> Tensor | None:
    """Return the features of images; None if the network does not accept them."""
    try:
        output = model.forward_features(images)
    except IMAGE_REFUSALS:
        return None
    return output if isinstance(output, Tensor) and output.dim() in (3, 4) else None


@torch.enable_grad()
def _unused(model: Any, images: Tensor) -> tuple[str, ...]:
    """Return the names of the parameters that features do not depend on."""
    model.forward_features(images).sum().backward()
    return tuple(name for name, value in model.named_parameters() if value.grad is None)


def _map_size(backbone: Any, output: Tensor, padded: tuple[int, int]) -> tuple[int, int] | None:
    """Return rows and columns of a module's output for images of a size; None without any."""
    if output.dim() == 4:
        rows, columns = output.shape[1:3] if _channels_last(backbone) else output.shape[2:]
        return int(rows), int(columns)
    if output.dim() != 3:
        return None
    height, width = padded
    for prefix in (getattr(backbone, "num_prefix_tokens", 0), 0):
        count = output.shape[1] - prefix
        rows = isqrt(count * height // width)
        if rows and rows * rows * width == count * height:
            return rows, count // rows
    return None


def _placed(backbone: nn.Module, output: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an output of a known number of rows and columns as an (N, C, h, w) map."""
    if output.dim() == 4:
        return output.movedim(-1, 1) if _channels_last(backbone) else output
    rows, columns = size
    tokens = output[:, output.shape[1] - rows * columns :]
    return tokens.movedim(1, 2).reshape(len(output), -1, rows, columns)


def _channels_last(backbone: Any) -> bool:
    return getattr(backbone, "output_fmt", "NCHW") == "NHWC"


def _attends(backbone: nn.Module) -> bool:
    return any("attn" in name for name, _ in backbone.named_modules())


def _padded(images: Tensor, multiple: int) -> Tensor:
    height, width = _sides(images)
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))


def _sides(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]
