from copy import deepcopy

import pytest
import torch
import torchcam.methods as torchcam
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn import functional as F

from pipeline.attribution.cam import cam
from pipeline.attribution.grad_cam import captured_output, grad_cam, grad_cam_pp
from pipeline.models.classifier import create_classifier
from tests.helpers.training import NETWORK

CLASSES = torch.tensor([5, 0, 1])  # of the network below: each has a positive part everywhere
LAYERS = pytest.mark.parametrize("layer", ["layer2", "layer4"])


class Logits(nn.Module):
    """A classifier with the interface of the other tools: its output is the tensor of scores."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return self.classifier(images).logits


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_classifier(NETWORK, 6).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def of_pytorch_grad_cam(method, network, images, layer):
    """Return the maps before scaling and resizing, and the final maps."""
    model = Logits(network)
    module = model.get_submodule(f"classifier.backbone.{layer}")
    raw, scaled = [], []
    with method(model, [module]) as peer:
        for number in CLASSES.tolist():
            targets = [ClassifierOutputTarget(number)] * len(images)
            scaled.append(torch.from_numpy(peer(images, targets)))
            seen = peer.activations_and_grads
            tensors = [found[0].numpy() for found in (seen.activations, seen.gradients)]
            found = peer.get_cam_image(images, module, targets, *tensors)
            raw.append(torch.from_numpy(found).relu())
    return torch.stack(raw, dim=1), torch.stack(scaled, dim=1)


def of_torchcam(method, network, images, layer, *arguments, **settings):
    """Return the maps before scaling."""
    model = Logits(network)
    with method(model, f"classifier.backbone.{layer}", *arguments) as peer:
        scores = model(images)
        maps = [peer(n, scores, normalized=False, **settings)[0] for n in CLASSES.tolist()]
    return torch.stack(maps, dim=1)


def by_hand(weights, network, images, layer):
    """Return maps whose channels' weights are a formula of activations and gradients."""
    with captured_output(network, layer) as seen:
        logits = network(images).logits
    maps = []
    for number in CLASSES.tolist():
        total = logits[:, number].sum()
        (gradients,) = torch.autograd.grad(total, seen[0], retain_graph=True)
        activations = seen[0].detach().double()
        found = weights(activations, gradients.double()).sum(dim=(2, 3), keepdim=True)
        maps.append((found * activations).sum(dim=1).relu())
    return torch.stack(maps, dim=1).float()


def assert_same(maps, expected):
    assert maps.shape == expected.shape and expected.amax(dim=(2, 3)).min() > 0
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_cam_is_the_positive_part_of_torchcams(network, images):
    # torchcam's has no ReLU: its negative values are part of its own scaling.
    peer = of_torchcam(torchcam.CAM, network, images, "layer4", "classifier.head")
    assert peer.min() < 0
    assert_same(cam(network, images, CLASSES), peer.relu())


def test_cam_is_the_peers_grad_cam_times_the_number_of_cells(network, images):
    # Selvaraju et al. 2017, section 3.1: with average pooling the gradient is the class layer's
    # weight over the number of cells. pytorch-grad-cam has no method of the weights themselves.
    maps = cam(network, images, CLASSES)
    peer, _ = of_pytorch_grad_cam(GradCAM, network, images, "layer4")
    assert_same(maps, peer * maps[0, 0].numel())


@LAYERS
def test_grad_cam_is_that_of_both_peers(network, images, layer):
    maps = grad_cam(network, images, CLASSES, layer=layer)
    assert_same(maps, of_pytorch_grad_cam(GradCAM, network, images, layer)[0])
    assert_same(maps, of_torchcam(torchcam.GradCAM, network, images, layer, retain_graph=True))


