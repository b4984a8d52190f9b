import pytest
import torch
from torch import nn

from pipeline.attribution.cam import cam
from pipeline.attribution.grad_cam import captured_output, grad_cam, grad_cam_pp
from pipeline.errors import UserError
from pipeline.models.classifier import create_classifier
from tests.helpers.training import NETWORK

METHODS = [grad_cam, grad_cam_pp]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_classifier(NETWORK, 4).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_under_average_pooling_grad_cam_is_cam_over_the_number_of_cells(network, images):
    classes = torch.tensor([3, 1])
    maps = cam(network, images, classes)
    torch.testing.assert_close(grad_cam(network, images, classes), maps / maps[0, 0].numel())
    assert maps.max() > 0


def loop(network, images, number, layer, plus):
    """Compute a class's maps by the definitions, channel by channel, in one backward pass."""
    kept = []
    module = dict(network.backbone.named_modules())[layer]
    handle = module.register_forward_hook(lambda _m, _i, output: kept.append(output))
    score = network(images).logits[:, number].sum()
    handle.remove()
    (gradients,) = torch.autograd.grad(score, kept[0])
    maps = []
    for activation, gradient in zip(kept[0].detach().double(), gradients.double(), strict=True):
        total = torch.zeros(activation.shape[1:], dtype=torch.float64)
        for a, g in zip(activation, gradient, strict=True):
            weight = g.mean()
            if plus:
                weight = torch.zeros((), dtype=torch.float64)
                for i in range(g.shape[0]):
                    for j in range(g.shape[1]):
                        below = 2 * g[i, j] ** 2 + a.sum() * g[i, j] ** 3
                        if below != 0:
                            weight += g[i, j] ** 2 / below * g[i, j].clamp(min=0)
            total += weight * a
        maps.append(total.clamp(min=0))
    return torch.stack(maps)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", ["layer2", "layer4"])
def test_maps_are_those_of_the_definition(network, images, method, layer):
    maps = method(network, images, torch.tensor([2, 0]), layer=layer)
    assert maps.max() > 0
    for position, number in enumerate((2, 0)):
        expected = loop(network, images, number, layer, method is grad_cam_pp)
        torch.testing.assert_close(
            maps[:, position].double(), expected, rtol=1e-3, atol=1e-5 * float(expected.max())
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pooling", ["gap", "gmp"])
def test_closed_form_of_the_last_layer_equals_its_gradients(images, method, pooling):
    """Without a layer, the maps of the last one are made without a backward pass."""
    torch.manual_seed(0)
    network = create_classifier(NETWORK | {"pooling": pooling}, 4).eval()
    classes = torch.tensor([3, 1, 0])
    for steepness in (1, 1e3):
        with torch.no_grad():
            network.head.weight *= steepness
        expected = method(network, images, classes, layer="layer4")
        assert expected.max() > 0
        scale = float(expected.max())
        torch.testing.assert_close(
            method(network, images, classes), expected, rtol=1e-3, atol=1e-5 * scale
        )


@pytest.mark.parametrize("method", METHODS)
def test_cells_that_tie_for_the_maximum_share_its_gradient(method):
    torch.manual_seed(0)
    network = create_classifier(NETWORK | {"pooling": "gmp"}, 2).eval()
    flat = torch.zeros(1, 3, 256, 256)  # whose inner cells are all alike
    classes = torch.tensor([0, 1])
    maps = network(flat).maps[0].detach()
    assert ((maps == maps.amax(dim=(1, 2), keepdim=True)).sum(dim=(1, 2)) > 1).any()
    expected = method(network, flat, classes, layer="layer4")
    torch.testing.assert_close(method(network, flat, classes), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_images_and_classes_do_not_mix(network, images, method):
    together = method(network, images, torch.tensor([0, 1, 2]), layer="layer3")
    alone = method(network, images[1:], torch.tensor([1]), layer="layer3")
    torch.testing.assert_close(together[1:, 1:2], alone, rtol=1e-3, atol=1e-7)


def test_a_class_without_gradient_has_a_map_of_zeros(images):
    network = create_classifier(NETWORK, 2).eval()
    nn.init.zeros_(network.head.weight)
    for method in METHODS:
        assert not method(network, images, torch.tensor([1])).any()


def test_hooks_and_grad_mode_are_restored_after_an_error(network):
    with torch.no_grad(), pytest.raises(ZeroDivisionError), captured_output(network, "layer1"):
        network(torch.zeros(1, 3, 32, 32))
        _ = 1 / 0
    assert torch.is_grad_enabled()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


@pytest.mark.parametrize(
    ("layer", "message"),
    [("layer9", "expected a module of the backbone: conv1"), ("norm", "expected a module")],
)
def test_a_layer_that_cannot_be_used_is_named(network, images, layer, message):
    with pytest.raises(UserError, match=message):
        grad_cam(network, images, torch.tensor([0]), layer=layer)


@pytest.mark.parametrize("layer", ["features.0", "features.3"])
def test_an_in_place_activation_does_not_change_the_captured_layer(images, layer):
    """VGG's convolutions are followed by such ReLUs; the gradient there is zero where it is cut."""
    settings = {"backbone": "vgg11", "pretrained": False, "output_stride": 16, "pooling": "gap"}
    torch.manual_seed(3)
    network = create_classifier(settings, 2).eval()
    maps = grad_cam(network, images, torch.tensor([1]), layer=layer)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    torch.testing.assert_close(maps, grad_cam(network, images, torch.tensor([1]), layer=layer))
    assert maps.any()
