"""The one place that decides on device, precision and threads."""

from typing import TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def make_fabric(precision: str, threads: int) -> Fabric:
    """Prepare the device that a stage computes on: a GPU where there is one, else the CPU.

    Parameters
    ----------
    precision : {"32-true", "bf16-mixed", "16-mixed"}
        Arithmetic of forward and backward passes.
    threads : int
        CPU threads of one operation.

    Returns
    -------
    Fabric
        Launched, for one device. Hide GPUs by ``CUDA_VISIBLE_DEVICES``.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    fabric = Fabric(accelerator="auto", devices=1, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def loader_workers(fabric: Fabric, threads: int) -> int:
    """Choose how many processes load training samples: none for one thread, few beside a CPU."""
    if threads == 1:
        return 0
    return threads if fabric.device.type == "cuda" else max(1, threads // 4)


def on_device(fabric: Fabric, model: Network) -> Network:
    """Wrap a network for inference: device, precision, evaluation mode, fast memory layout.

    The wrapper passes everything on to the network, so callers may take it for one.
    """
    model.to(memory_format=torch.channels_last)
    return cast(Network, fabric.setup_module(model)).eval()


def channels_last(images: Tensor) -> Tensor:
    """Lay an (N, C, H, W) batch out as convolutions like it best, on CPU and GPU alike."""
    return images.contiguous(memory_format=torch.channels_last)
