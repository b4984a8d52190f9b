from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.attribution.class_model import class_models
from pipeline.models.classifier import create_classifier
from tests.helpers.training import NETWORK

SETTINGS = {"size": 16, "steps": 40, "learning_rate": 0.05, "decay": 0.0}


class Linear(nn.Module):
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.25, 0.25)

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images):
        return SimpleNamespace(logits=torch.einsum("nchw,kchw->nk", images, self.weights))


def test_the_ascent_on_a_linear_score_goes_along_its_weights():
    torch.manual_seed(0)
    weights = torch.randn(3, 3, 16, 16) / 4
    model = Linear(weights)
    settings = SETTINGS | {"steps": 3, "learning_rate": 0.1}
    found = class_models(model, torch.tensor([2, 0]), **settings)
    for picture, number in zip(found, (2, 0), strict=True):
        unit = weights[number] / weights[number].square().mean().sqrt()
        mean = torch.tensor(model.mean).view(3, 1, 1)
        torch.testing.assert_close(picture, (3 * 0.1 * unit * 0.25 + mean).clamp(0, 1))


def test_decay_converges_where_score_and_norm_balance():
    # d/dI (<w, I> - decay |I|^2) = 0 at I = w / (2 decay): here 0.6 everywhere.
    model = Linear(torch.full((1, 3, 4, 4), 0.6))
    settings = {"size": 4, "steps": 400, "learning_rate": 0.01, "decay": 0.5}
    found = class_models(model, torch.tensor([0]), **settings)
    mean = torch.tensor(model.mean).view(3, 1, 1)
    torch.testing.assert_close(found[0], (0.6 * 0.25 + mean).expand(3, 4, 4), atol=0.01, rtol=0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = create_classifier(NETWORK, 3).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # as trained ones: with none, black is a point of rest
            nn.init.normal_(parameter, std=0.1)
    return model


def scores(network, pictures):
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (network.mean, network.std))
    with torch.no_grad():
        return network((pictures - mean) / std).logits


def test_a_class_model_scores_higher_for_its_class_than_the_mean_image(network):
    found = class_models(network, torch.arange(3), **(SETTINGS | {"size": 32}))
    gray = torch.tensor(network.mean).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    gain = scores(network, found) - scores(network, gray)
    assert (gain.diagonal() > 0).all()
    assert gain.diagonal().mean() > 2 * gain.abs().mean() / 3
    assert found.min() >= 0 and found.max() <= 1


def test_classes_do_not_mix(network):
    together = class_models(network, torch.arange(3), **SETTINGS)
    alone = class_models(network, torch.tensor([1]), **SETTINGS)
    torch.testing.assert_close(together[1:2], alone, atol=1e-3, rtol=0)


def test_jitter_is_seeded_and_blur_smooths(network):
    first, second, other = (
        class_models(network, torch.tensor([0]), **SETTINGS, jitter=3, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    sharp, soft = (
        class_models(network, torch.tensor([0]), **SETTINGS, blur=blur) for blur in (0, 1.0)
    )
    assert soft.diff(dim=3).abs().mean() < 0.7 * sharp.diff(dim=3).abs().mean()


def test_the_network_is_left_as_it_was(network):
    class_models(network, torch.tensor([0]), **(SETTINGS | {"steps": 2}))
    assert all(parameter.grad is None for parameter in network.parameters())
