"""Devices, precision and threads of a stage."""

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

#: Parameters of mallopt(3): size of free memory that is returned, and maximum number of mmaps.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
#: Option of prctl(2): the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1


def make_fabric(precision: str, threads: int, gpus: int = 1) -> Fabric:
    """Prepare the devices that a stage computes on: GPUs if available, otherwise the CPU.

    With several GPUs, this process starts one more process for each further GPU, with the same
    script. Only the first process (``fabric.is_global_zero``) may write results.

    Parameters
    ----------
    precision : {"32-true", "bf16-mixed", "16-mixed"}
        Numeric precision of forward and backward passes.
    threads : int
        Number of CPU threads, over all processes.
    gpus : int
        Number of GPUs that share the work; 0 always uses the CPU. GPUs can be hidden with
        ``CUDA_VISIBLE_DEVICES``.

    Returns
    -------
    Fabric
        The launched Fabric.

    Raises
    ------
    UserError
        If fewer GPUs are visible than requested, or the CPU does not support the precision.
    """
    visible = len(visible_gpus()) if gpus else 0
    if gpus > 1 and visible < gpus:
        raise UserError(
            f"{visible} GPUs are visible, expected {gpus}: lower `gpus` in the configuration"
        )
    if visible:
        claim_gpus(gpus)
        return launch("cuda", gpus, precision, threads)
    if precision == "16-mixed":
        raise UserError("precision is 16-mixed on a CPU, expected 32-true or bf16-mixed there")
    return launch("cpu", 1, precision, threads)


def launch(accelerator: str, processes: int, precision: str, threads: int) -> Fabric:
    """Start the processes of a stage, one for each device.

    Parameters
    ----------
    accelerator : {"cuda", "cpu"}
    processes : int
        Number of processes. Several share the work by distributed data parallel, over NCCL or,
        on a CPU, gloo.
    precision : str
    threads : int
        Number of CPU threads, over all processes.
    """
    if not is_first_process():
        _die_with_parent()
    if accelerator == "cpu":
        _keep_memory()
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Uninitialized memory is never read here. Filling it takes a fifth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    fabric = Fabric(
        accelerator=accelerator,
        devices=processes,
        precision=precision,  # type: ignore[arg-type]
        strategy=_strategy() if processes > 1 else "auto",
        # A job starts its processes itself; variables of SLURM or srun are ignored.
        plugins=LightningEnvironment(),
    )
    fabric.launch()
    torch.set_num_threads(max(1, threads // processes))
    return fabric


def loader_workers(fabric: Fabric, threads: int) -> int:
    """Return the number of processes that load samples: 0 with one thread, few on a CPU."""
    own = max(1, threads // fabric.world_size)
    if own == 1:
        return 0
    return own if fabric.device.type == "cuda" else max(1, own // 4)


def on_device(fabric: Fabric, model: Network, *, fold: bool = True) -> Network:
    """Prepare a network for inference: device, precision, evaluation mode, memory layout.

    Parameters
    ----------
    fabric : Fabric
    model : Network
        Changed in place.
    fold : bool
        Fold batch norm into convolutions. Set it to False if the outputs of inner layers are
        used: a folded convolution returns the output of its batch norm.

    Returns
    -------
    Network
        A wrapper that forwards everything to the network and can be used like it.
    """
    model.eval()
    if fold:
        fold_batch_norm(model)
        if fabric.device.type == "cpu":
            use_onednn(model)
    model.to(memory_format=torch.channels_last)
    return cast(Network, fabric.setup_module(model)).eval()


def channels_last(images: Tensor) -> Tensor:
    """Return an (N, C, H, W) batch in channels-last layout, the fastest one for convolutions."""
    return images.contiguous(memory_format=torch.channels_last)


def _strategy() -> DDPStrategy:
    # All buffers belong to batch norm. Synchronized ones agree; otherwise the first process's
    # buffers are saved. Copying them before every forward pass would overwrite values that the
    # backward pass of the previous one still needs.
    return DDPStrategy(broadcast_buffers=False)


def _keep_memory() -> None:
    """Make glibc keep the memory of freed tensors for later tensors.

    By default large blocks are returned to the system, which then clears each page again. That
    takes up to half of the time of a training step on a CPU.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # musl does not have it
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _die_with_parent() -> None:
    """Make Linux kill this process when its parent dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
