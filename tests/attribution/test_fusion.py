import numpy as np
import pytest
import torch

from pipeline.attribution import METHODS
from pipeline.attribution.cam import cam
from pipeline.attribution.fusion import fuse
from pipeline.io.images import normalize, resize
from pipeline.models.classifier import create_classifier
from pipeline.models.views import Views
from tests.helpers.photographs import NAMES, photograph
from tests.helpers.training import NETWORK


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_classifier(NETWORK, 4).eval()


def picture(height, width, seed=0):
    return photograph(NAMES[seed], height, width)


def brightness(model, images, classes):
    """Stand in for a method: class k sees the images' brightness to the power k."""
    light = images.mean(dim=1, keepdim=True) * torch.tensor(model.std).mean() + 0.5
    return light.clamp(0, 1) ** (classes + 1).view(1, -1, 1, 1)


def test_cam_is_the_positive_part_of_the_wanted_class_maps(model):
    images = torch.randn(2, 3, 48, 32)
    with torch.no_grad():
        features = model.backbone.forward_features(images).double()
    weight = model.head.weight.detach()[[3, 0], :, 0, 0].double()
    expected = torch.einsum("kc,nchw->nkhw", weight, features).clamp(min=0)
    maps = cam(model, images, torch.tensor([3, 0]))
    torch.testing.assert_close(maps.double(), expected, rtol=1e-4, atol=1e-5)
    assert maps.shape == (2, 2, 3, 2)
    assert expected.max() > 0


@pytest.mark.parametrize("size", [(64, 48), (37, 51), (1, 1), (5, 200)])
def test_maps_have_one_cell_per_stride_and_a_maximum_of_one(model, size):
    maps = fuse(brightness, model, picture(*size), np.array([1, 3]), Views(), stride=4).values
    assert maps.dtype == np.float16
    assert maps.shape == (2, -(-size[0] // 4), -(-size[1] // 4))
    assert maps.max(axis=(1, 2)).tolist() == [1, 1]
    assert maps.min() >= 0


def test_an_image_without_labels_has_no_maps(model):
    found = fuse(METHODS["cam"], model, picture(9, 9), np.array([], np.int64), Views(), stride=4)
    assert found.values.shape == (0, 3, 3) and found.agreement.shape == (0,)


def test_scales_are_summed_before_normalization(model):
    def of_size(_model, images, classes):
        height = images.shape[2]
        maps = torch.zeros(len(images), len(classes), 2, 1)
        maps[:, :, 0] = height  # the larger scale weighs more
        maps[:, :, 1] = 8.0
        return maps

    views = Views(scales=(1.0, 2.0))
    maps = fuse(of_size, model, picture(16, 8), np.array([1]), views, stride=8).values
    assert maps[0, :, 0].tolist() == pytest.approx([1.0, 16 / 48], abs=1e-3)


def test_a_class_without_evidence_stays_zero(model):
    def nothing(_model, images, classes):
        return torch.zeros(len(images), len(classes), 2, 2)

    maps = fuse(nothing, model, picture(8, 8), np.array([1]), Views(), stride=4).values
    assert maps.tolist() == np.zeros((1, 2, 2)).tolist()


def test_max_size_shrinks_what_the_network_sees_and_not_the_maps(model):
    seen = []

    def spy(_model, images, classes):
        seen.append(tuple(images.shape[2:]))
        return torch.ones(len(images), len(classes), 1, 1)

    views = Views(scales=(1.0, 0.5), max_size=20)
    maps = fuse(spy, model, picture(40, 80), np.array([1]), views, stride=4).values
    assert seen == [(10, 20), (5, 10)]
    assert maps.shape == (1, 10, 20)


def test_full_maps_reach_over_the_border_by_whole_cells_and_are_cut(model):
    # Two cells of 16 pixels over a width of 18, the second one's center at 24. At pixel centers
    # x + .5 the ramp from 8 to 24 is (x - 7.5) / 16: .59375 at x = 17, the maximum.
    def step(_model, images, classes):
        maps = torch.zeros(len(images), len(classes), 6, 2)
        maps[..., 1] = 1
        return maps

    found = fuse(
        step, model, picture(96, 18), np.array([1]), Views(), stride=4, full_resolution=True
    )
    ramp = np.clip((np.arange(18) - 7.5) / 16, 0, 1)
    assert found.full.shape == (1, 96, 18) and found.full.dtype == np.float16
    assert found.full[0, 50] == pytest.approx(ramp / 0.59375, abs=1e-3)


def test_full_maps_of_an_image_without_labels_have_its_size(model):
    none = np.array([], np.int64)
    found = fuse(
        METHODS["cam"], model, picture(9, 7), none, Views(), stride=4, full_resolution=True
    )
    assert found.full.shape == (0, 9, 7) and found.values.shape == (0, 3, 2)


def test_maps_are_full_only_where_they_are_asked_for(model):
    image, classes = picture(40, 33), np.array([2])
    found = fuse(METHODS["cam"], model, image, classes, Views(), stride=4)
    assert found.full is None
    views = Views(scales=(0.5, 1.0))
    both = fuse(METHODS["cam"], model, image, classes, views, stride=4, full_resolution=True)
    assert both.full.max() == 1 and both.full.min() >= 0


def test_a_network_is_shown_images_resized_by_its_own_filter(model, monkeypatch):
    shown = []

    def spy(_model, images, classes):
        shown.append(images)
        return torch.ones(len(images), len(classes), 1, 1)

    image = picture(40, 33)
    for name in ("bilinear", "bicubic"):
        monkeypatch.setattr(model, "interpolation", name)
        fuse(spy, model, image, np.array([1]), Views(scales=(0.5,)), stride=4)
    for name, seen in zip(("bilinear", "bicubic"), shown, strict=True):
        expected = normalize(resize(image, (20, 16), name), model.mean, model.std)
        np.testing.assert_array_equal(seen[0].numpy(), expected)
    assert not torch.equal(*shown)
