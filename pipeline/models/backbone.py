"""Backbones from timm, with pretrained weights from local files."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from pipeline.config.values import ALL_MODULES
from pipeline.errors import UserError
from pipeline.models.grid import REFUSALS, create_on_grid, find_grid, own_stride
from pipeline.models.side_by_side import concatenate_layers, measure_layers
from pipeline.models.state_dict import COUNTER, check_values, read_state_dict
from pipeline.models.strides import lacks_stride, remove_dilation, set_output_stride

#: Default output stride of networks whose stride can be set.
STRIDE = 16
#: Name of the learned position embeddings of timm's transformers.
POSITIONS = "pos_embed"
#: Number of depths of a plain transformer whose features a boundary network uses.
QUARTERS = 4


def create_backbone(
    name: str,
    *,
    output_stride: int | None = None,
    dilation: bool = True,
    last_layer: str | Sequence[str] | None = None,
) -> nn.Module:
    """Create a timm network without its classifier, with random weights.

    Parameters
    ----------
    name : str
        A timm model name, for example ``"resnet50"``.
    output_stride : int, optional
        Pixels per cell of the last feature map. By default 16, or the network's own stride if that
        cannot be changed (:func:`pipeline.models.grid.create_on_grid`). VGG and Inception v3 have
        no such argument in timm. Their stride is set by
        :func:`pipeline.models.strides.set_output_stride`.
    dilation : bool
        Replace removed strides by dilation.
    last_layer : str or sequence of str, optional
        Layer whose output is used as features (:func:`end_at`). By default the last one. Outputs of
        several layers are concatenated
        (:func:`pipeline.models.side_by_side.concatenate_layers`).

    Returns
    -------
    nn.Module
        ``forward_features`` maps (N, 3, H, W) to (N, ``num_features``, H / stride, W / stride),
        rounded up. (ConvNeXt with an output stride leaves out partial cells.)

    Raises
    ------
    UserError
        If timm has no network of that name, or if the network cannot have that stride or those
        last layers.
    """
    require_known(name)
    if lacks_stride(name):
        backbone = _create(name, None)
        set_output_stride(backbone, output_stride or STRIDE)
    else:
        backbone = _create_with_stride(name, output_stride)
    if not dilation:
        remove_dilation(backbone)
    if isinstance(last_layer, str):
        end_at(backbone, last_layer)
    elif last_layer is not None:
        inner = measure_layers(backbone, last_layer)
        end_at(backbone, last_layer[-1])
        concatenate_layers(backbone, inner)
    return backbone


def find_stride(name: str, wanted: int | None = None) -> int:
    """Return the output stride that :func:`create_backbone` gives to a network.

    Parameters
    ----------
    name : str
        A timm model name.
    wanted : int, optional
        Output stride of the configuration.

    Raises
    ------
    UserError
        If the network cannot have that stride.
    """
    return (None if lacks_stride(name) else _fixed_stride(name, wanted)) or wanted or STRIDE


def has_output_stride(name: str) -> bool:
    """Return whether the output stride of a network can be set."""
    return not lacks_stride(name) and _fixed_stride(name, None) is None


@cache
def _fixed_stride(name: str, wanted: int | None) -> int | None:
    """Return the stride of a network that has only one, and None for all others."""
    with torch.device("meta"):
        return own_stride(_create_with_stride(name, wanted))


def end_at(backbone: Any, layer: str) -> None:
    """Use the output of an inner layer as the features of a backbone, in place.

    All layers after it are removed.

    Parameters
    ----------
    backbone : nn.Module
        A timm network whose children are applied one after the other.
    layer : str
        Dotted name of the last layer of a stage, from the network's ``feature_info``.

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
    if own_stride(backbone):
        (stage,) = (stage for stage in backbone.feature_info if stage["module"] == layer)
        backbone.grid = backbone.grid._replace(stride=int(stage["reduction"]))


