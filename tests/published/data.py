"""Stored outputs of the published code, and the settings and networks that must repeat them."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config.resolve import resolve
from pipeline.models.backbone import create_backbone
from pipeline.models.boundary import BoundaryNetwork
from pipeline.models.classifier import CamClassifier, create_classifier
from pipeline.models.segmentation_network import SegmentationNetwork, create_segmentation_network
from tests.helpers import REPOSITORY
from tests.published.weights import backbone_of, fill

#: PASCAL VOC's classes, without background.
CLASSES = 20
SCALES = (0.5, 1.0, 1.5, 2.0)
WAYS = ("landscape", "portrait")
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


@cache
def load(name: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of one file of published outputs, or skip the test where it is absent."""
    folder = Path(os.environ.get("WSSS_PUBLISHED", REPOSITORY.parent / "shared/data/published"))
    path = folder / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {folder}: set WSSS_PUBLISHED to the published outputs")
    with np.load(path, allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


@cache
def settings(experiment: str = "voc2012") -> dict[str, Any]:
    """Return an experiment's configuration, with presets and defaults; do not change it."""
    written = (REPOSITORY / f"experiments/{experiment}.yaml").read_text(encoding="utf-8")
    return resolve(yaml.safe_load(written))


def classifier() -> CamClassifier:
    """Create the classifier with the weights of the published outputs, in evaluation mode."""
    statistics = load("weights")
    model = create_classifier({**_network(), "pretrained": False}, CLASSES)
    return fill(model, statistics).eval()


def boundary_network(**more: Any) -> BoundaryNetwork:
    """Create the boundary network with the weights of the published outputs."""
    statistics = load("weights")
    shape = {key: _network()[key] for key in ("output_stride", "dilation", "last_layer")}
    backbone = create_backbone(_network()["backbone"], **shape)
    return fill(BoundaryNetwork(backbone, **more), statistics).eval()


def segmentation() -> SegmentationNetwork:
    """Create the segmentation network with the weights of the published outputs."""
    statistics = load("weights")
    model = create_segmentation_network(
        {**settings()["segmentation"], "pretrained": False}, CLASSES + 1
    )
    return fill(model, statistics).eval()


def normalized(image: NDArray[np.uint8]) -> Tensor:
    """Return an (H, W, 3) uint8 image as a (1, 3, H, W) float32 tensor, computed in float64."""
    scaled = ((image / 255.0 - MEAN) / STD).astype(np.float32)
    return torch.from_numpy(scaled.transpose(2, 0, 1).copy())[None]


def backbone_tensors(network: nn.Module) -> list[Tensor]:
    """Return the parameters of a network's backbone in order of definition."""
    return [p for part in backbone_of(network).modules() for p in part.parameters(recurse=False)]


def _network() -> dict[str, Any]:
    found: dict[str, Any] = settings()["classifiers"]["puzzle"]
    return found
