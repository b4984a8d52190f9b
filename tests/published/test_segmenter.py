"""The published DeepLabV3+: its layers, its logits, and its predictions over scales and mirrors."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models.inference import class_probabilities
from pipeline.models.views import Views
from tests.published.data import load, segmentation, settings
from tests.published.weights import checksum, layers_behind


def described(layer: nn.Module) -> str:
    """Return what a layer is, without its name, as the published outputs list it."""
    if isinstance(layer, nn.Conv2d):
        shape = "x".join(map(str, layer.weight.shape))
        dilation = f" dilation {layer.dilation[0]}" if layer.dilation[0] > 1 else ""
        return f"conv {shape}{dilation}" + (" bias" if layer.bias is not None else "")
    assert isinstance(layer, nn.GroupNorm)
    return f"norm {layer.num_channels} groups {layer.num_groups}"


def test_layers_behind_the_encoder_are_the_published_ones():
    data, layers = load("f_segmenter"), layers_behind(segmentation())
    assert Counter(map(described, layers)) == Counter(map(str, data["layers"]))
    assert checksum(layers) == pytest.approx(data["head_sum"], rel=1e-9)


def test_logits_of_a_tensor():
    data = load("f_segmenter")
    with torch.no_grad():
        logits = segmentation()(torch.from_numpy(data["tensor"])[None])[0].numpy()
    # Three times what rounding does to the published logits, of up to 2.7.
    assert np.abs(logits - data["logits"]).max() < 6e-4
    assert (logits.argmax(axis=0) != data["logits"].argmax(axis=0)).mean() < 1e-3


def test_predictions_over_scales_and_mirrors():
    data, prediction = load("f_segmenter_inference"), settings()["prediction"]
    views, fuse = Views.from_settings(prediction), prediction["fuse"]
    found = class_probabilities(segmentation(), data["image"], views, fuse=fuse)
    assert np.abs(found - data["probabilities"]).max() < 3e-4
    assert (found.argmax(axis=0) != data["labels"]).mean() < 1e-3
