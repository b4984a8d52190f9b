"""Labels by a dense CRF: a sequential loop as in published code, and all cores.

    python benchmarks/crf_labels.py [--threads N] [--images FOLDER] [--count N]

The reference is one process that labels one image after another and calls pydensecrf as published
code does: unaries from the label of the strongest map, both kernels, ten iterations. Ours is
`map_images` with one process for each core, including the start of the processes. The map of each
class is a blob. "difference" is the largest share of pixels in an image with different labels.
Prints a Markdown table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.turns import Way, Work, image_files, make_parser, print_table, take_turns
from pipeline.io.arrays import ClassMaps
from pipeline.io.images import read_rgb, strided_size
from pipeline.refinement.labels import labeler_of, upsampled
from pipeline.runtime.parallel import map_images

NUMBERS = np.array([8, 15])
BACKGROUND = {"rule": "threshold", "value": 0.3}
CRF = {
    "iterations": 10, "unary": "labels", "gt_prob": 0.7, "gaussian_sxy": 3, "gaussian_compat": 3,
    "bilateral_sxy": 50, "bilateral_srgb": 5, "bilateral_compat": 10,
}  # fmt: skip


def blobs(height: int, width: int) -> ClassMaps:
    """Return maps of two classes, each a blob, for an image of a given size."""
    rows, columns = strided_size((height, width), 4)
    y, x = np.mgrid[:rows, :columns]
    centers = ((0.4, 0.3), (0.6, 0.7))
    distance = [(y / rows - cy) ** 2 + (x / columns - cx) ** 2 for cy, cx in centers]
    values = np.exp(-np.stack(distance) / 0.04).astype(np.float16)
    return ClassMaps(NUMBERS, values, (height, width), np.ones(2, np.float32))


def published_label(file: Path) -> NDArray[np.uint8]:
    """Label one image as in published code: threshold, CRF, class numbers."""
    image = read_rgb(file)
    height, width = image.shape[:2]
    full = upsampled(blobs(height, width))
    scores = np.concatenate([np.full((1, height, width), BACKGROUND["value"], np.float32), full])
    label = scores.argmax(axis=0)
    crf = DenseCRF2D(width, height, len(scores))
    crf.setUnaryEnergy(unary_from_labels(label, len(scores), CRF["gt_prob"], zero_unsure=False))
    crf.addPairwiseGaussian(sxy=CRF["gaussian_sxy"], compat=CRF["gaussian_compat"])
    crf.addPairwiseBilateral(
        sxy=CRF["bilateral_sxy"],
        srgb=CRF["bilateral_srgb"],
        rgbim=np.array(image, order="C"),
        compat=CRF["bilateral_compat"],
    )
    winner = np.array(crf.inference(CRF["iterations"])).argmax(axis=0).reshape(height, width)
    label_image: NDArray[np.uint8] = np.array([0, *NUMBERS], np.uint8)[winner]
    return label_image


def our_label(file: Path) -> NDArray[np.uint8]:
    """Label one image as in a job of the workflow."""
    image = read_rgb(file)
    maps = blobs(image.shape[0], image.shape[1])
    return labeler_of(BACKGROUND, CRF, None)(maps, image).label_image(None)


def published(_options: argparse.Namespace) -> Work:
    """Prepare the process of the reference."""
    cv2.setNumThreads(1)

    def work(files: Sequence[Path]) -> None:
        for file in files:
            published_label(file)

    return work


def ours(options: argparse.Namespace) -> Work:
    """Prepare the main process of this pipeline, which starts the workers."""

    def work(files: Sequence[Path]) -> None:
        for _ in map_images(our_label, files, workers=options.threads, what="labels"):
            pass

    return work


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = make_parser(__doc__, seconds=60)
    options = parser.parse_args(arguments)
    ways = [Way("published loop", published), Way(f"ours, {options.threads} process(es)", ours)]
    with image_files(options) as files:
        shares = [float((published_label(f) != our_label(f)).mean()) for f in files[:2]]
        kind = f"{options.count} images of 2 classes, {CRF['iterations']} iterations"
        print(f"{kind}; difference {max(shares):.0e}\n")
        print_table(take_turns(ways, files, options))


if __name__ == "__main__":
    main()
