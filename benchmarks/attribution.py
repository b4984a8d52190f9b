"""Class maps of several classes per image: this pipeline, torchcam and pytorch-grad-cam.

    python benchmarks/attribution.py [--backbone NAME] [--images FOLDER] [--size H W] [--threads N]

All tools use the same network with random weights, its last layer and the same images, at one
scale and without flips. "documented" follows the documentation of a tool: torchcam runs one
forward pass and one call for each class on the retained graph; pytorch-grad-cam runs one forward
and backward pass for each class. In the "best" variant the backbone is frozen, so that it needs
no backward pass and no memory for one, and pytorch-grad-cam processes one copy of an image for
each class in one batch. The maps of torchcam are used before it scales them. pytorch-grad-cam
always scales and resizes its maps.

Each case runs in a process of its own. Its peak memory is measured relative to the process after
one small image. "time / ours" is the ratio of median times. Calls alternate with ours in the same
process, and they end when the maps are in CPU memory. "difference" is the largest difference
from our maps, after all maps are resized and scaled to [0, 1] by pytorch-grad-cam's code. The
weights of the class layer are large, so that the epsilon in that tool's Grad-CAM++ has no effect.
torchcam's Grad-CAM++ has no denominator and is a different method (see
tests/attribution/test_peers.py). Prints Markdown tables.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam import methods as torchcam

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.attribution import METHODS
from pipeline.io.images import normalize, read_rgb, resize
from pipeline.models.classifier import CamClassifier, create_classifier
from pipeline.runtime.device import channels_last

#: Maps (images, class indices) to (N, K, h, w) maps.
Mapper = Callable[[Tensor, Sequence[int]], Tensor]

CLASSES, STRIDE, STEEPNESS = 20, 16, 1e4
#: Pairs of image and class in one call to pytorch-grad-cam in its best variant.
COPIES_AT_ONCE = 32


class Scores(nn.Module):
    """A classifier with the interface of the other tools: a last layer and a tensor of scores."""

    def __init__(self, classifier: CamClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.last = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to (N, C) scores."""
        features: Tensor = self.classifier.backbone.forward_features(images)  # type: ignore[operator]
        if torch.is_grad_enabled() and not features.requires_grad:
            features.requires_grad_()  # the graph starts here if the backbone is frozen
        return self.classifier.pool(self.classifier.head(self.last(features)))


def ours(network: Scores, method: str) -> Mapper:
    """Return a method of this pipeline."""

    def maps(images: Tensor, classes: Sequence[int]) -> Tensor:
        indices = torch.tensor(classes, device=images.device)
        return METHODS[method](network.classifier, images, indices)

    return maps


def torchcam_calls(network: Scores, method: str) -> Mapper:
    """Return a method of torchcam: one forward pass, one call for each class."""
    kinds = {"grad-cam": torchcam.GradCAM, "grad-cam-pp": torchcam.GradCAMpp}
    plain = torchcam.CAM(network, "last", "classifier.head") if method == "cam" else None
    extractor: Any = plain or kinds[method](network, "last")
    keep = {} if plain else {"retain_graph": True}

    def maps(images: Tensor, classes: Sequence[int]) -> Tensor:
        with torch.inference_mode(plain is not None):
            scores = network(images)
            found = [extractor(n, scores, normalized=False, **keep)[0] for n in classes]
            return torch.stack(found, dim=1).relu()

    return maps


def pytorch_grad_cam_calls(network: Scores, method: str, at_once: int | None = None) -> Mapper:
    """Return a method of pytorch-grad-cam: one call per class or per ``at_once`` pairs."""
    kinds = {"grad-cam": "GradCAM", "grad-cam-pp": "GradCAMPlusPlus"}
    peer = getattr(pytorch_grad_cam, kinds[method])(network, [network.last])

    def maps(images: Tensor, classes: Sequence[int]) -> Tensor:
        pairs = [(image, number) for number in classes for image in range(len(images))]
        step, found = at_once or len(images), []
        for start in range(0, len(pairs), step):
            chosen, numbers = zip(*pairs[start : start + step], strict=True)
            targets = [ClassifierOutputTarget(number) for number in numbers]
            found.append(peer(channels_last(images[list(chosen)]), targets))
        all_maps = torch.from_numpy(np.concatenate(found))
        return all_maps.reshape(len(classes), len(images), *images.shape[2:]).transpose(0, 1)

    return maps


class Tool(NamedTuple):
    """One way to compute maps."""

    make: Callable[[Scores, str], Mapper]
    methods: Sequence[str]
    frozen: bool = False


