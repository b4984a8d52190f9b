"""Training images from files to batches: published augmentation, and this pipeline's.

    python benchmarks/loading.py [--workers 0 1 2] [--crop 512] [--batch 32] [--images FOLDER]

The reference is the augmentation of published code: Pillow resizes to a random long side of 320 to
640 (bicubic) and mirrors; NumPy normalizes the whole image and crops it into a frame of zeros.
Ours is `augmentation` with the same settings. Both use PyTorch's loader with the same number of
workers. The last line compares the loader with a training step. Training never waits for a loader
that is faster. Prints a Markdown table.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.published import our_images, published_loader, repeated
from benchmarks.training import ours as training
from benchmarks.turns import (
    Way,
    Work,
    add_network_options,
    image_files,
    machine_line,
    make_parser,
    network_of,
    print_table,
    take_turns,
)
from pipeline.runtime.device import make_fabric
from pipeline.training.batches import batches_of_epoch, divide


@dataclass(frozen=True)
class Published:
    """Prepares the loader of the reference."""

    workers: int

    def __call__(self, options: argparse.Namespace) -> Work:
        """Load whole epochs of the files."""
        torch.set_num_threads(1)

        def work(files: Sequence[Path]) -> None:
            for _ in published_loader(files, options, self.workers):
                pass

        return work


@dataclass(frozen=True)
class Ours:
    """Prepares the loader of this pipeline."""

    workers: int

    def __call__(self, options: argparse.Namespace) -> Work:
        """Load whole epochs of the files."""
        fabric = make_fabric("32-true", 1, gpus=int(options.device == "cuda"))

        def work(files: Sequence[Path]) -> None:
            samples = our_images(files, options.crop)
            division = divide(len(files), options.batch, 1, 1)
            for _ in batches_of_epoch(samples, division, 0, 0, workers=self.workers, fabric=fabric):
                pass

        return work


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = make_parser(__doc__, seconds=20)
    add_network_options(parser, batch=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1, help="training steps per turn")
    options = parser.parse_args(arguments)
    with image_files(options) as files:
        print(f"{machine_line(options)}, crops of {options.crop}, batches of {options.batch}\n")
        items = repeated(files, options.batch * max(2, len(files) // options.batch))
        fastest = 0.0
        for workers in options.workers:
            ways = [
                Way(f"published, {workers} worker(s)", Published(workers)),
                Way(f"ours, {workers} worker(s)", Ours(workers)),
            ]
            measured = take_turns(ways, items, options)
            print_table(measured)
            print()
            fastest = max(fastest, measured[ways[1].name].rate)
        items = repeated(files, options.batch * options.steps)
        step = take_turns([Way("step", training)], items, options)["step"].rate
    print(f"A puzzle training step of {network_of(options)} takes {step:.3g} images/s: ", end="")
    print(f"the loader is {fastest / step:.1f} times as fast")


if __name__ == "__main__":
    main()
