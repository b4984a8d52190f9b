"""Labels by a dense CRF: a sequential loop as in published code, and all cores.

    python benchmarks/crf_labels.py [--threads N] [--images FOLDER] [--count N] [--confident]

The reference is one process that labels one image after another and calls pydensecrf as published
code does: unaries from the label of the strongest map, both kernels, ten iterations. Ours is
`map_images` with one process for each core, including the start of the processes. The map of each
class is a blob. "difference" is the largest share of pixels in an image with different labels.
Prints a Markdown table.

With ``--confident``, each image gets the labels of a boundary network: two thresholds, with a CRF
each. The reference builds the kernels of an image twice, `confident_label` once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.turns import Way, Work, image_files, make_parser, print_table, take_turns
from pipeline.io.arrays import ClassMaps
from pipeline.io.images import read_rgb, strided_size
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.labels import confident_label, labeler_of, upsampled
from pipeline.runtime.parallel import map_images

NUMBERS = np.array([8, 15])
THRESHOLD = 0.3
#: Thresholds of confident labels.
THRESHOLDS = (0.5, 0.2)
CRF: dict[str, Any] = {
    "iterations": 10, "unary": "labels", "gt_prob": 0.7, "gaussian_sxy": 3, "gaussian_compat": 3,
    "bilateral_sxy": 50, "bilateral_srgb": 5, "bilateral_compat": 10,
}  # fmt: skip


Label = Callable[[Path], NDArray[np.uint8]]


def blobs(height: int, width: int) -> ClassMaps:
    """Return maps of two classes, each a blob, for an image of a given size."""
    rows, columns = strided_size((height, width), 4)
    y, x = np.mgrid[:rows, :columns]
    centers = ((0.4, 0.3), (0.6, 0.7))
    distance = [(y / rows - cy) ** 2 + (x / columns - cx) ** 2 for cy, cx in centers]
    values = np.exp(-np.stack(distance) / 0.04).astype(np.float16)
    return ClassMaps(NUMBERS, values, (height, width), np.ones(2, np.float32))


def published_label(file: Path, threshold: float = THRESHOLD) -> NDArray[np.uint8]:
    """Label one image as in published code: threshold, CRF, class numbers."""
    image = read_rgb(file)
    height, width = image.shape[:2]
    full = upsampled(blobs(height, width))
    scores = np.concatenate([np.full((1, height, width), threshold, np.float32), full])
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
    label = labeler_of({"rule": "threshold", "value": THRESHOLD}, CRF, None)
    return label(maps, image).label_image(None)


def published_confident(file: Path) -> NDArray[np.uint8]:
    """Label the confident pixels of one image: two thresholds, each with a CRF of its own."""
    confident, possible = (published_label(file, threshold) for threshold in THRESHOLDS)
    label: NDArray[np.uint8] = np.where((confident == 0) & (possible != 0), 255, confident)
    return label


def our_confident(file: Path) -> NDArray[np.uint8]:
    """Label the confident pixels of one image as in a job of the workflow."""
    image = read_rgb(file)
    foreground, background = THRESHOLDS
    return confident_label(
        blobs(image.shape[0], image.shape[1]), image,
        foreground=foreground, background=background, crf=CrfSettings.from_config(CRF),
    )  # fmt: skip


#: Published and own label of an image: of one threshold, and confident labels.
LABELS: tuple[tuple[Label, Label], ...] = (
    (published_label, our_label),
    (published_confident, our_confident),
)


def published(options: argparse.Namespace) -> Work:
    """Prepare the process of the reference."""
    cv2.setNumThreads(1)
    label, _ = LABELS[options.confident]

    def work(files: Sequence[Path]) -> None:
        for file in files:
            label(file)

    return work


def ours(options: argparse.Namespace) -> Work:
    """Prepare the main process of this pipeline, which starts the workers."""
    _, label = LABELS[options.confident]

    def work(files: Sequence[Path]) -> None:
        for _ in map_images(label, files, workers=options.threads, what="labels"):
            pass

    return work


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = make_parser(__doc__, seconds=60)
    parser.add_argument("--confident", action="store_true")
    options = parser.parse_args(arguments)
    ways = [Way("published loop", published), Way(f"ours, {options.threads} process(es)", ours)]
    with image_files(options) as files:
        one, two = LABELS[options.confident]
        shares = [float((one(f) != two(f)).mean()) for f in files[:2]]
        kind = f"{options.count} images of 2 classes, {CRF['iterations']} iterations"
        print(f"{kind}; difference {max(shares):.0e}\n")
        print_table(take_turns(ways, files, options))


if __name__ == "__main__":
    main()
