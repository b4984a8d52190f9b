"""Generate the demo data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets import demo as demo_dataset
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def generate_demo(*, train: int, val: int, size: int, seed: int, demo: Path) -> None:
    """Write images, exact masks and labels in the layout of the VOC devkit.

    Parameters
    ----------
    train, val : int
        Number of images of each split.
    size : int
        Height and width in pixels.
    seed : int
        Seed of the images.
    demo : Path
        Output: the folder.
    """
    demo_dataset.generate_demo(demo, train=train, val=val, size=size, seed=seed)


if __name__ == "__main__":
    run_stage(generate_demo, snakemake)
