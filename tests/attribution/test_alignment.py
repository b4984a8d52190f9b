"""Maps whose cells are placed at the centers of their receptive fields."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.attribution import METHODS
from pipeline.attribution.fusion import fuse
from pipeline.models.cell_centers import CellCenters, Centers
from pipeline.models.classifier import create_classifier
from pipeline.models.views import Views
from tests.helpers.photographs import NAMES, photograph

#: Backbones by the kind of their padding.
BACKBONES = {
    "symmetric": ("resnet18", "layer3"),
    "as TensorFlow": ("tf_efficientnet_lite0", "blocks.4"),
}


SINGLE = Views()


class Fixed:
    """Centers of a network of stride 8 that looks at the same place of every square."""

    def __init__(self, first):
        self.first = first

    def of_side(self, pixels, axis):
        return Centers(self.first, 8.0)


@pytest.fixture(scope="module", params=BACKBONES)
def model(request):
    """Return a network whose filters are symmetric, so that only its geometry turns maps."""
    name, layer = BACKBONES[request.param]
    torch.manual_seed(0)
    shape = {"backbone": name, "last_layer": layer, "output_stride": 16}
    model = create_classifier(shape | {"pretrained": False, "pooling": "gap"}, 4).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 4:
                weight.copy_(sum(weight.flip(d) for d in ((), (2,), (3,), (2, 3))) / 4)
    return model


@pytest.fixture(scope="module")
def centers(model):
    return CellCenters(model.backbone)


def maps_of(model, image, centers, views=SINGLE, **options):
    classes = np.array([1, 2, 3, 4])
    found = fuse(METHODS["cam"], model, image, classes, views, stride=4, centers=centers, **options)
    return (found.values if found.full is None else found.full).astype(np.float64)


def flip_error(model, image, centers, axis):
    """Return the mean distance of the mirror image's maps from the mirrored maps."""
    maps = maps_of(model, image, centers, full_resolution=True)
    mirrored = np.ascontiguousarray(np.flip(image, axis))
    others = maps_of(model, mirrored, centers, full_resolution=True)
    return float(np.abs(np.flip(others, axis + 1) - maps).mean())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirrored_photograph_has_mirrored_maps(model, centers, name, axis):
    # Cells lie symmetrically in sides of 16 k + 1 pixels, so that nothing else can differ.
    image = photograph(name, 161, 177)
    assert flip_error(model, image, centers, axis) < 1e-3
    assert flip_error(model, image, None, axis) > 0.02


@pytest.mark.parametrize("size", [(150, 200), (320, 320)])
def test_maps_of_mirrored_photographs_differ_less(model, centers, size):
    images = [photograph(name, *size) for name in NAMES]
    with_centers, without = (
        np.mean([flip_error(model, image, used, axis) for image in images for axis in (0, 1)])
        for used in (centers, None)
    )
    assert with_centers < 0.9 * without


def brightness(first):
    """Return a method that sees the brightness of the pixels at its cells' centers."""

    def method(model, images, classes):
        seen = images[:, :1, first::8, first::8] * model.std[0] + model.mean[0]
        return (255 * seen).expand(-1, len(classes), -1, -1)

    return method


@settings(deadline=None, max_examples=40)
@given(
    first=st.integers(0, 7),
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    stride=st.integers(1, 8),
    flip=st.booleans(),
)
def test_a_linear_image_is_restored_between_the_outermost_centers(
    photographer, first, height, width, stride, flip
):
    rows, columns = np.mgrid[:height, :width]
    image = np.repeat((rows + columns)[..., None], 3, axis=2).astype(np.uint8)
    found = fuse(
        brightness(first), photographer, image, np.array([1]), Views(flip=flip), stride=stride,
        centers=Fixed(first),
    ).values[0].astype(np.float64)  # fmt: skip
    # Centers of the stored cells, and whether they lie between centers of the network's cells, in
    # the mirror image too.
    places = [stride * (np.arange(n) + 0.5) - 0.5 for n in found.shape]
    inside = [
        _between(p, side, first) & (not flip or axis == 0 or _between(side - 1 - p, side, first))
        for axis, (p, side) in enumerate(zip(places, (height, width), strict=True))
    ]
    seen = np.ix_(*inside)
    expected = (places[0][:, None] + places[1])[seen]
    if expected.size:
        # Maps are divided by their maximum, which may lie outside.
        scale = found[seen][-1, -1] / expected[-1, -1]
        np.testing.assert_allclose(found[seen], expected * scale, atol=2e-3)


def _between(places, side, first):
    last = first + (len(range(first, side, 8)) - 1) * 8
    return (first <= places) & (places <= last)


@pytest.fixture(scope="module")
def photographer():
    shape = {"backbone": "test_resnet", "output_stride": 16, "pretrained": False}
    return create_classifier(shape | {"pooling": "gap"}, 1).eval()


@pytest.mark.parametrize("flip", [False, True])
def test_a_symmetric_object_stays_in_the_middle(model, centers, flip):
    rows, columns = np.mgrid[:160, :160] - 79.5
    disc = np.hypot(rows, columns) < 40
    image = np.where(disc[..., None], photograph("coffee", 160, 160), 128).astype(np.uint8)
    image = np.maximum(image, np.flip(image, 1))
    image = np.maximum(image, np.flip(image, 0))
    views = Views(scales=(1.0,), flip=flip)
    offsets = []
    for used in (None, centers):
        maps = maps_of(model, image, used, views).sum(axis=0)
        blank = maps_of(model, np.full_like(image, 128), used, views).sum(axis=0)
        change = np.abs(maps - blank)
        offsets.append(abs((change * np.arange(40)[:, None]).sum() / change.sum() - 19.5) * 4)
    assert offsets[1] < 0.6 * offsets[0]


def test_maps_without_centers_are_those_of_evenly_distributed_cells(model):
    # A network of the middles of its cells, in an image of whole cells, needs no alignment.
    image = photograph("chelsea", 64, 80)

    class Middles:
        def of_side(self, pixels, axis):
            return Centers(7.5, 16.0)

    views = Views(scales=(1.0, 2.0), flip=True)
    for options in ({}, {"full_resolution": True}):
        even, aligned = (
            maps_of(model, image, used, views, **options) for used in (None, Middles())
        )
        np.testing.assert_allclose(aligned, even, atol=2e-3)


def test_maps_of_an_image_of_one_pixel_are_legal(model, centers):
    image = photograph("rocket", 1, 1)
    assert maps_of(model, image, centers, full_resolution=True).shape == (4, 1, 1)