@pytest.mark.parametrize("block", ["blocks.2", "blocks.11.norm1"])
def test_grad_cam_of_a_transformer_is_that_of_pytorch_grad_cam(images, block):
    """Its documentation reshapes tokens by hand; images here have whole patches, so that it can."""
    torch.manual_seed(0)
    settings = {"backbone": "vit_tiny_patch16_224", "output_stride": None}
    network = create_classifier(NETWORK | settings, 6).eval()
    model = Logits(network)
    module = model.get_submodule(f"classifier.backbone.{block}")

    def reshape(tokens):
        return tokens[:, 1:].reshape(len(tokens), 4, 3, -1).permute(0, 3, 1, 2)

    raw = []
    with GradCAM(model, [module], reshape_transform=reshape) as peer:
        for number in CLASSES.tolist():
            targets = [ClassifierOutputTarget(number)] * len(images)
            peer(images, targets)
            seen = peer.activations_and_grads
            tensors = [found[0].numpy() for found in (seen.activations, seen.gradients)]
            found = peer.get_cam_image(images, module, targets, *tensors)
            raw.append(torch.from_numpy(found).relu())
    expected = torch.stack(raw, dim=1)
    maps = grad_cam(network, images, CLASSES, layer=block)
    assert maps.shape == expected.shape == (3, 3, 4, 3) and expected.amax(dim=(2, 3)).max() > 0
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


@LAYERS
def test_grad_cam_scaled_and_resized_equals_pytorch_grad_cam(network, images, layer):
    def scaled(maps):
        low, high = (part(maps, dim=(2, 3), keepdim=True) for part in (torch.amin, torch.amax))
        return (maps - low) / (high - low)

    maps = scaled(grad_cam(network, images, CLASSES, layer=layer))
    large = scaled(F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False))
    _, expected = of_pytorch_grad_cam(GradCAM, network, images, layer)
    torch.testing.assert_close(large, expected, rtol=0, atol=1e-3)


@LAYERS
def test_grad_cam_pp_is_pytorch_grad_cams_but_for_its_epsilon(network, images, layer):
    # It adds 1e-6 to the denominator of eq. 19 of Grad-CAM++, whose first term is 2 g^2: where
    # |g| is not well above 1e-3, its weights are too small, those of small gradients most.
    def weights(epsilon):
        def of(activations, gradients):
            total = activations.sum(dim=(2, 3), keepdim=True)
            below = 2 * gradients**2 + total * gradients**3 + epsilon
            return (gradients**2 / below).nan_to_num() * gradients.relu()

        return of

    peer, _ = of_pytorch_grad_cam(GradCAMPlusPlus, network, images, layer)
    assert_same(peer, by_hand(weights(1e-6), network, images, layer))
    maps = grad_cam_pp(network, images, CLASSES, layer=layer)
    assert_same(maps, by_hand(weights(0), network, images, layer))
    assert (maps >= peer).all() and (maps - peer).max() > 0.03 * maps.max()


@LAYERS
def test_grad_cam_pp_is_pytorch_grad_cams_where_gradients_are_large(network, images, layer):
    steep = deepcopy(network)
    steep.head.weight.data.mul_(1e5)
    peer, _ = of_pytorch_grad_cam(GradCAMPlusPlus, steep, images, layer)
    assert_same(grad_cam_pp(steep, images, CLASSES, layer=layer), peer)


@LAYERS
def test_grad_cam_pp_of_torchcam_lacks_the_denominator(network, images, layer):
    # torchcam 0.5.0 divides a copy of alpha's numerator, made by indexing with a mask, so that
    # alpha stays g^2 and a weight is the sum of ReLU(g)^3: the maps differ by more than a factor.
    # The denominator that it drops is not eq. 19's either: the sum of A g^3 over the cells takes
    # the place of the sum of A times the cell's own g^3.
    peer = of_torchcam(torchcam.GradCAMpp, network, images, layer, retain_graph=True)
    cubes = by_hand(lambda _activations, g: g.relu() ** 3, network, images, layer)
    assert_same(peer, cubes)
    maps = grad_cam_pp(network, images, CLASSES, layer=layer)
    shapes = [found / found.amax(dim=(2, 3), keepdim=True) for found in (maps, peer)]
    assert (shapes[0] - shapes[1]).abs().amax(dim=(2, 3)).min() > 0.01
