"""Class maps over scales and flips: published code, and the jobs of this pipeline.

    python benchmarks/inference.py [--backbone NAME] [--threads N] [--device cuda] [--images FOLDER]

The reference follows published code: one process with all threads, fp32, NCHW. For each scale it
runs a batch of the image and its mirror image and applies ReLU. It resizes and sums the maps of
all classes and divides them by their maximum. Ours follows the workflow: one job with one thread
for each core, in parallel (one job on a GPU). Both decode the same files, resize them with the
same code and use the same random weights. "difference" is the largest difference between maps in
[0, 1]; our maps are rounded to 16 bits. Prints a Markdown table.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import add_side, operations, print_shares
from benchmarks.turns import (
    Way,
    Work,
    add_backbone_options,
    image_files,
    machine_line,
    make_parser,
    network_of,
)
from pipeline.attribution.cam import cam
from pipeline.attribution.fusion import fuse
from pipeline.io.images import normalize, read_rgb, resize, scaled_size, strided_size
from pipeline.models.classifier import CamClassifier, create_classifier
from pipeline.models.views import Views
from pipeline.runtime.device import make_fabric, on_device

#: Number of classes of the network, and class numbers of the labels of every image.
CLASSES, LABELS = 20, np.array([8, 15])
STRIDE = 4


def make_network(backbone: str) -> CamClassifier:
    """Create the classifier with the same random weights and statistics in every call."""
    torch.manual_seed(0)
    settings = {"backbone": backbone, "pretrained": False, "output_stride": 16, "pooling": "gap"}
    model = create_classifier(settings, CLASSES)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.uniform_(-0.1, 0.1)
    return model.eval()


@torch.no_grad()
def published_maps(
    model: CamClassifier, image: NDArray[np.uint8], scales: Sequence[float]
) -> NDArray[np.float32]:
    """Compute the maps of the labeled classes of one image as in published code."""
    size = (image.shape[0], image.shape[1])
    found = []
    for scale in scales:
        scaled = normalize(resize(image, scaled_size(size, scale)), model.mean, model.std)
        both = torch.from_numpy(np.stack([scaled, scaled[:, :, ::-1]]))
        maps = model(both.to(next(model.parameters()).device)).maps.relu()
        maps = maps[0] + maps[1].flip(-1)
        found.append(F.interpolate(maps[None], strided_size(size, STRIDE), mode="bilinear")[0])
    total = torch.stack(found).sum(dim=0)[LABELS - 1]
    # Published code uses an epsilon of 1e-5, which matters for the small maps of a random network.
    return (total / total.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)).cpu().numpy()


def our_maps(
    model: CamClassifier, image: NDArray[np.uint8], scales: Sequence[float]
) -> NDArray[np.float16]:
    """Compute the same maps as in a job of the workflow."""
    views = Views(tuple(scales), flip=True)
    return fuse(cam, model, image, LABELS, views, stride=STRIDE).values


def published(options: argparse.Namespace) -> Work:
    """Prepare the process of the reference."""
    torch.set_num_threads(options.threads)
    model = make_network(network_of(options)).to(options.device)

    def work(files: Sequence[Path]) -> None:
        for file in files:
            published_maps(model, read_rgb(file), options.scales)

    return work


def ours(options: argparse.Namespace) -> Work:
    """Prepare one job of the workflow."""
    on_gpu = options.device == "cuda"
    fabric = make_fabric(options.precision, options.threads if on_gpu else 1, gpus=int(on_gpu))
    model = on_device(fabric, make_network(network_of(options)))

    def work(files: Sequence[Path]) -> None:
        for file in files:
            our_maps(model, read_rgb(file), options.scales)

    return work


def difference(options: argparse.Namespace, file: Path) -> float:
    """Compute the largest difference between the maps of both implementations."""
    image, backbone = read_rgb(file), network_of(options)
    reference = make_network(backbone).to(options.device)
    expected = published_maps(reference, image, options.scales)
    fabric = make_fabric(options.precision, options.threads, gpus=int(options.device == "cuda"))
    maps = our_maps(on_device(fabric, make_network(backbone)), image, options.scales)
    return float(np.abs(maps.astype(np.float32) - expected).max())


def operations_of(backbone: str, size: tuple[int, int], scales: Sequence[float]) -> int:
    """Count the operations of one image and its mirror image at all scales."""
    with torch.device("meta"):
        model = make_network(backbone)
    sizes = [scaled_size(size, scale) for scale in scales]
    with torch.no_grad():
        return sum(operations(partial(model, torch.empty(2, 3, *s, device="meta"))) for s in sizes)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = make_parser(__doc__, seconds=60)
    add_backbone_options(parser)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.0])
    add_side(parser)
    options = parser.parse_args(arguments)
    jobs = 1 if options.device == "cuda" else options.threads
    ways = [Way("published order", published), Way(f"ours, {jobs} job(s)", ours, jobs)]
    with image_files(options) as files:
        print(f"{machine_line(options)}, {network_of(options)}, ours in {options.precision}, ")
        scales = ", ".join(map(str, options.scales))
        print(f"scales {scales}, each mirrored; difference {difference(options, files[0]):.0e}")
        height, width, _ = read_rgb(files[0]).shape
        needed = operations_of(network_of(options), (height, width), options.scales)
        print_shares(ways, files, options, needed)


if __name__ == "__main__":
    main()
