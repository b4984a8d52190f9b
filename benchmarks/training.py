"""Training steps of Puzzle-CAM: published code, and the training loop of this pipeline.

    python benchmarks/training.py [--backbone NAME] [--crop 512] [--batch 4] [--device cuda]

The reference is the published code of Puzzle-CAM: NCHW, fp32, its own augmentation in PyTorch's
loader. The whole images pass the network, then the tiles; then follow the losses, the backward
pass and PyTorch's SGD. Ours is `pipeline.training.loop.train` with the same losses, optimizer and
number of workers. Both load the same image files during training. Prints a Markdown table.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.inference import make_network
from benchmarks.machine import WITH_BACKWARD, add_side, operations, print_shares, synchronize
from benchmarks.published import our_images, published_loader, repeated
from benchmarks.turns import (
    Way,
    Work,
    add_network_options,
    image_files,
    machine_line,
    make_parser,
    network_of,
)
from pipeline.config.resolve import resolve
from pipeline.models.classifier import CamClassifier
from pipeline.runtime.device import make_fabric
from pipeline.training.loop import train
from pipeline.training.losses import classification_step
from pipeline.training.optimization import make_optimizer
from pipeline.training.puzzle import alpha_at
from pipeline.training.task import Recipe, Task

#: Low, so that training from random weights stays stable for any number of steps.
LEARNING_RATE = 1e-4


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe of Puzzle-CAM for one epoch, with all defaults."""
    own = {"preset": "puzzle-cam", "backbone": network_of(options), "pretrained": False}
    own |= {"epochs": 1, "batch_size": options.batch, "precision": options.precision}
    own |= {"accumulate": 1}  # a whole step at once, as in the reference
    own |= {"optimizer": {"learning_rate": LEARNING_RATE}, "augmentation": {"crop": options.crop}}
    config = resolve(
        {
            "experiment": "benchmark",
            "dataset": {"kind": "demo"},
            "classifiers": {"puzzle": own},
            "attributions": {"cam": {}},
            "refinements": {
                "plain": {"background": {"value": 0.1, "threshold_source": "for nothing"}}
            },
            "pseudo_labels": ["puzzle/cam/plain"],
        }
    )
    settings: dict[str, Any] = config["classifiers"]["puzzle"]
    return settings


def published_tiles(images: Tensor) -> Tensor:
    """Cut images into four tiles by concatenating slices, as in published code."""
    height, width = images.shape[2] // 2, images.shape[3] // 2
    halves = [images[:, :, :height], images[:, :, height:]]
    return torch.cat([part for half in halves for part in (half[..., :width], half[..., width:])])


def published_merge(tiles: Tensor) -> Tensor:
    """Merge four tiles per image as in published code."""
    first, second, third, fourth = tiles.chunk(4)
    rows = [torch.cat([first, second], dim=3), torch.cat([third, fourth], dim=3)]
    return torch.cat(rows, dim=2)


def published_loss(model: CamClassifier, images: Tensor, targets: Tensor, alpha: float) -> Tensor:
    """Compute the loss of a batch in the order of published code.

    Parameters
    ----------
    model : CamClassifier
    images : (N, 3, H, W) float tensor
    targets : (N, C) float tensor
        Labels, 0 or 1.
    alpha : float
        Weight of the reconstruction loss.

    Returns
    -------
    () float tensor
    """
    logits, maps = model(images)
    merged = published_merge(model(published_tiles(images)).maps)
    merged_logits = merged.flatten(2).mean(dim=2)
    loss = F.multilabel_soft_margin_loss(logits, targets)
    loss_pieces = F.multilabel_soft_margin_loss(merged_logits, targets)
    reconstruction = ((maps - merged).abs() * targets[:, :, None, None]).mean()
    total: Tensor = loss + loss_pieces + alpha * reconstruction
    return total


def published(options: argparse.Namespace) -> Work:
    """Prepare the process of the reference."""
    torch.set_num_threads(options.threads)
    settings, device = settings_of(options), options.device
    model = make_network(network_of(options)).to(device)
    optimizer = make_optimizer(model, model.head, settings["optimizer"])
    alpha, ramp = settings["puzzle"]["alpha"], settings["puzzle"]["ramp"]

    def work(files: Sequence[Path]) -> None:
        model.train()
        steps = len(files) // options.batch
        for index, batch in enumerate(published_loader(files, options, options.loaders)):
            images, targets = (part.to(device) for part in batch)
            loss = published_loss(model, images, targets, alpha_at(index / steps, alpha, ramp))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()
        synchronize(device)

    return work


def ours(options: argparse.Namespace) -> Work:
    """Prepare the process of this pipeline; it returns the seconds from its training history."""
    settings = settings_of(options)
    on_gpu = options.device == "cuda"
    fabric = make_fabric(options.precision, options.threads, gpus=int(on_gpu))
    model = make_network(network_of(options))

    def work(files: Sequence[Path]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            images, step = our_images(files, options.crop), classification_step(settings["puzzle"])
            _, history = train(
                Task(model, model.head, images, step),
                Recipe(settings, seed=0),
                fabric=fabric,
                checkpoint=Path(folder) / "checkpoint.safetensors",
                fingerprint="",
                workers=options.loaders,
            )
        return history[0]["seconds"]

    return work


def operations_of(backbone: str, crop: int) -> float:
    """Count the operations per image of a training step, forward and backward."""
    with torch.device("meta"), torch.no_grad():
        model, images = make_network(backbone), torch.empty(1, 3, crop, crop)
        tiles = published_tiles(images)
        return WITH_BACKWARD * operations(lambda: (model(images), model(tiles)))


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = make_parser(__doc__, seconds=60)
    add_network_options(parser, batch=4)
    parser.add_argument("--steps", type=int, default=2, help="steps per turn")
    add_side(parser)
    options = parser.parse_args(arguments)
    ways = [Way("published order", published), Way("ours", ours)]
    with image_files(options) as files:
        print(f"{machine_line(options)}, {network_of(options)}, ours in {options.precision}, ")
        print(f"crops of {options.crop}, batches of {options.batch}")
        needed = operations_of(network_of(options), options.crop)
        items = repeated(files, options.batch * options.steps)
        print_shares(ways, items, options, needed)


if __name__ == "__main__":
    main()
