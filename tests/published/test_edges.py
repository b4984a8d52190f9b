"""Boundary maps of the published boundary network (of IRN, as in the code of Puzzle-CAM)."""

import numpy as np
import pytest
import torch

from pipeline.models.boundary import boundary_map
from pipeline.models.views import Views
from tests.published.data import WAYS, boundary_network, load, normalized, settings

#: Three times what rounding does to the published edges.
TOLERANCE = 5e-5


def test_edges_of_a_training_crop():
    data = load("a_edges")
    with torch.no_grad():
        edges = boundary_network()(normalized(data["crop"]))[0]
    assert np.abs(edges.numpy() - data["edges_crop"]).max() < TOLERANCE


@pytest.mark.parametrize("way", WAYS)
def test_edges_of_an_image_padded_to_the_crop(way):
    data = load("a_edges")
    augmentation = settings()["affinity"]["augmentation"]
    seen = {key: augmentation[key] for key in ("crop", "interpolation")}
    views = Views.from_settings(settings()["random_walks"]["rw"])
    expected = data[f"edges_{way}"]

    edges = boundary_map(boundary_network(**seen), data[f"image_{way}"], expected.shape, views)

    assert np.abs(edges.numpy() - expected).max() < TOLERANCE
