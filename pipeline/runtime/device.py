"""The one place that decides on devices, precision and threads."""

import ctypes
import signal
from typing import TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.runtime.folding import fold_batch_norm, use_onednn
from pipeline.runtime.gpus import claim_gpus, visible_gpus
from pipeline.runtime.stage import is_first_process

Network = TypeVar("Network", bound=nn.Module)

#: Of mallopt(3): when freed memory goes back to the system, and how many allocations are maps.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
#: Of prctl(2): the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1


def make_fabric(precision: str, threads: int, gpus: int = 1) -> Fabric:
    """Prepare the devices that a stage computes on: GPUs where there are some, else the CPU.

    With several GPUs this process starts one more of itself for each further one, which runs
    the same script; only the first (``fabric.is_global_zero``) may write results.

    Parameters
    ----------
    precision : {"32-true", "bf16-mixed", "16-mixed"}
        Arithmetic of forward and backward passes.
    threads : int
        CPU threads of all processes together.
    gpus : int
        GPUs that share the work; 0 for the CPU even where there are some. Hide GPUs by
        ``CUDA_VISIBLE_DEVICES``.

    Returns
    -------
    Fabric
        Launched.

    Raises
    ------
    UserError
        If several GPUs are wanted and there are fewer, or the CPU lacks the precision.
    """
    there = len(visible_gpus()) if gpus else 0
    if gpus > 1 and there < gpus:
        raise UserError(
            f"{there} GPUs are visible, expected {gpus}: lower `gpus` in the configuration"
        )
    if there:
        claim_gpus(gpus)
        return launch("cuda", gpus, precision, threads)
    if precision == "16-mixed":
        raise UserError("precision is 16-mixed on a CPU, expected 32-true or bf16-mixed there")
    return launch("cpu", 1, precision, threads)


def launch(accelerator: str, processes: int, precision: str, threads: int) -> Fabric:
    """Start the processes of one stage, one a device.

    Parameters
    ----------
    accelerator : {"cuda", "cpu"}
    processes : int
        More than one share the work by distributed data parallel, over NCCL or, on a CPU, gloo.
    precision : str
    threads : int
        CPU threads of all processes together.
    """
    if not is_first_process():
        _die_with_parent()
    if accelerator == "cpu":
        _keep_memory()
    torch.use_deterministic_algorithms(True, warn_only=True)
    # What is not yet computed is never read: filling it costs a fifth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    fabric = Fabric(
        accelerator=accelerator,
        devices=processes,
        precision=precision,  # type: ignore[arg-type]
        strategy=_strategy() if processes > 1 else "auto",
        # A job starts its processes itself, whatever SLURM's variables or an srun suggest.
        plugins=LightningEnvironment(),
    )
    fabric.launch()
    torch.set_num_threads(max(1, threads // processes))
    return fabric


def loader_workers(fabric: Fabric, threads: int) -> int:
    """Choose how many processes load training samples: none for one thread, few beside a CPU."""
    own = max(1, threads // fabric.world_size)
    if own == 1:
        return 0
    return own if fabric.device.type == "cuda" else max(1, own // 4)


def on_device(fabric: Fabric, model: Network, *, fold: bool = True) -> Network:
    """Wrap a network for inference: device, precision, evaluation mode, fast memory layout.

    Parameters
    ----------
    fabric : Fabric
    model : Network
        Changed in place.
    fold : bool
        Fold batch norm into convolutions. Not for those who look at layers inside the network:
        a folded convolution gives what its batch norm gave.

    Returns
    -------
    Network
        A wrapper that passes everything on to the network, so that callers may take it for one.
    """
    model.eval()
    if fold:
        fold_batch_norm(model)
        if fabric.device.type == "cpu":
            use_onednn(model)
    model.to(memory_format=torch.channels_last)
    return cast(Network, fabric.setup_module(model)).eval()


def channels_last(images: Tensor) -> Tensor:
    """Lay an (N, C, H, W) batch out as convolutions like it best, on CPU and GPU alike."""
    return images.contiguous(memory_format=torch.channels_last)


def _strategy() -> DDPStrategy:
    # Buffers are batch norm's alone: synchronized ones agree, and of others the first process's
    # are kept. Copying them before every forward pass would spoil what the one before has saved
    # for its backward pass.
    return DDPStrategy(broadcast_buffers=False)


def _keep_memory() -> None:
    """Ask glibc to keep the memory of freed tensors for the next ones.

    It would give large ones back to the system, which then clears each page anew: up to half
    of the time of a training step on a CPU.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # musl has none
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
