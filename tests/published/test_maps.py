"""Class activation maps of the published code, at a stride of 4 and at full resolution."""

import numpy as np
import pytest
import torch

from pipeline.attribution.cam import cam
from pipeline.attribution.fusion import FusedMaps, fuse
from pipeline.io.arrays import ClassMaps
from pipeline.models.views import Views
from pipeline.refinement.labels import label_by_scores
from tests.published.data import WAYS, classifier, load, normalized, settings

#: Three times what rounding does to the published maps, and half a step of float16.
TOLERANCE = 5e-4


def fused(way: str) -> FusedMaps:
    """Return the maps of one image with the published settings."""
    data = load("c_cam")
    section = settings()["attributions"]["cam"]
    views = Views.from_settings(section)
    options = {key: section[key] for key in ("stride", "full_resolution")}
    numbers = data[f"numbers_{way}"].astype(np.int64)
    return fuse(cam, classifier(), data[f"image_{way}"], numbers, views, **options)


def test_class_maps_of_one_pass():
    data = load("c_cam")
    with torch.no_grad():
        maps = classifier()(normalized(data["image_landscape"])).maps[0]
    assert np.abs(maps.numpy() - data["maps_one_pass"]).max() < 8e-4


@pytest.mark.parametrize("way", WAYS)
def test_fused_maps_and_the_labels_of_them(way):
    data, found = load("c_cam"), fused(way)
    assert np.abs(found.values - data[f"cam_{way}"]).max() < TOLERANCE
    expected = data[f"hr_cam_{way}"]
    assert np.abs(found.full - expected).max() < TOLERANCE

    size = data[f"image_{way}"].shape[:2]
    numbers = data[f"numbers_{way}"].astype(np.int64)
    maps = ClassMaps(numbers, found.values, size, found.agreement, found.full)
    background = settings()["refinements"]["threshold"]["background"]
    rule = {key: background[key] for key in ("rule", "value")}
    labels = label_by_scores(maps, None, background=rule, crf=None).initial
    by_hand = np.where(expected.max(axis=0) > rule["value"], 1 + expected.argmax(axis=0), 0)
    assert (labels != by_hand).mean() < 1e-3
