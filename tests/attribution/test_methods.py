"""Properties of all attribution methods."""

import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.attribution import METHODS
from pipeline.attribution.fusion import fuse
from pipeline.io.images import resize
from pipeline.models.classifier import create_classifier
from pipeline.models.views import Views
from tests.helpers.photographs import photograph
from tests.helpers.training import NETWORK

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def create(pooling="gap"):
    torch.manual_seed(0)
    return create_classifier(NETWORK | {"pooling": pooling}, 4)


def picture(size=64):
    return photograph("chelsea", size, size)


def fused(method, network, image, scales=(0.5, 1.0), stride=4):
    views = Views(scales, flip=True)
    return fuse(method, network, image, np.array([1, 3]), views, stride=stride).values


@every_method
@pytest.mark.parametrize("pooling", ["gap", "gmp"])
def test_maps_are_nonnegative_with_one_map_for_each_image_and_class(method, pooling):
    images = torch.randn(2, 3, 64, 48)
    maps = method(create(pooling).eval(), images, torch.tensor([3, 0, 2]))
    assert maps.shape[:2] == (2, 3) and maps.dtype == torch.float32
    assert maps.min() >= 0 and maps.max() > 0
    assert not maps.requires_grad


@every_method
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_network_and_the_images_are_left_as_they_were(method, frozen, training):
    """Also one in training mode, with frozen batch norms."""
    network = create().requires_grad_(not frozen).train(training)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # a training one would change by any forward pass
    images = torch.randn(2, 3, 32, 32)
    kept = images.clone()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    method(network, images, torch.tensor([1]))
    assert torch.equal(images, kept) and not images.requires_grad and images.grad is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(p.grad is None and p.requires_grad != frozen for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert not any(m._backward_hooks or m._backward_pre_hooks for m in network.modules())
    assert torch.is_grad_enabled()


@every_method
def test_images_and_classes_do_not_mix(method):
    network, images = create().eval(), torch.randn(2, 3, 64, 64)
    together = method(network, images, torch.tensor([0, 1, 2]))
    alone = method(network, images[1:], torch.tensor([1]))
    torch.testing.assert_close(together[1:, 1:2], alone, rtol=1e-3, atol=1e-6)


@every_method
def test_mirroring_the_image_mirrors_its_maps(method):
    network, image = create().eval(), picture()
    maps = fused(method, network, image)
    mirrored = fused(method, network, image[:, ::-1].copy())
    assert maps.max() == 1
    np.testing.assert_allclose(mirrored[:, :, ::-1], maps, atol=3e-3)


@every_method
def test_a_scale_of_the_image_is_the_image_of_that_size(method):
    network, large = create().eval(), picture(128)
    scaled = fused(method, network, large, scales=(0.5,), stride=8)
    small = fused(method, network, resize(large, (64, 64)), scales=(1.0,), stride=4)
    np.testing.assert_allclose(scaled, small, atol=2e-3)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "grad-cam-pp"])
def test_the_scale_of_the_class_layer_does_not_matter(name):
    """But for Grad-CAM++, whose weights are not in proportion to the gradients."""
    network = create().eval()
    maps = fused(METHODS[name], network, picture())
    with torch.no_grad():
        network.head.weight *= 8
    np.testing.assert_allclose(fused(METHODS[name], network, picture()), maps, atol=2e-3)


class Tiny(nn.Module):
    """The smallest possible classifier, so that a thousand calls are fast."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head = nn.Conv2d(4, 2, 1)
        self.pooling = "gap"

    def forward(self, images):
        maps = self.head(self.backbone(images))
        return SimpleNamespace(logits=maps.mean(dim=(2, 3)), maps=maps)


@every_method
def test_repeated_calls_do_not_leak_memory(method):
    network, image = Tiny().eval(), torch.randn(1, 3, 8, 8)

    def living() -> int:
        method(network, image, torch.tensor([0]))
        gc.collect()
        return len(gc.get_objects())

    before = living()
    for _ in range(1000):
        method(network, image, torch.tensor([0]))
    assert living() <= before + 10  # the interpreter's own
