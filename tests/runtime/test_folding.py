import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.models.backbone import create_backbone
from pipeline.models.boundary import BoundaryNetwork
from pipeline.models.classifier import CamClassifier
from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.runtime.folding import fold_batch_norm, use_onednn


def with_statistics(model):
    """Set nontrivial statistics and parameters of batch norms, as after training."""
    generator = torch.Generator().manual_seed(1)
    for part in norms_of(model):
        part.running_mean.uniform_(-0.2, 0.2, generator=generator)
        part.running_var.uniform_(0.5, 1.5, generator=generator)
        part.weight.data.uniform_(0.5, 1.5, generator=generator)
        part.bias.data.uniform_(-0.2, 0.2, generator=generator)
    return model.eval()


def norms_of(model):
    return [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]


def agree(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4 * float(second.abs().max()))


def test_folding_keeps_maps_and_gradients_of_a_classifier():
    torch.manual_seed(0)
    model = with_statistics(CamClassifier(create_backbone("test_resnet", output_stride=16), 3))
    model.double()  # in single precision a ReLU's kink may fall between the two
    images = torch.randn(2, 3, 40, 50, dtype=torch.float64, requires_grad=True)
    expected = model(images).maps
    (gradient,) = torch.autograd.grad(expected.square().sum(), images)
    assert fold_batch_norm(model) == 15
    maps = model(images).maps
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(torch.autograd.grad(maps.square().sum(), images)[0], gradient)
    assert fold_batch_norm(model) == 0


# The last one pads its strided convolutions by itself (timm's Conv2dSame): they stay as they are.
@pytest.mark.parametrize(
    ("backbone", "left"),
    [("mobilenetv2_100", 0), ("resnest14d", 0), ("tf_efficientnet_b0", 5)],
)
def test_folding_keeps_the_output_of_many_backbones(backbone, left):
    torch.manual_seed(0)
    model = with_statistics(CamClassifier(create_backbone(backbone, output_stride=32), 3))
    images = torch.randn(2, 3, 40, 50)
    count = len(norms_of(model))
    with torch.no_grad():
        expected = model(images).maps
        assert fold_batch_norm(model) == count - left > 0
        use_onednn(model)
        agree(model(images).maps, expected)
    assert len(norms_of(model)) == left


@pytest.mark.parametrize(
    "make",
    [
        lambda: SegmentationNetwork("test_resnet", 3),
        lambda: BoundaryNetwork(create_backbone("test_resnet", output_stride=16)),
    ],
)
def test_folding_keeps_the_output_of_the_other_networks(make):
    torch.manual_seed(0)
    model = with_statistics(make())
    images = torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        expected = model(images)
        fold_batch_norm(model)
        use_onednn(model)
        agree(model(images), expected)
    assert not norms_of(model)


class Branching(nn.Module):
    """Four convolutions with a batch norm each, of which only the first may be folded."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))

    def forward(self, images):
        plain, read, given, twice = self.convolutions
        first = self.norms[0](plain(images)).relu()
        inner = read(first)
        second = self.norms[1](inner) + inner  # the sum reads it too
        result = given(second)  # is given back as it is, too
        third = self.norms[2](result)
        return {"maps": self.norms[3](twice(twice(third))), "inner": [result]}


def test_a_convolution_with_another_reader_is_not_folded():
    torch.manual_seed(0)
    model = with_statistics(Branching())
    images = torch.randn(2, 3, 5, 4)
    expected = model(images)
    assert fold_batch_norm(model) == 1
    torch.testing.assert_close(model(images), expected)
    assert isinstance(model.norms[0], nn.Identity)


class Scaled(nn.Conv2d):
    """Computes its weights on the way."""

    def forward(self, images):
        return F.conv2d(images, self.weight / self.weight.norm(), self.bias)


@pytest.mark.parametrize(
    "layers",
    [
        [Scaled(3, 4, 1), nn.BatchNorm2d(4)],
        [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)],
        [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)],
    ],
)
def test_weights_without_an_affine_map_are_not_folded(layers):
    assert fold_batch_norm(nn.Sequential(*layers).eval()) == 0


def test_frozen_weights_stay_frozen_and_biases_are_kept():
    torch.manual_seed(0)
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 3, bias=True), nn.BatchNorm2d(4)))
    model.requires_grad_(False)
    images = torch.randn(1, 3, 8, 8)
    expected = model(images)
    assert fold_batch_norm(model) == 1
    torch.testing.assert_close(model(images), expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="training mode, expected evaluation mode"):
        fold_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))


def test_only_pointwise_convolutions_are_dilated_and_their_output_is_equal():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(4, 4, 3, padding=1))
    images = torch.randn(2, 3, 9, 8)
    expected = model(images)
    use_onednn(model)
    torch.testing.assert_close(model(images), expected)
    assert [part.dilation for part in model] == [(2, 2), (1, 1)]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is without oneDNN")
def test_on_one_thread_only_a_dilated_pointwise_convolution_uses_onednn():
    layer = nn.Conv2d(8, 8, 1)
    images = torch.randn(2, 8, 9, 9)

    def backend():
        padding, one = [0, 0], [1, 1]
        return torch._C._select_conv_backend(
            images, layer.weight, layer.bias, one, padding, list(layer.dilation), False, padding, 1
        ).name

    assert backend() != "Mkldnn"
    use_onednn(nn.Sequential(layer))
    assert backend() == "Mkldnn"
