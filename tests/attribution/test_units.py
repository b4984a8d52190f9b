import pytest
import torch

from pipeline.attribution.units import class_units, most_active_images, unit_maps
from pipeline.models.classifier import create_classifier
from tests.helpers.training import NETWORK


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_classifier(NETWORK, 3).eval()


def test_units_of_the_highest_weight(network):
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[0, [5, 7], 0, 0] = torch.tensor([1.0, 3.0])
        network.head.weight[2, 4, 0, 0] = 2.0
    units, weights = class_units(network, 2)
    assert units[0].tolist() == [7, 5] and weights[0].tolist() == [3, 1]
    assert units[2, 0] == 4 and weights[2].tolist() == [2, 0]


def test_no_more_units_than_there_are(network):
    channels = network.head.weight.shape[1]
    assert class_units(network, channels + 5)[0].shape == (3, channels)


def test_maps_are_channels_of_the_features(network):
    image = torch.randn(1, 3, 48, 64)
    features = network.backbone.forward_features(image)[0]
    maps = unit_maps(network, image, torch.tensor([9, 2]))
    assert torch.equal(maps, features[[9, 2]]) and not maps.requires_grad
    # Their weighted sum is the class map.
    whole = unit_maps(network, image, torch.arange(features.shape[0]))
    weight = network.head.weight[1, :, 0, 0]
    torch.testing.assert_close(
        (weight[:, None, None] * whole).sum(0), network(image).maps[0, 1], rtol=1e-4, atol=1e-5
    )


def test_images_with_the_highest_activation_come_first():
    means = [torch.tensor([1.0, 5.0]), torch.tensor([3.0, 5.0]), torch.tensor([2.0, 9.0])]
    assert most_active_images(iter(means), 2).tolist() == [[1, 2], [2, 0]]
    assert most_active_images(iter(means), 9).shape == (2, 3)