BY_GRADIENT = ("grad-cam", "grad-cam-pp")
TOOLS = {
    "ours": Tool(ours, ("cam", *BY_GRADIENT)),
    "torchcam, documented": Tool(torchcam_calls, ("cam", *BY_GRADIENT)),
    "torchcam, best": Tool(torchcam_calls, BY_GRADIENT, frozen=True),
    "pytorch-grad-cam, documented": Tool(pytorch_grad_cam_calls, BY_GRADIENT),
    "pytorch-grad-cam, best": Tool(
        partial(pytorch_grad_cam_calls, at_once=COPIES_AT_ONCE), BY_GRADIENT, frozen=True
    ),
}


def make_network(backbone: str) -> Scores:
    """Create the network with the same random weights in every call."""
    torch.manual_seed(0)
    settings = {"backbone": backbone, "pretrained": False, "output_stride": STRIDE}
    classifier = create_classifier(settings | {"pooling": "gap"}, CLASSES)
    classifier.head.weight.data.mul_(STEEPNESS)
    return Scores(classifier.to(memory_format=torch.channels_last)).eval()


def make_batch(count: int, options: argparse.Namespace, model: CamClassifier) -> Tensor:
    """Return the first images of the folder, or noise without a folder, normalized."""
    if options.images is None:
        return torch.randn(count, 3, *options.size, generator=torch.Generator().manual_seed(0))
    files = sorted(options.images.glob("*.jpg"))[:count]
    if len(files) < count:
        raise SystemExit(f"{options.images}: {len(files)} files end in .jpg, expected {count}")
    images = [resize(read_rgb(file), options.size) for file in files]
    return torch.from_numpy(np.stack([normalize(i, model.mean, model.std) for i in images]))


def scaled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize and scale maps to [0, 1] with the code of pytorch-grad-cam."""
    flat = maps.float().flatten(0, 1).cpu().numpy()
    return torch.from_numpy(scale_cam_image(scale_cam_image(flat, (size[1], size[0]))))


def seconds_of(function: Mapper, images: Tensor, classes: Sequence[int]) -> float:
    """Measure the seconds of a call until the maps are in CPU memory."""
    started = time.perf_counter()
    function(images, classes).cpu()
    return time.perf_counter() - started


def peak_memory(device: str) -> int:
    """Return the peak memory of the GPU's tensors, or of this process, in bytes."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run one case in this process."""
    tool, method, batch, classes = json.loads(options.case)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    network = make_network(options.backbone).to(options.device)
    network.classifier.backbone.requires_grad_(not TOOLS[tool].frozen)
    images = make_batch(batch, options, network.classifier).to(options.device)
    images, indices = channels_last(images), range(classes)
    theirs, own = TOOLS[tool].make(network, method), ours(network, method)
    theirs(images.new_zeros(1, 3, 64, 64), [0])
    before = peak_memory(options.device)
    maps = theirs(images, indices)
    times = [seconds_of(theirs, images, indices)]
    peak = peak_memory(options.device) - before
    expected = own(images, indices)
    own_times = [seconds_of(own, images, indices)]
    while sum(times) + sum(own_times) < options.seconds:
        times.append(seconds_of(theirs, images, indices))
        own_times.append(seconds_of(own, images, indices))
    difference = (scaled(maps, options.size) - scaled(expected, options.size)).abs()
    return {
        "seconds": median(times),
        "ratio": median(times) / median(own_times),
        "megabytes": peak / 2**20,
        "difference": float(difference.max()),
    }


def table(batch: int, classes: int) -> None:
    """Print the table of all tools; each case runs in a new process with the same options."""
    print(f"\nBatch of {batch}, {classes} class(es) an image:\n")
    print("| method | tool | images/s | maps/s | time / ours | memory | difference |")
    print("|---|---|---|---|---|---|---|")
    for method, name in itertools.product(METHODS, TOOLS):
        if method not in TOOLS[name].methods:
            continue
        case = json.dumps([name, method, batch, classes])
        command = [sys.executable, __file__, *sys.argv[1:], "--case", case]
        found = json.loads(subprocess.check_output(command))
        rate = batch / found["seconds"]
        rates = f"{rate:.2f} | {rate * classes:.2f} | {found['ratio']:.2f}"
        rest = f"{found['megabytes']:.0f} MB | {found['difference']:.0e}"
        print(f"| {method} | {name} | {rates} | {rest} |", flush=True)


def main() -> None:
    """Print the tables."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="resnet50", help="a timm network")
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 224), help="height and width")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of every tool")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if gpu else "cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="images a batch")
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 3, 20], help="at most 20")
    parser.add_argument("--seconds", type=float, default=10, help="minimum time of a case")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options)))
        return
    cpu = f"{options.threads} CPU thread(s)"
    name = cpu if options.device == "cpu" else torch.cuda.get_device_name()
    kind = f"{'photographs' if options.images else 'noise'} of {options.size[0]}x{options.size[1]}"
    print(f"torch {torch.__version__}, {name}; {options.backbone}, {kind}")
    for batch, classes in itertools.product(options.batches, options.classes):
        table(batch, classes)


if __name__ == "__main__":
    main()
