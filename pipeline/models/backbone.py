"""Backbones from timm, with pretrained weights by name or from a local file."""

from pathlib import Path
from typing import Any

import timm
from torch import nn

from pipeline.artifacts import read_weights
from pipeline.errors import UserError
from pipeline.models.strides import lacks_stride, set_output_stride

#: What timm raises when a network does not take an argument, or not its value.
REFUSALS = (TypeError, AssertionError, ValueError, NotImplementedError)


def create_backbone(name: str, *, pretrained: bool, output_stride: int) -> nn.Module:
    """Create a timm network without its classifier.

    Parameters
    ----------
    name : str
        A timm model name, for example ``"resnet50"``.
    pretrained : bool
        Load timm's own weights, which it downloads when they are not in its cache.
    output_stride : int
        Pixels per cell of the last feature map. VGG and Inception v3, which have no such
        argument in timm, get it from :func:`pipeline.models.strides.set_output_stride`.

    Returns
    -------
    nn.Module
        ``forward_features`` maps (N, 3, H, W) to (N, ``num_features``, H / stride, W / stride).

    Raises
    ------
    UserError
        If timm lacks the name, the network cannot have that stride, or the download fails.
    """
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:3]
        hint = f": did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"backbone is {name!r}, expected a model name of timm{hint}")
    if not lacks_stride(name):
        return _create(name, pretrained, output_stride)
    backbone = _create(name, pretrained, None)
    set_output_stride(backbone, output_stride)
    return backbone


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load a timm state dict from a local file into a backbone, in place.

    Parameters
    ----------
    backbone : nn.Module
        A timm network, or a part of one whose parameters have the same names.
    path : Path
        A safetensors file. Tensors that the backbone lacks (its classifier) are left out.

    Raises
    ------
    UserError
        If a tensor that the backbone needs is absent or has another shape.
    """
    tensors, _ = read_weights(path)
    wanted = backbone.state_dict()
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    lacking = [key for key in wanted if key not in tensors and key not in counters]
    if lacking:
        raise UserError(
            f"{path}: lacks {len(lacking)} of the backbone's {len(wanted)} tensors, first "
            f"{lacking[0]!r}, and holds {next(iter(tensors), 'nothing')!r}: expected timm's naming"
        )
    for key in wanted.keys() - counters:
        if tensors[key].shape != wanted[key].shape:
            got, expected = tuple(tensors[key].shape), tuple(wanted[key].shape)
            raise UserError(f"{path}: {key} is {got}, expected {expected}: another network's file?")
    backbone.load_state_dict(wanted | {key: tensors[key] for key in wanted if key in tensors})


def normalisation(backbone: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give the RGB mean and deviation, of images in [0, 1], that a timm network expects."""
    settings = backbone.pretrained_cfg
    return tuple(settings["mean"]), tuple(settings["std"])


def freeze_batch_norm(model: nn.Module, head: nn.Module) -> None:
    """Keep batch norm at its running statistics and affine parameters, in place.

    Layers of the head are left alone: they have no pretrained statistics to keep. Call it
    after every ``model.train()``.
    """
    in_head = set(head.modules())
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part not in in_head:
            part.eval()
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)


def find_module(backbone: nn.Module, name: str) -> nn.Module:
    """Find a module of a backbone by its dotted name.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    modules: dict[str, nn.Module] = dict(backbone.named_modules())
    if not name or name not in modules:
        tops = ", ".join(key for key in modules if key and "." not in key)
        raise UserError(
            f"layer is {name!r}, expected a module of the backbone: {tops}, or a part of one, "
            "for example layer4.0"
        )
    return modules[name]


def _create(name: str, pretrained: bool, stride: int | None) -> nn.Module:
    try:
        # An argument that is None does not reach the network.
        backbone: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=0, global_pool="", output_stride=stride
        )
    except Exception as error:
        if pretrained:
            # Weights are loaded last: a network that cannot be made without them says so itself.
            _create(name, False, stride)
            raise UserError(
                f"backbone {name}: its pretrained weights cannot be downloaded ({error}): give a "
                f"local file as `weights: {{{name}: FILE.safetensors}}`, or set `pretrained: false`"
            ) from error
        if stride is None or not isinstance(error, REFUSALS):
            raise
        reason = f" ({error})" if str(error) else ""
        raise UserError(
            f"backbone {name} cannot have output_stride {stride}{reason}: "
            "expected a network that can, for example resnet50 or vgg16"
        ) from error
    return backbone
