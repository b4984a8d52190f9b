"""Pretrained weights as people have them: PyTorch's files, safetensors, torchvision's names."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.io.files import REPLACE
from pipeline.io.tensors import TensorFile

#: Keys below which training scripts keep the weights, beside an optimizer and others.
NESTED = ("state_dict", "model")
#: What wrappers of networks put in front of every name.
WRAPPERS = ("module.", "_orig_mod.")
#: Counters of batch norm's steps, which no computation needs.
COUNTER = "num_batches_tracked"
#: Batch norm's variances, whose square roots divide.
VARIANCE = "running_var"
#: Networks of torchvision whose tensors have other names in timm, in the same order. Tests compare
#: what both compute. EfficientNets from B5 on are left out: their batch norms differ.
SAME_ORDER = {"mobilenet_v2": "mobilenetv2_100"} | {
    f"efficientnet_b{k}": f"efficientnet_b{k}" for k in range(5)
}
#: Names within torchvision's files of DenseNets, which are older than its networks' names.
_OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the weights of a network, with timm's names where they can be recognized.

    Parameters
    ----------
    path : Path
        A safetensors file, or a state dict as ``torch.save`` writes it: alone, or below
        ``state_dict`` or ``model``. Names may begin with ``module.``.

    Returns
    -------
    dict of str to Tensor
        Without batch norm's counters.

    Raises
    ------
    UserError
        If the file is absent, damaged, or needs more to be unpickled than tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file, expected a .safetensors or .pth file there")
    tensors = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    return to_timm({k: v for k, v in _unwrapped(tensors).items() if not k.endswith(COUNTER)})


def to_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a network of torchvision as timm does; others stay as they are.

    ResNets, ResNeXts, wide ResNets, VGGs, Inception v3 and today's DenseNets have the same names in
    both; MobileNetV2 and the EfficientNets the same order (:data:`SAME_ORDER`).
    """
    renamed = {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    if "features.0.0.weight" not in renamed:
        return renamed
    for theirs, ours in SAME_ORDER.items():
        names = _torchvision_names(theirs, renamed)
        if names:
            return {b: renamed[a] for a, b in zip(names, _timm_names(ours), strict=True)}
    return renamed


def _torchvision_names(network: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of a network's features in order, if they and their shapes are all there."""
    from torchvision.models import get_model

    with torch.device("meta"):
        state = get_model(network, weights=None).features.state_dict(prefix="features.")
    expected = {key: value.shape for key, value in state.items() if not key.endswith(COUNTER)}
    known = {key for key in tensors if key.startswith("features.")}
    same = expected.keys() == known and all(tensors[k].shape == expected[k] for k in known)
    return list(expected) if same else []


def _timm_names(network: str) -> list[str]:
    with torch.device("meta"):
        state = timm.create_model(network, num_classes=0).state_dict()
    return [name for name in state if not name.endswith(COUNTER)]


def check_values(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that cannot be weights.

    Raises
    ------
    UserError
        If it has no values or not all of them (meta, sparse), is of whole numbers or truth
        values, is not finite, or is a negative variance.
    """
    if tensor.is_meta:
        raise UserError(
            f"{path}: {name} has a shape but no values (device meta), expected values: save the "
            "network's `state_dict()` after its weights are loaded"
        )
    if tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        raise UserError(
            f"{path}: {name} is stored as {layout}, expected a dense tensor: save its `to_dense()`"
        )
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UserError(f"{path}: {name} is of {kind}, expected floating-point numbers")
    if bad := tensor.numel() - int(torch.isfinite(tensor.float()).sum()):
        raise UserError(
            f"{path}: {name} has {bad} of {tensor.numel()} values that are NaN or infinite, "
            "expected finite numbers: use a file from a training that did not diverge"
        )
    if name.endswith(VARIANCE) and (bad := int((tensor < 0).sum())):
        raise UserError(
            f"{path}: {name} has {bad} of {tensor.numel()} values below 0, expected variances: "
            "use a file from a complete training"
        )


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        beginning = file.read(9)
    # Eight bytes of the header's length, and the header's JSON.
    return path.suffix == ".safetensors" or beginning[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    file = TensorFile(path, "safetensors weights file", framework="pt", foreign=True)
    return file.read(sorted(file.names))


def _read_pickle(path: Path) -> Any:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a file of tensors only ({_first_sentence(error)}), and loading "
            "anything else runs its code: if you trust it, load it with the program that wrote it "
            "and save the network's `state_dict()` as safetensors"
        ) from error
    except Exception as error:  # of a damaged file, torch and its unpickler raise of every kind
        raise UserError(
            f"{path}: not a complete weights file ({type(error).__name__}: "
            f"{_first_sentence(error)}), expected safetensors or a state dict of PyTorch: {REPLACE}"
        ) from error
    return found


def _first_sentence(error: BaseException) -> str:
    match = re.search(r"Unsupported (?:global|class|operand)[^.\n]*[.\w]*", str(error))
    return (match[0] if match else str(error).partition("\n")[0])[:150]


def _unwrapped(found: Any) -> dict[str, Tensor]:
    """Return the weights from their entry in a training script's checkpoint."""
    for key in (*NESTED, *NESTED):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    entries = found.items() if isinstance(found, Mapping) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    for prefix in WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
