import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from torch import nn

from pipeline.attribution.fusion import fuse
from pipeline.attribution.saliency import crop_windows, saliency
from pipeline.models.classifier import create_classifier
from pipeline.models.views import Views
from tests.helpers.training import NETWORK


class Linear(nn.Module):
    """A classifier whose scores are linear in the image: S_c = <w_c, I>."""

    mean, std, interpolation = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear"

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images):
        return SimpleNamespace(logits=torch.einsum("nchw,kchw->nk", images, self.weights))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_classifier(NETWORK, 3).eval()


def test_saliency_of_a_linear_model_is_its_largest_weight():
    torch.manual_seed(0)
    weights = torch.randn(3, 3, 6, 8)
    images = torch.randn(2, 3, 6, 8)
    maps = saliency(Linear(weights), images, torch.tensor([2, 0]), crops=1)
    expected = weights[[2, 0]].abs().amax(dim=1)
    assert torch.equal(maps, expected.expand(2, 2, 6, 8))


def test_crop_maps_are_placed_where_the_crops_were_cut():
    class Brightest(nn.Module):
        """The derivative of half the squares is the image itself, wherever it is cut."""

        def forward(self, images):
            return SimpleNamespace(logits=images.square().sum(dim=(1, 2, 3))[:, None] / 2)

    image = torch.rand(1, 3, 9, 14)
    maps = saliency(Brightest(), image, torch.tensor([0]), crops=5, crop_share=0.6)
    torch.testing.assert_close(maps[:, 0], image.amax(dim=1))


@pytest.mark.parametrize("share", [0.5, 0.875, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (31, 64)])
def test_five_crops_cover_the_image_and_one_is_the_image(size, share):
    covered = np.zeros(size, int)
    windows = crop_windows(size, 5, share)
    for rows, columns in windows:
        covered[rows, columns] += 1
    assert covered.min() >= 1 and len(windows) == 5
    assert len({(r.stop - r.start, c.stop - c.start) for r, c in windows}) == 1
    assert crop_windows(size, 1, share) == [(slice(0, size[0]), slice(0, size[1]))]


def test_it_agrees_with_captum(network):
    images = torch.randn(2, 3, 48, 64)
    maps = saliency(network, images, torch.tensor([1, 2]), crops=1)
    peer = Saliency(lambda x: network(x).logits)
    for position, number in enumerate((1, 2)):
        expected = peer.attribute(images.clone().requires_grad_(), target=number, abs=True).amax(
            dim=1
        )
        torch.testing.assert_close(maps[:, position], expected, rtol=1e-4, atol=1e-7)


def test_smooth_grad_has_captums_mean_where_there_is_no_noise_and_its_own_with_noise(network):
    image = torch.randn(1, 3, 32, 32)
    plain = saliency(network, image, torch.tensor([0]), crops=1)
    still = {"samples": 3, "noise": 1e-9}
    same = saliency(network, image, torch.tensor([0]), crops=1, smooth_grad=still)
    torch.testing.assert_close(same, plain, rtol=1e-3, atol=1e-6)
    noisy = {"samples": 200, "noise": 0.1}
    smooth = saliency(network, image, torch.tensor([0]), crops=1, smooth_grad=noisy)
    torch.manual_seed(3)
    deviation = 0.1 * float(image.max() - image.min())
    peer = NoiseTunnel(Saliency(lambda x: network(x).logits))
    expected = peer.attribute(
        image.clone().requires_grad_(),
        nt_type="smoothgrad",
        nt_samples=200,
        stdevs=deviation,
        target=0,
        abs=False,
    )
    both = torch.stack([smooth[0, 0], expected.abs().amax(dim=1)[0]]).flatten(1)
    # Two draws of 200: they agree with each other far better than with the plain map.
    assert torch.corrcoef(both)[0, 1] > 0.9
    assert (smooth - plain).abs().max() > 10 * (same - plain).abs().max()


def test_smooth_grad_repeats(network):
    image = torch.randn(1, 3, 32, 32)
    settings = {"samples": 2, "noise": 0.2}
    first, second = (
        saliency(network, image, torch.tensor([0]), smooth_grad=settings) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_images_of_a_batch_and_parts_of_it_do_not_mix(network, monkeypatch):
    images = torch.randn(2, 3, 32, 48)
    together = saliency(network, images, torch.tensor([0, 1]))
    # The package's attribute of that name is the function, not its module.
    monkeypatch.setattr(sys.modules["pipeline.attribution.saliency"], "PIXELS_AT_ONCE", 1)
    alone = torch.cat([saliency(network, image[None], torch.tensor([0, 1])) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-6)


def test_a_map_of_pixels_is_averaged_over_the_cells():
    weights = torch.zeros(1, 3, 8, 8)
    weights[0, 0, 1, 1] = 1.0  # one sensitive pixel, off every cell's center
    image = np.zeros((8, 8, 3), np.uint8)
    method, model = partial(saliency, crops=1), Linear(weights)
    maps = fuse(method, model, image, np.array([1]), Views(), stride=4).values
    assert maps.shape == (1, 2, 2)
    assert maps[0].argmax() == 0 and maps[0, 0, 0] == 1
