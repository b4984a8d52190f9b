"""Assignment of overlapping masks to classes: a loop over masks, and sums over run lengths.

    python benchmarks/region_votes.py [--count N] [--masks N]

The reference compares whole masks, one after another, as published code does (Chen et al. 2023),
but has them in memory as boolean arrays. Ours has them as runs of pixels. Both apply the rule
``overlap`` of a refinement and find the same labels. The masks are ellipses of all sizes, as
nested as those of SAM. One process and one thread. Prints a Markdown table.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.turns import HEIGHT, WIDTH, Way, Work, make_parser, print_table, take_turns
from pipeline.io.regions import Regions, regions_of_masks
from pipeline.io.run_lengths import Runs
from pipeline.refinement.region_votes import RegionSettings, vote

LABELS = 4
SETTINGS = RegionSettings(rule="overlap")
Mask = NDArray[np.bool_]
Labels = NDArray[np.intp]


@dataclass(frozen=True)
class Case:
    """Labels of an image, their probabilities, and its masks in both forms."""

    labels: Labels
    probabilities: NDArray[np.float32]
    masks: list[Mask]
    regions: Regions


def case(number: int, masks: int) -> Case:
    """Draw blurred probabilities and ellipses."""
    draw = np.random.default_rng(number)
    coarse = draw.dirichlet(np.full(LABELS, 0.3), (6, 8)).astype(np.float32)
    blurred = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    probabilities: NDArray[np.float32] = np.ascontiguousarray(
        blurred.transpose(2, 0, 1), np.float32
    )
    drawn = [ellipse(draw) for _ in range(masks)]
    regions = regions_of_masks((HEIGHT, WIDTH), map(runs_of, drawn))
    return Case(probabilities.argmax(axis=0), probabilities, drawn, regions)


def ellipse(draw: np.random.Generator) -> Mask:
    """Draw an ellipse whose radii are between 4 pixels and a quarter of the image."""
    center = int(draw.integers(WIDTH)), int(draw.integers(HEIGHT))
    first, second = np.exp(draw.uniform(np.log(4), np.log(HEIGHT / 4), 2)).astype(int).tolist()
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(mask, center, (first, second), float(draw.uniform(0, 180)), 0, 360, 1, -1)
    return mask > 0


def runs_of(mask: Mask) -> Runs:
    """Return the runs of a mask."""
    flat = mask.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=0))
    return edges[::2], edges[1::2] - edges[::2]


def by_loop(one: Case) -> Labels:
    """Assign masks by comparing whole masks with each class."""
    totals = [int(np.sum(one.labels == label)) for label in range(LABELS)]
    label = one.labels.copy()
    areas = [int(np.sum(mask)) for mask in one.masks]
    for position in np.argsort(areas, kind="stable")[::-1]:
        mask, area = one.masks[position], areas[position]
        overlaps = [int(np.sum((one.labels == number) * mask)) for number in range(1, LABELS)]
        most = max(overlaps)
        best = 1 + overlaps.index(most)
        enough = most > SETTINGS.min_share * area or most >= SETTINGS.min_coverage * totals[best]
        if most and enough:
            label[mask] = best
    return label


def by_runs(one: Case) -> Labels:
    """Assign masks by sums over their runs."""
    return vote(one.labels, one.probabilities, one.regions, SETTINGS)[0]


def looping(_options: argparse.Namespace) -> Work:
    """Prepare the process of the reference."""

    def work(cases: Sequence[Case]) -> None:
        for one in cases:
            by_loop(one)

    return work


def ours(_options: argparse.Namespace) -> Work:
    """Prepare the process of this pipeline."""

    def work(cases: Sequence[Case]) -> None:
        for one in cases:
            by_runs(one)

    return work


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = make_parser(__doc__, seconds=20)
    parser.add_argument("--masks", type=int, default=500, help="masks of an image")
    options = parser.parse_args(arguments)
    cases = [case(number, options.masks) for number in range(options.count)]
    apart = sum(int(np.sum(by_loop(one) != by_runs(one))) for one in cases)
    print(
        f"{options.count} images of {HEIGHT}x{WIDTH}, {options.masks} masks, {LABELS} labels; "
        f"{apart} pixels differ\n"
    )
    ways = [Way("loop over masks", looping), Way("ours", ours)]
    print_table(take_turns(ways, cases, options), unit="images")


if __name__ == "__main__":
    main()
