"""Peak rates of this machine for matrix products and memory, and operations of networks.

    python benchmarks/machine.py [--device cuda] [--threads N]

Rates are the best of several calls: products of large square matrices, and copies of large
arrays (bytes read and written). A stage's share of the peak rate is its operations divided by its
time and by that rate. PyTorch counts the operations of matrix products and convolutions. Prints a
Markdown table.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.turns import Way, make_parser, print_table, take_turns

PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
REPEATS = 5
#: Cost of a forward and a backward pass, in forward passes. The gradients of a convolution's input
#: and of its weights each cost as much as the convolution itself.
WITH_BACKWARD = 3


def best_seconds(function: Callable[[], Tensor], device: str) -> float:
    """Measure the shortest time of several calls after one warm-up call."""
    seconds = []
    for _ in range(1 + REPEATS):
        synchronize(device)
        started = time.perf_counter()
        function()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def synchronize(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str, dtype: torch.dtype, side: int) -> float:
    """Measure operations per second of a square matrix product; a multiply-add counts as two."""
    first = torch.randn(side, side, device=device, dtype=dtype)
    second = torch.randn(side, side, device=device, dtype=dtype)
    return float(2 * side**3 / best_seconds(lambda: first @ second, device))


def bandwidth(device: str, megabytes: int) -> float:
    """Measure the bytes per second that are read and written in copying a large array."""
    source = torch.zeros(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / best_seconds(lambda: target.copy_(source), device)


def operations(function: Callable[[], Any]) -> int:
    """Count the operations of matrix products and convolutions.

    Nothing is computed if all tensors are on the device ``meta``. Use it for forward passes only:
    for backward passes of grouped convolutions PyTorch counts far too many operations.
    """
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def floor_rate(options: argparse.Namespace) -> float:
    """Measure the peak rate of matrix products at the precision of the options."""
    torch.set_num_threads(options.threads)
    return matrix_rate(options.device, PRECISIONS[options.precision], options.side)


def print_shares(
    ways: Sequence[Way], items: Sequence[Any], options: argparse.Namespace, needed: float
) -> None:
    """Measure several implementations, and print their table with shares of the peak rate.

    Parameters
    ----------
    ways : sequence of Way
        Implementations, the reference first.
    items : sequence
        Images.
    options : argparse.Namespace
        Options of :func:`floor_rate` and of :func:`benchmarks.turns.take_turns`.
    needed : float
        Operations per image.
    """
    rate = floor_rate(options)
    measured = take_turns(ways, items, options)
    rate = max(rate, floor_rate(options))  # other processes may slow down either one
    print(f"{needed / 1e9:.0f} billion operations an image of {rate / 1e9:.0f} a second\n")
    print_table(measured, floor=rate / needed)


def add_side(parser: argparse.ArgumentParser) -> None:
    """Add the option for the size of the matrices."""
    description = "rows of the matrices of the peak rate"
    parser.add_argument("--side", type=int, default=4096, help=description)


def device_name(device: str) -> str:
    """Return the product name of the device."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "CPU")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the machine with the given options."""
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
