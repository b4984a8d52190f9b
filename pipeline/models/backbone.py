"""Backbones from timm, with pretrained weights from a local file."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.models.state_dict import COUNTER, check_values, read_state_dict
from pipeline.models.strides import lacks_stride, remove_dilation, set_output_stride

#: What timm raises when a network does not take an argument, or not its value.
REFUSALS = (TypeError, AssertionError, ValueError, NotImplementedError)


def create_backbone(
    name: str, *, output_stride: int, dilation: bool = True, last_layer: str | None = None
) -> nn.Module:
    """Create a timm network without its classifier, with random weights.

    Parameters
    ----------
    name : str
        A timm model name, for example ``"resnet50"``.
    output_stride : int
        Pixels per cell of the last feature map. VGG and Inception v3, which have no such
        argument in timm, get it from :func:`pipeline.models.strides.set_output_stride`.
    dilation : bool
        Whether strides that are taken out for that become dilation.
    last_layer : str, optional
        The layer that the features come from (:func:`end_at`); by default the last one.

    Returns
    -------
    nn.Module
        ``forward_features`` maps (N, 3, H, W) to (N, ``num_features``, H / stride, W / stride).

    Raises
    ------
    UserError
        If timm lacks the name, or the network cannot have that stride or that last layer.
    """
    _require_known(name)
    backbone = _create(name, None if lacks_stride(name) else output_stride)
    if lacks_stride(name):
        set_output_stride(backbone, output_stride)
    if not dilation:
        remove_dilation(backbone)
    if last_layer is not None:
        end_at(backbone, last_layer)
    return backbone


def end_at(backbone: Any, layer: str) -> None:
    """Let a backbone's features come from an inner layer, in place.

    What was made for ImageNet's classes behind that layer is left out.

    Parameters
    ----------
    backbone : nn.Module
        A timm network whose children are applied one after the other.
    layer : str
        Dotted name of the end of one of its stages, as its ``feature_info`` has it.

    Raises
    ------
    UserError
        If no stage ends there.
    """
    channels = {stage["module"]: stage["num_chs"] for stage in backbone.feature_info}
    if layer not in channels:
        stages = ", ".join(channels)
        raise UserError(f"last_layer is {layer!r}, expected the end of a stage: {stages}")
    part = backbone
    for step in layer.split("."):
        names = [name for name, _ in part.named_children()]
        for name in names[names.index(step) + 1 :]:
            setattr(part, name, nn.Identity())
        part = part.get_submodule(step)
    backbone.num_features = channels[layer]


def initialise_backbone(backbone: nn.Module, weights: Path | None, *, pretrained: bool) -> None:
    """Give a backbone the weights that its training starts from, in place.

    Parameters
    ----------
    backbone : nn.Module
        As for :func:`load_backbone`.
    weights : Path or None
        A file of pretrained weights; without one the backbone stays as it is.
    pretrained : bool
        The configuration's word on whether there has to be a file.

    Raises
    ------
    ValueError
        If there has to be a file and there is none. Its rule is wrong, not the user: training
        from random weights would run to its end and be worth nothing.
    """
    if weights is not None:
        load_backbone(backbone, weights)
    elif pretrained:
        raise ValueError("pretrained is true, got no file of weights: its rule has to give one")


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load a state dict from a local file into a backbone, in place.

    Parameters
    ----------
    backbone : nn.Module
        A timm network, or a part of one whose parameters have the same names.
    path : Path
        A file that :func:`pipeline.models.state_dict.read_state_dict` reads. Tensors that the
        backbone lacks (its classifier) are left out, and so are batch norm's counters.

    Raises
    ------
    UserError
        If the file cannot be read, or a tensor that the backbone needs is absent, has another
        shape, or cannot be weights (:func:`pipeline.models.state_dict.check_values`).
    """
    tensors = read_state_dict(path)
    state = backbone.state_dict()
    wanted = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    lacking = [key for key in wanted if key not in tensors]
    if lacking:
        raise UserError(
            f"{path}: lacks {len(lacking)} of the backbone's {len(wanted)} tensors, first "
            f"{lacking[0]!r}, and holds {next(iter(tensors), 'nothing')!r}: expected timm's "
            "naming, or torchvision's of the same network"
        )
    for key, value in wanted.items():
        if tensors[key].shape != value.shape:
            got, expected = tuple(tensors[key].shape), tuple(value.shape)
            raise UserError(f"{path}: {key} is {got}, expected {expected}: another network's file?")
        check_values(path, key, tensors[key])
    backbone.load_state_dict(state | {key: tensors[key] for key in wanted})


def restore(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put a network's own saved state into it, in place.

    Raises
    ------
    UserError
        If the tensors are those of another network.
    """
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        first = str(error).partition("\n")[2].strip().partition("\n")[0]
        raise UserError(
            f"{path}: weights of another network ({first[:150]}): delete this file and run again"
        ) from error


def normalisation(backbone: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give the RGB mean and deviation, of images in [0, 1], that a timm network expects."""
    settings = backbone.pretrained_cfg
    return tuple(settings["mean"]), tuple(settings["std"])


def freeze_batch_norm(model: nn.Module, head: nn.Module, *, affine: bool) -> None:
    """Keep batch norm at its running statistics, in place; call it after every ``model.train()``.

    Parameters
    ----------
    model : nn.Module
    head : nn.Module
        A part of it whose layers are left alone: they have no pretrained statistics to keep.
    affine : bool
        Whether scale and shift stay as they are as well. Where they learn, the network is that
        of Puzzle-CAM's and IRN's published code.
    """
    in_head = set(head.modules())
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part not in in_head:
            part.eval()
            if affine:
                part.requires_grad_(False)


def freeze(parts: Iterable[nn.Module]) -> None:
    """Keep parts of a network as they are, in place: weights and batch norm's statistics.

    Call it after every ``model.train()``.
    """
    for part in parts:
        part.eval().requires_grad_(False)


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


def _require_known(name: str) -> None:
    try:
        # Refuses a tag that timm lacks, of a network that it has.
        timm.get_pretrained_cfg(name)
        known = timm.is_model(name)
    except RuntimeError:
        known = False
    if not known:
        near = get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()])
        hint = f": did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"backbone is {name!r}, expected a model name of timm{hint}")


def _create(name: str, stride: int | None) -> nn.Module:
    try:
        # An argument that is None does not reach the network.
        backbone: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=0, global_pool="", output_stride=stride
        )
    except REFUSALS as error:
        if stride is None:
            raise
        reason = f" ({error})" if str(error) else ""
        raise UserError(
            f"backbone {name} cannot have output_stride {stride}{reason}: "
            "expected a network that can, for example resnet50 or vgg16"
        ) from error
    # What classifies behind the features is never run: processes that train together would wait
    # for its gradients.
    if isinstance(head := getattr(backbone, "head", None), nn.Module):
        head.requires_grad_(False)
    return backbone
