"""What this machine can do at most: matrix products and memory, and what networks ask of it.

    python benchmarks/machine.py [--device cuda] [--threads N]

Rates are the best of several calls: products of large square matrices, and copies of large
arrays (bytes read and written). A stage's share of the floor is its operations, as PyTorch
counts those of matrix products and convolutions, by the rate and by its time. Prints a
Markdown table.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.turns import make_parser

PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
REPEATS = 5
#: Operations of a forward and a backward pass, in forward passes: gradients of a convolution's
#: input and of its weights cost as much as the convolution itself.
WITH_BACKWARD = 3


def best_seconds(function: Callable[[], Tensor], device: str) -> float:
    """Give the shortest time of several calls, after one that does not count."""
    seconds = []
    for _ in range(1 + REPEATS):
        synchronize(device)
        started = time.perf_counter()
        function()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def synchronize(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str, dtype: torch.dtype, side: int) -> float:
    """Measure operations a second (a product and a sum are two) of a square matrix product."""
    first = torch.randn(side, side, device=device, dtype=dtype)
    second = torch.randn(side, side, device=device, dtype=dtype)
    return float(2 * side**3 / best_seconds(lambda: first @ second, device))


def bandwidth(device: str, megabytes: int) -> float:
    """Measure bytes a second that are read and written when a large array is copied."""
    source = torch.zeros(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / best_seconds(lambda: target.copy_(source), device)


def operations(function: Callable[[], Any]) -> int:
    """Count the operations of matrix products and convolutions.

    Nothing is computed where all tensors are on the device ``meta``. To be counted is a forward
    pass: of grouped convolutions' backward passes PyTorch counts far too many.
    """
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def floor_rate(options: argparse.Namespace) -> float:
    """Measure the rate that shares of the floor are of: that of the options' precision."""
    torch.set_num_threads(options.threads)
    return matrix_rate(options.device, PRECISIONS[options.precision], options.side)


def add_side(parser: argparse.ArgumentParser) -> None:
    """Add the option of how large the matrices are."""
    parser.add_argument("--side", type=int, default=4096, help="rows of the floor's matrices")


def device_name(device: str) -> str:
    """Name the device as its maker does."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "CPU")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the machine as the options say."""
    torch.set_num_threads(options.threads)
    dtypes = [torch.float32, torch.bfloat16]
    rates = {str(dtype)[6:]: matrix_rate(options.device, dtype, options.side) for dtype in dtypes}
    return {
        "device": device_name(options.device),
        "threads": options.threads,
        "torch": str(torch.__version__),
        "matrix": rates,
        "bandwidth": bandwidth(options.device, options.megabytes),
    }


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = make_parser(__doc__, seconds=0)
    add_side(parser)
    parser.add_argument("--megabytes", type=int, default=512, help="size of the copied array")
    options = parser.parse_args(arguments)
    found = measure(options)
    print(f"torch {torch.__version__}, {found['device']}, {options.threads} thread(s)\n")
    print("| what | rate |\n|---|---|")
    for name, rate in found["matrix"].items():
        print(f"| matrix product, {name} | {rate / 1e9:.0f} billion operations/s |")
    print(f"| memory | {found['bandwidth'] / 1e9:.1f} GB/s |")


if __name__ == "__main__":
    main()
