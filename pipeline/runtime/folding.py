"""Faster networks for inference that compute the same function."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

#: Side of the image for tracing a network; no timm network needs a larger one.
PROBE = 128


@torch.no_grad()
def fold_batch_norm(model: nn.Module) -> int:
    """Fold batch norm into the convolutions before it, in place.

    With running statistics, batch norm is an affine map of each channel. It can be merged into a
    convolution whose output nothing else reads (Jacob et al. 2018, "Quantization and Training of
    Neural Networks for Efficient Integer-Arithmetic-Only Inference", eq. 14). One forward pass
    shows which convolution feeds which batch norm. If the network uses the convolution's output
    elsewhere, or computes its weights, the pair is not folded.

    A folded convolution returns the output of its batch norm. Do not fold if the outputs of inner
    layers are used (Grad-CAM's ``layer``).

    Parameters
    ----------
    model : nn.Module
        A network in evaluation mode that takes (N, 3, H, W) float32 images.

    Returns
    -------
    int
        Number of layers that were folded.

    Raises
    ------
    ValueError
        If the network is in training mode.
    """
    if model.training:
        raise ValueError("the network is in training mode, expected evaluation mode")
    names = {part: name for name, part in model.named_modules()}
    pairs = _pairs(model)
    for norm, convolution in pairs.items():
        _absorb(convolution, norm)
        rest = nn.Sequential(norm.drop, norm.act) if type(norm) is BatchNormAct2d else nn.Identity()
        parent, _, name = names[norm].rpartition(".")
        setattr(model.get_submodule(parent), name, rest.eval())
    return len(pairs)


def use_onednn(model: nn.Module) -> None:
    """Make pointwise convolutions use oneDNN's kernels on one CPU thread too, in place.

    On one thread, PyTorch computes 1x1 convolutions as matrix products, unless they are dilated.
    Dilation does not change the result of a 1x1 convolution, so it is set to 2.
    """
    for part in model.modules():
        if type(part) is nn.Conv2d and part.kernel_size == (1, 1):
            part.dilation = (2, 2)


def _absorb(convolution: nn.Conv2d, norm: Any) -> None:
    """Set the weights of a convolution so that it includes the batch norm."""
    old = convolution.weight
    affine: list[Any] = [norm.weight, norm.bias]
    scale, shift, bias = (None if v is None else v.double() for v in (*affine, convolution.bias))
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    weight, bias = fuse_conv_bn_weights(old.double(), bias, mean, variance, norm.eps, scale, shift)
    convolution.weight = nn.Parameter(weight.to(old.dtype), old.requires_grad)
    convolution.bias = nn.Parameter(bias.to(old.dtype), old.requires_grad)


def _pairs(model: nn.Module) -> dict[Any, nn.Conv2d]:
    """Return the batch norms that alone read a convolution's output, with the convolution."""
    parts = [part for part in model.modules() if _is_plain(part)]
    flow = _Flow()
    hooks = [
        part.register_forward_hook(flow.note_output)
        if isinstance(part, nn.Conv2d)
        else part.register_forward_pre_hook(flow.note_input)
        for part in parts
    ]
    weight = next(model.parameters())
    with flow:
        outputs = model(torch.zeros(1, 3, PROBE, PROBE, device=weight.device, dtype=weight.dtype))
    flow.note_readers(outputs)
    for hook in hooks:
        hook.remove()
    return flow.pairs()


def _is_plain(part: nn.Module) -> bool:
    # Subclasses compute something different: standardized weights, other statistics.
    if type(part) in {nn.BatchNorm2d, BatchNormAct2d}:
        return part.running_mean is not None
    return type(part) is nn.Conv2d


class _Flow(TorchFunctionMode):
    """A record of the outputs of convolutions and of the operations that read them."""

    def __init__(self) -> None:
        super().__init__()
        #: Outputs by id. The ids stay unique as long as the outputs are kept here.
        self.made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
        self.inputs: dict[nn.Module, int] = {}
        self.calls: Counter[nn.Module] = Counter()
        self.readers: Counter[int] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call an operation; record it as a reader if it returns a tensor, not a number."""
        result = func(*args, **(kwargs or {}))
        if next(_tensors(result), None) is not None:
            self.note_readers([args, kwargs])
        return result

    def note_readers(self, operands: Any) -> None:
        """Record that an operation reads all tensors among the operands."""
        self.readers.update(id(value) for value in _tensors(operands) if id(value) in self.made)

    def note_output(self, convolution: nn.Conv2d, _inputs: Any, output: Tensor) -> None:
        """Record the output of a convolution."""
        self.made[id(output)] = (convolution, output)
        self.calls[convolution] += 1

    def note_input(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Record the input of a batch norm."""
        self.calls[norm] += 1
        if id(inputs[0]) in self.made:
            self.inputs[norm] = id(inputs[0])

    def pairs(self) -> dict[Any, nn.Conv2d]:
        """Return the convolution of each batch norm that is its only reader and runs once."""
        found: dict[Any, nn.Conv2d] = {}
        for norm, key in self.inputs.items():
            convolution = self.made[key][0]
            if self.readers[key] == self.calls[norm] == self.calls[convolution] == 1:
                found[norm] = convolution
        return found


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested sequences and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _tensors(item)
