"""Estimate of the full VOC 2012 recipe on this machine, from measurements of a minute.

    python benchmarks/full_size.py [--backbones NAME ...] [--device cuda]

Puzzle-CAM's recipe: the classifier with its puzzle module is trained on 10,582 images for 15
epochs, the boundary network for 3, and the segmentation network for 50, all on crops of 512. Class
maps of all training images and predictions of 1,449 images are computed at 4 scales with mirror
images. Operations per image are counted for each network. Rates of training steps and class maps
are measured on this machine with one backbone, as in `training.py` and `inference.py`, and hours
are computed from them. For other backbones this is an extrapolation. Loading is left out (see
`loading.py`). Prints Markdown tables and an entry of this machine for
pipeline/resources/rates.yaml, which estimates of runs are computed from.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import inference, training
from benchmarks.machine import WITH_BACKWARD, add_side, measure, operations
from benchmarks.published import repeated
from benchmarks.turns import (
    HEIGHT,
    WIDTH,
    Way,
    add_network_options,
    image_files,
    make_parser,
    network_of,
    take_turns,
)
from pipeline.io.images import scaled_size
from pipeline.models.backbone import create_backbone
from pipeline.models.boundary import BoundaryNetwork
from pipeline.models.segmentation_network import SegmentationNetwork

TRAINING_IMAGES, HELD_OUT, CROP = 10_582, 1_449, 512
SCALES = (0.5, 1.0, 1.5, 2.0)
BACKBONES = ("mobilenetv2_100", "resnet50", "resnest50d", "resnest101e", "resnest269e")


class Stage(NamedTuple):
    """A stage of the recipe.

    Attributes
    ----------
    kind : {"training", "inference"}
        Measured rate that applies to the stage.
    images : int
        Number of images times number of epochs.
    operations : callable
        Function from a backbone to the operations per image.
    """

    kind: str
    images: int
    operations: Callable[[str], float]


def affinity_training(backbone: str) -> float:
    """Count the operations per image of training the boundary network; its backbone is frozen."""
    with torch.device("meta"), torch.no_grad():
        model = BoundaryNetwork(create_backbone(backbone, output_stride=16)).eval()
        images = torch.empty(1, 3, CROP, CROP)
        frozen = operations(lambda: model.backbone.forward_features(images))
        return frozen + WITH_BACKWARD * (operations(lambda: model(images)) - frozen)


def segmentation_training(backbone: str) -> float:
    """Count the operations per image of training the segmentation network."""
    return WITH_BACKWARD * _forward_of_segmentation_network(backbone, (CROP, CROP))


def segmentation_inference(backbone: str) -> float:
    """Count the operations per image of a prediction over scales and flips."""
    sizes = [scaled_size((HEIGHT, WIDTH), scale) for scale in SCALES]
    return 2 * sum(_forward_of_segmentation_network(backbone, size) for size in sizes)


def _forward_of_segmentation_network(backbone: str, size: tuple[int, int]) -> int:
    """Count the operations of a forward pass of the segmentation network."""
    with torch.device("meta"), torch.no_grad():
        model = SegmentationNetwork(backbone, 21, decoder="full").eval()
        return operations(lambda: model(torch.empty(1, 3, *size)))


STAGES = {
    "classifier with puzzle": Stage(
        "training", 15 * TRAINING_IMAGES, lambda name: training.operations_of(name, CROP)
    ),
    "class maps": Stage(
        "inference",
        TRAINING_IMAGES,
        lambda name: inference.operations_of(name, (HEIGHT, WIDTH), SCALES),
    ),
    "boundary network": Stage("training", 3 * TRAINING_IMAGES, affinity_training),
    "segmentation network": Stage("training", 50 * TRAINING_IMAGES, segmentation_training),
    "predictions": Stage("inference", HELD_OUT, segmentation_inference),
}


def achieved(options: argparse.Namespace) -> dict[str, float]:
    """Measure the operations per second of training steps and of class maps."""
    backbone = network_of(options)
    jobs = 1 if options.device == "cuda" else options.threads
    with image_files(options) as files:
        items = repeated(files, options.batch * options.steps)
        step = take_turns([Way("step", training.ours)], items, options)["step"]
        maps = take_turns([Way("maps", inference.ours, jobs)], files, options)["maps"]
    size = (HEIGHT, WIDTH)
    return {
        "training": step.rate * training.operations_of(backbone, options.crop),
        "inference": maps.rate * inference.operations_of(backbone, size, options.scales),
    }


def print_hours(rates: dict[str, float], backbones: list[str]) -> None:
    """Print operations and hours of all stages with all backbones."""
    print("| backbone | stage | images x epochs | 10^9 operations an image | hours |")
    print("|---|---|---|---|---|")
    for backbone in backbones:
        total = 0.0
        for name, stage in STAGES.items():
            each = stage.operations(backbone)
            hours = stage.images * each / rates[stage.kind] / 3600
            total += hours
            print(f"| {backbone} | {name} | {stage.images} | {each / 1e9:.0f} | {hours:.2g} |")
        print(f"| {backbone} | all | | | {total:.2g} |", flush=True)


def entry(machine: str, rates: dict[str, float], backbone: str) -> str:
    """Return the entry of a machine in pipeline/resources/rates.yaml."""
    rounded = {kind: float(f"{rate:.3g}") for kind, rate in rates.items()}
    by_backbone = {kind: {backbone: rate, "other": rate} for kind, rate in rounded.items()}
    return yaml.safe_dump([{"name": f"hours on {machine}", **by_backbone}], sort_keys=False)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = make_parser(__doc__, seconds=60)
    add_network_options(parser, batch=4)
    add_side(parser)
    parser.add_argument("--backbones", nargs="+", default=[*BACKBONES], help="backbones to list")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--steps", type=int, default=2, help="training steps per turn")
    parser.add_argument("--megabytes", type=int, default=512, help="size of the copied array")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = measure(options)
    rates = achieved(options)
    cores = f", {options.threads} thread(s)" if options.device == "cpu" else ""
    print(f"torch {torch.__version__}, {found['device']}{cores}; measured with")
    print(f"{network_of(options)} in {options.precision}, billions of operations a second:\n")
    print("| what | rate |\n|---|---|")
    for name, rate in [*found["matrix"].items(), *rates.items()]:
        print(f"| {name} | {rate / 1e9:.0f} |")
    print()
    print_hours(rates, options.backbones)
    print(f"\n{entry(found['device'], rates, network_of(options))}")


if __name__ == "__main__":
    main()
