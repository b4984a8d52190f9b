"""Quantities that the costs of several rules are made of."""

from collections.abc import Mapping
from typing import Any

from pipeline.resources.dataset import Dataset

MEBIBYTE = 2**20
#: MiB of a process with torch, timm and Lightning (984), and of one with NumPy and OpenCV (180).
WITH_TORCH, WITHOUT_TORCH = 1000, 200
#: MiB of a process that has started CUDA. Not measured: a guess.
WITH_CUDA = 3000
#: Ratio of resident memory to tensors kept by autograd (1.14 to 1.24), and to a layer's tensors.
TRAINING_FACTOR, INFERENCE_FACTOR = 1.25, 1.3
#: Bytes of the dense CRF per pixel (313), and per pixel and class (82).
CRF_PIXEL, CRF_CLASS = 350, 90
#: Pixels of a cell of the maps at a stride of 4, and bytes of a cell for each class.
CELL, MAP_BYTES = 16, 2
#: Bytes per pixel of a label image's PNG (measured .031 on photographs), and bytes of a weight.
PNG_BYTES, WEIGHT_BYTES = 0.04, 4
#: Bytes of a stored feature of a linear probe.
STORED_BYTES = 2


def crf_bytes(dataset: Dataset, classes: int) -> float:
    """Return the bytes of a dense CRF on the largest image; a graph cut takes less."""
    height, width = dataset.largest
    return height * width * (CRF_PIXEL + CRF_CLASS * (classes + 1))


def crf_work(settings: Mapping[str, Any] | None, dataset: Dataset, labels: float) -> float:
    """Return pixels x labels x iterations of the CRF of an image; 0 without a CRF."""
    return pixels(dataset) * labels * settings["iterations"] if settings else 0.0


def map_bytes(dataset: Dataset) -> float:
    """Return the bytes of the maps of an image."""
    return pixels(dataset) / CELL * MAP_BYTES * dataset.labels


def png_bytes(dataset: Dataset) -> float:
    """Return the bytes of a label image."""
    return pixels(dataset) * PNG_BYTES


def pixels(dataset: Dataset) -> int:
    """Return the number of pixels of an image of mean size."""
    height, width = dataset.size
    return height * width
