"""Random walk: a polynomial, and the dense squaring of published code.

    python benchmarks/random_walk.py [--dense-cells N] [--threads N]

Each case runs in a process of its own, so that its peak memory can be measured. The reference is
the published code of AffinityNet, IRN and Puzzle-CAM: a dense float32 transition matrix that is
squared 8 times. The error is the largest difference from 256 products in float64, relative to the
largest value. Prints a Markdown table.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.refinement.affinity import FlatGrid, affinities
from pipeline.refinement.random_walk import TransitionMatrix, chebyshev_coefficients

SIZES = [(24, 32), (48, 64), (72, 96), (94, 125), (128, 128), (256, 256), (512, 512)]
RADIUS, BETA, DOUBLINGS, TOLERANCE = 5, 10.0, 8, 1e-5
STEPS = 2**DOUBLINGS


def scene(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return maps of two classes and a boundary map of closed curves."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, height // 12 + 2, width // 12 + 2, generator=generator)
    fields = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]
    boundaries = torch.exp(-((fields[0] / 0.12) ** 2))
    return fields[1:].relu() / fields[1:].amax(), boundaries


def dense(maps: Tensor, boundaries: Tensor) -> Tensor:
    """Square the dense matrix as in published code."""
    grid = FlatGrid(boundaries.shape[0], boundaries.shape[1], RADIUS)
    cells = torch.arange(boundaries.numel()).reshape(boundaries.shape)
    matrix = torch.eye(boundaries.numel())
    for weight, (dy, dx) in zip(affinities(boundaries, grid), grid.directions, strict=True):
        weights = grid.unflatten(weight)
        here = cells[: boundaries.shape[0] - dy, max(0, -dx) : boundaries.shape[1] - max(0, dx)]
        there = here + dy * boundaries.shape[1] + dx
        values = weights[: boundaries.shape[0] - dy, max(0, -dx) : boundaries.shape[1] - max(0, dx)]
        matrix[here, there] = matrix[there, here] = values
    matrix = matrix**BETA
    matrix = matrix / matrix.sum(dim=0, keepdim=True)
    for _ in range(DOUBLINGS):
        matrix = matrix @ matrix
    return (maps.flatten(1) @ matrix).reshape(maps.shape)


def products(maps: Tensor, boundaries: Tensor) -> Tensor:
    """Run all steps one by one with the stencil."""
    return TransitionMatrix.of_boundaries(boundaries, radius=RADIUS, beta=BETA).walk(maps, STEPS)


def polynomial(maps: Tensor, boundaries: Tensor) -> Tensor:
    """Run the truncated Chebyshev expansion."""
    transition = TransitionMatrix.of_boundaries(boundaries, radius=RADIUS, beta=BETA)
    return transition.spread(maps, chebyshev_coefficients(STEPS, TOLERANCE))


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dense": dense,
    "products": products,
    "polynomial": polynomial,
}


def measure(method: str, height: int, width: int, threads: int) -> dict[str, float]:
    """Run one case in this process."""
    torch.set_num_threads(threads)
    maps, boundaries = scene(height, width)
    repeats = 1 if method == "dense" else 5
    METHODS[method](*scene(24, 32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = METHODS[method](maps, boundaries)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    exact = products(maps.double(), boundaries.double())
    error = float((result - exact).abs().max() / exact.abs().max())
    return {"seconds": median(seconds), "megabytes": peak / 1024, "error": error}


def in_process(method: str, height: int, width: int, threads: int) -> dict[str, float]:
    """Run one case in a new process."""
    case = json.dumps([method, height, width, threads])
    done = subprocess.run(
        [sys.executable, __file__, "--case", case], stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dense-cells", type=int, default=12000, help="largest dense grid")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of every method")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*json.loads(options.case))))
        return
    degree = len(chebyshev_coefficients(STEPS, TOLERANCE)) - 1
    print(f"torch {torch.__version__}, {options.threads} thread(s), 2 classes, radius {RADIUS}, ")
    print(f"{STEPS} steps; polynomial of degree {degree}, tolerance {TOLERANCE:g}\n")
    print("| cells | method | time | memory | error | dense / this | time per cell |")
    print("|---|---|---|---|---|---|---|")
    for height, width in SIZES:
        reference = None
        for method in METHODS:
            if method == "dense" and height * width > options.dense_cells:
                continue
            case = in_process(method, height, width, options.threads)
            reference = case["seconds"] if method == "dense" else reference
            ratio = f"{reference / case['seconds']:.0f}x" if reference else "too large"
            each = 1e6 * case["seconds"] / (height * width)
            print(
                f"| {height}x{width} | {method} | {1000 * case['seconds']:.1f} ms "
                f"| {case['megabytes']:.0f} MB | {case['error']:.0e} | {ratio} | {each:.2f} us |",
                flush=True,
            )


if __name__ == "__main__":
    main()