def kept_stages(backbone: Any) -> dict[int, Mapping[str, Any]]:
    """Return the stages of a network whose features a boundary network uses.

    Returns
    -------
    dict of int to mapping
        Entries of ``feature_info`` by their number, without those that :func:`end_at` has removed.
        Of a plain transformer, whose blocks all have the same stride: those after each quarter.
    """
    stages: list[Mapping[str, Any]] = list(backbone.feature_info)
    while len(stages) > 1 and _is_removed(backbone, stages[-1]["module"]):
        stages.pop()
    numbers = list(range(len(stages)))
    if len({stage["reduction"] for stage in stages}) == 1 < len(stages):
        ends = (len(stages) * part // QUARTERS for part in range(1, QUARTERS + 1))
        numbers = sorted({end - 1 for end in ends if end})
    return {number: stages[number] for number in numbers}


def _is_removed(backbone: nn.Module, name: str) -> bool:
    try:
        return isinstance(backbone.get_submodule(name), nn.Identity)
    except AttributeError:  # a module that contained it is removed
        return True


def initialize_backbone(backbone: nn.Module, weights: Path | None, *, pretrained: bool) -> None:
    """Load the initial weights of a backbone, in place.

    Parameters
    ----------
    backbone : nn.Module
        See :func:`load_backbone`.
    weights : Path or None
        A file of pretrained weights; with None the backbone does not change.
    pretrained : bool
        Whether the configuration requires pretrained weights.

    Raises
    ------
    ValueError
        If pretrained weights are required and there is no file. This is an error of a workflow
        rule, not of the user. Training from random weights would finish with a useless result.
    """
    if weights is not None:
        load_backbone(backbone, weights)
    elif pretrained:
        raise ValueError("pretrained is true, got no file of weights: its rule must pass one")


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load a state dict from a local file into a backbone, in place.

    Parameters
    ----------
    backbone : nn.Module
        A timm network, or a part of one whose parameters have the same names.
    path : Path
        A file that :func:`pipeline.models.state_dict.read_state_dict` reads. Tensors that the
        backbone lacks (its classifier) are left out, and so are batch norm's counters. Position
        embeddings of a transformer for square images of another size are resized, as timm does.

    Raises
    ------
    UserError
        If the file cannot be read, or a tensor that the backbone needs is absent, has another
        shape, or cannot be weights (:func:`pipeline.models.state_dict.check_values`).
    """
    tensors = read_state_dict(path)
    state = backbone.state_dict()
    by_flat_name = {_flat(key): key for key in tensors}
    names = {key: key if key in tensors else by_flat_name.get(_flat(key), key) for key in state}
    wanted = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    lacking = [key for key in wanted if names[key] not in tensors]
    if lacking:
        raise UserError(
            f"{path}: lacks {len(lacking)} of the backbone's {len(wanted)} tensors, first "
            f"{lacking[0]!r}, and has for example {next(iter(tensors), 'nothing')!r}: expected a "
            "file of this network with the tensor names of timm or torchvision"
        )
    found = {key: tensors[names[key]] for key in wanted}
    if POSITIONS in wanted:
        found[POSITIONS] = _on_grid_of(backbone, found[POSITIONS])
    for key, value in wanted.items():
        if found[key].shape != value.shape:
            got, expected = tuple(found[key].shape), tuple(value.shape)
            raise UserError(
                f"{path}: {key} is {got}, expected {expected}: use a file of this network"
            )
        check_values(path, key, found[key])
    backbone.load_state_dict(state | found)


def _on_grid_of(backbone: Any, positions: Tensor) -> Tensor:
    """Resize (1, tokens, C) position embeddings to the tokens of a backbone, if that is possible.

    Others are returned as they are, and refused by their shape.
    """
    own = backbone.pos_embed
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if positions.dim() != 3 or grid is None or positions.shape[1] == own.shape[1]:
        return positions
    prefix = own.shape[1] - grid[0] * grid[1]
    side = isqrt(max(0, positions.shape[1] - prefix))
    if not side or side**2 + prefix != positions.shape[1] or positions.shape[2] != own.shape[2]:
        return positions
    resized: Tensor = resample_abs_pos_embed(
        positions.float(), list(grid), [side, side], num_prefix_tokens=prefix
    )
    return resized


def restore(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a saved state into its network, in place.

    Raises
    ------
    UserError
        If the state belongs to another network.
    """
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        first = str(error).partition("\n")[2].strip().partition("\n")[0]
        raise UserError(
            f"{path}: weights of another network ({first[:150]}): delete this file and run again"
        ) from error


def normalization(backbone: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the RGB mean and deviation of a timm network, for images in [0, 1]."""
    settings = backbone.pretrained_cfg
    return tuple(settings["mean"]), tuple(settings["std"])


def freeze_batch_norm(model: nn.Module, head: nn.Module, *, affine: bool) -> None:
    """Freeze the statistics of batch norm, in place; call it after every ``model.train()``.

    Parameters
    ----------
    model : nn.Module
    head : nn.Module
        The part of the model that is not frozen, since it has no pretrained statistics.
    affine : bool
        Freeze scale and shift as well. The published code of Puzzle-CAM and IRN does not.
    """
    in_head = set(head.modules())
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part not in in_head:
            part.eval()
            if affine:
                part.requires_grad_(False)


def freeze(parts: Iterable[nn.Module]) -> None:
    """Freeze the weights and batch norm statistics of parts of a network, in place.

    Call it after every ``model.train()``.
    """
    for part in parts:
        part.eval().requires_grad_(False)


def find_module(backbone: nn.Module, name: str) -> nn.Module:
    """Return the module of a backbone that has a dotted name.

    Raises
    ------
    UserError
        If there is no module of that name.
    """
    modules: dict[str, nn.Module] = dict(backbone.named_modules())
    if name not in modules:
        # timm's encoders with several outputs call the module stages.0 stages_0.
        flat = {_flat(key): key for key in modules}
        name = flat.get(_flat(name), name)
    if not name or name not in modules:
        tops = ", ".join(key for key in modules if key and "." not in key)
        raise UserError(
            f"layer is {name!r}, expected a module of the backbone: {tops}, or a part of one, "
            "for example layer4.0"
        )
    return modules[name]


def frozen_module(backbone: nn.Module, name: str) -> nn.Module:
    """Return the module that the setting ``frozen`` names; ``all`` is the whole backbone."""
    return backbone if name == ALL_MODULES else find_module(backbone, name)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def require_known(name: str) -> None:
    """Check that timm has a model of a name.

    Raises
    ------
    UserError
        If it has none. The message proposes similar names.
    """
    try:
        # This raises an error for an unknown tag of a known network.
        timm.get_pretrained_cfg(name)
        known = timm.is_model(name)
    except RuntimeError:
        known = False
    if not known:
        near = get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()])
        hint = f": did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"backbone is {name!r}, expected a model name of timm{hint}")


def _create_with_stride(name: str, stride: int | None) -> nn.Module:
    """Create a timm network with an output stride, or with its own stride if it has only one."""
    try:
        return _create(name, stride or STRIDE)
    except REFUSALS as error:
        if stride is not None and stride != (own := _own(name)):
            reason = f" ({error})" if str(error) else ""
            wanted = f"null or {own}, its only stride, or " if own else ""
            raise UserError(
                f"backbone {name} cannot have output_stride {stride}{reason}: expected {wanted}"
                "a network whose stride can be set, for example resnet50 or vgg16"
            ) from error
    return create_on_grid(name)


def _own(name: str) -> int | None:
    """Return the stride of a network that has only one; None if it cannot be used at all."""
    try:
        return find_grid(name).stride
    except UserError:
        return None


def _create(name: str, stride: int | None) -> nn.Module:
    """Create a timm network with an output stride, or with its default stride if that is None."""
    # timm does not pass arguments that are None to the network.
    backbone: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=0, global_pool="", output_stride=stride
    )
    # Layers after the features never run. With several processes, training would wait for their
    # gradients.
    if isinstance(head := getattr(backbone, "head", None), nn.Module):
        head.requires_grad_(False)
    return backbone
