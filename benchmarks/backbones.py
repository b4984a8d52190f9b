"""Size and cost of backbones of several families, counted and measured.

    python benchmarks/backbones.py [NAME ...]

Each backbone gets a class layer and one image of 375 x 500 pixels, in a process of its own, with
random weights. Operations (twice the multiply-adds) and parameters are counted on the meta device:
nothing is computed. Memory is the peak of the process in a forward pass, minus that before the
network was created. Prints a Markdown table.
"""

import argparse
import multiprocessing
import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.models.architectures import default_architecture
from pipeline.models.classifier import CamClassifier, create_classifier
from pipeline.resources.network import Network
from pipeline.resources.operations import count

HEIGHT, WIDTH = 375, 500
#: A network of each family.
NAMES = (
    "resnet50", "resnest50d", "regnety_032", "convnextv2_tiny", "tf_efficientnet_lite2",
    "mobilenetv4_conv_medium", "densenet121", "hrnet_w18", "swin_tiny_patch4_window7_224",
    "pvt_v2_b2", "vit_small_patch16_224", "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3", "vit_base_patch16_clip_224", "eva02_small_patch14_224",
)  # fmt: skip
HEAD = (
    "family", "parameters, 10^6", "pixels per cell", "channels", "10^9 operations", "memory, MiB",
    "segmentation network",
)  # fmt: skip


def row(name: str) -> list[str]:
    """Return the cells of a backbone."""
    size = count(Network(name))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        memory = pool.apply(memory_of, (name,))
    return [
        name, f"{size.parameters / 1e6:.0f}", f"{size.stride:.0f}", f"{size.channels}",
        f"{operations_of(name) / 1e9:.0f}", f"{memory:.0f}", default_architecture(name),
    ]  # fmt: skip


def operations_of(name: str) -> float:
    """Count the operations of a forward pass of an image."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), counter, torch.no_grad():
        _classifier(name)(torch.zeros(1, 3, HEIGHT, WIDTH))
    return float(counter.get_total_flops())


def memory_of(name: str) -> float:
    """Measure the MiB of a network and a forward pass of an image, in a process of its own."""
    torch.set_num_threads(1)
    before = _peak()
    with torch.no_grad():
        _classifier(name)(torch.zeros(1, 3, HEIGHT, WIDTH))
    return _peak() - before


def _classifier(name: str) -> CamClassifier:
    settings = {"backbone": name, "output_stride": None, "pretrained": False, "pooling": "gap"}
    return create_classifier(settings, 20).eval()


def _peak() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=NAMES, help="timm model names")
    options = parser.parse_args(arguments)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name in options.names:
        print(f"| {' | '.join(row(name))} |", flush=True)


if __name__ == "__main__":
    main()
