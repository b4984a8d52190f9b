"""mIoU of label images: loops over classes against one matrix of pixel counts.

    python benchmarks/evaluation.py [--count N]

The rival counts as published code does: for each image and each of the 21 classes it compares
whole masks and sums them up. Ours counts each image by one histogram over pairs of labels. Both
have the same masks in memory, one process and one thread. Prints a Markdown table.
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
    """Give a mask of regions with a void border, and a prediction that is right in parts."""
    draw = np.random.default_rng(number)
    coarse = draw.choice([0, 0, 0, *draw.integers(1, CLASSES, 2)], (6, 8)).astype(np.uint8)
    truth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    predicted = np.roll(truth, (15, -20), (0, 1))
    void = cv2.morphologyEx(truth, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    return np.where(void, IGNORE, truth).astype(np.uint8), predicted.astype(np.uint8)


def published_miou(pairs: Sequence[tuple[Mask, Mask]]) -> float:
    """Compute the mIoU by loops over images and classes."""
    predictions, truths, both = ([0] * CLASSES for _ in range(3))
    for truth, predicted in pairs:
        known = truth < IGNORE
        right = (predicted == truth) * known
        for number in range(CLASSES):
            predictions[number] += int(np.sum((predicted == number) * known))
            truths[number] += int(np.sum((truth == number) * known))
            both[number] += int(np.sum((truth == number) * right))
    unions = [p + t - b for p, t, b in zip(predictions, truths, both, strict=True)]
    shares = [b / union for b, union in zip(both, unions, strict=True) if union]
    return float(np.mean(shares))


def our_miou(pairs: Sequence[tuple[Mask, Mask]]) -> float:
    """Compute the mIoU from the sum of the images' confusion matrices."""
    counts = sum(confusion_matrix(truth, predicted, CLASSES) for truth, predicted in pairs)
    return float(scores_of(np.asarray(counts), [f"{n}" for n in range(CLASSES)])["miou"])


def published(_options: argparse.Namespace) -> Work:
    """Prepare the rival's process."""

    def work(pairs: Sequence[tuple[Mask, Mask]]) -> None:
        published_miou(pairs)

    return work


def ours(_options: argparse.Namespace) -> Work:
    """Prepare this pipeline's process."""

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
