"""mIoU of label images: loops over classes, and one matrix of pixel counts.

    python benchmarks/evaluation.py [--count N]

The reference counts as in published code: for each image and each of the 21 classes it compares
whole masks and sums the result. Ours computes one histogram over pairs of labels for each image.
Both use the same masks in memory, one process and one thread. Prints a Markdown table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.turns import HEIGHT, WIDTH, Way, Work, make_parser, print_table, take_turns
from pipeline.io.arrays import IGNORE
from pipeline.metrics.segmentation import confusion_matrix, scores_of

CLASSES = 21
Mask = NDArray[np.uint8]


def masks(number: int) -> tuple[Mask, Mask]:
    """Return a mask of regions with void borders, and a prediction that is partly correct."""
    draw = np.random.default_rng(number)
    coarse = draw.choice([0, 0, 0, *draw.integers(1, CLASSES, 2)], (6, 8)).astype(np.uint8)
    ground_truth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    predicted = np.roll(ground_truth, (15, -20), (0, 1))
    void = cv2.morphologyEx(ground_truth, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    return np.where(void, IGNORE, ground_truth).astype(np.uint8), predicted.astype(np.uint8)


def published_miou(pairs: Sequence[tuple[Mask, Mask]]) -> float:
    """Compute the mIoU by loops over images and classes."""
    predictions, true, both = ([0] * CLASSES for _ in range(3))
    for ground_truth, predicted in pairs:
        scored = ground_truth < IGNORE
        correct = (predicted == ground_truth) * scored
        for number in range(CLASSES):
            predictions[number] += int(np.sum((predicted == number) * scored))
            true[number] += int(np.sum((ground_truth == number) * scored))
            both[number] += int(np.sum((ground_truth == number) * correct))
    unions = [p + t - b for p, t, b in zip(predictions, true, both, strict=True)]
    shares = [b / union for b, union in zip(both, unions, strict=True) if union]
    return float(np.mean(shares))


def our_miou(pairs: Sequence[tuple[Mask, Mask]]) -> float:
    """Compute the mIoU from the sum of the confusion matrices."""
    counts = sum(confusion_matrix(*pair, CLASSES) for pair in pairs)
    return float(scores_of(np.asarray(counts), [f"{n}" for n in range(CLASSES)])["miou"])


def published(_options: argparse.Namespace) -> Work:
    """Prepare the process of the reference."""

    def work(pairs: Sequence[tuple[Mask, Mask]]) -> None:
        published_miou(pairs)

    return work


def ours(_options: argparse.Namespace) -> Work:
    """Prepare the process of this pipeline."""

    def work(pairs: Sequence[tuple[Mask, Mask]]) -> None:
        our_miou(pairs)

    return work


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    options = make_parser(__doc__, seconds=20).parse_args(arguments)
    pairs = [masks(number) for number in range(options.count)]
    apart = abs(published_miou(pairs) - our_miou(pairs))
    print(f"{options.count} masks of {HEIGHT}x{WIDTH}, {CLASSES} classes; difference {apart:.0e}\n")
    ways = [Way("loops over classes", published), Way("ours", ours)]
    print_table(take_turns(ways, pairs, options), unit="masks")


if __name__ == "__main__":
    main()
