"""Batch norm over several processes."""

from typing import Any

import torch
from lightning_fabric import Fabric
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.distributed.nn import functional as distributed
from torch.nn.modules.batchnorm import _BatchNorm


def synchronize_batch_norm(model: nn.Module, fabric: Fabric) -> None:
    """Compute the statistics of batch norm over the batches of all processes, in place.

    A single process needs no change. On GPUs this uses torch's synchronized layers. They do not
    support the CPU, where the same arithmetic runs in plain operations.

    Parameters
    ----------
    model : nn.Module
    fabric : Fabric
        The processes. All of them have the same number of samples.
    """
    if fabric.world_size == 1:
        return
    if fabric.device.type == "cuda":
        convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for part in model.modules():
        if isinstance(part, BatchNormAct2d):
            part.__class__ = _SynchronizedAct
        elif isinstance(part, _BatchNorm):
            part.__class__ = _Synchronized


class _Synchronized(nn.BatchNorm2d):
    """Batch norm of 2D maps with training statistics over all processes."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalize (N, C, h, w) maps."""
        if not self.training:
            evaluated: Tensor = super().forward(maps)
            return evaluated
        return _normalized(self, maps)


class _SynchronizedAct(BatchNormAct2d):
    """The same for timm's batch norm with an activation."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalize (N, C, h, w) maps and apply the activation."""
        if not self.training:
            evaluated: Tensor = super().forward(maps)  # type: ignore[no-untyped-call]
            return evaluated
        activated: Tensor = self.act(self.drop(_normalized(self, maps)))
        return activated


def _normalized(layer: Any, maps: Tensor) -> Tensor:
    """Normalize by the mean and variance over all processes, and update the running statistics."""
    processes = torch.distributed.get_world_size()
    count = processes * maps.numel() // maps.shape[1]
    mean = _summed(maps.sum(dim=(0, 2, 3))) / count
    centered = maps - mean[:, None, None]
    variance = _summed(centered.square().sum(dim=(0, 2, 3))) / count
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        layer.running_mean.lerp_(mean, layer.momentum)
        # The running variance is the unbiased estimate.
        layer.running_var.lerp_(variance * count / max(count - 1, 1), layer.momentum)
    scale = layer.weight * (variance + layer.eps).rsqrt()
    normalized: Tensor = centered * scale[:, None, None] + layer.bias[:, None, None]
    return normalized


def _summed(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; gradients are summed as well."""
    total: Tensor = distributed.all_reduce(values)  # type: ignore[no-untyped-call]
    return total
