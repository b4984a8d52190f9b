import copy

import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.models.backbone import create_backbone
from pipeline.models.cell_centers import CellCenters


def random_backbone(name, output_stride, last_layer=None):
    torch.manual_seed(0)
    return create_backbone(name, output_stride=output_stride, last_layer=last_layer).eval()


@pytest.mark.parametrize(
    ("name", "layer", "output_stride", "first"),
    [
        # Windows of 3 or 7 with the same padding on both sides: cell 0 is centered at pixel 0.
        ("resnet18", None, 16, 0),
        ("mobilenetv2_100", "blocks.6", 32, 0),
        # Windows of 2 without padding, 2 * 2 * 2 * 2 pixels: the center of the first 16.
        ("vgg11", None, 16, 7.5),
        # A stem of 4 x 4 and windows of 2: the center of the first 32 pixels.
        ("convnext_atto", None, 32, 15.5),
    ],
)
def test_centers_by_hand(name, layer, output_stride, first):
    centers = CellCenters(random_backbone(name, output_stride, layer))
    for pixels, axis in [(320, 0), (375, 1)]:
        assert centers.of_side(pixels, axis) == pytest.approx((first, output_stride), abs=1e-3)


def center_of_same_padding(side, halvings):
    """Return the center of cell 0 if windows of 3 are padded as TensorFlow does."""
    first, stride = 0, 1
    for _ in range(halvings):
        # An even side is padded at its end only, so that the window's center is at place 1.
        first += stride * (side % 2 == 0)
        side, stride = -(-side // 2), 2 * stride
    return first


@pytest.mark.parametrize("side", [64, 75, 333, 500, 20, 1])
def test_padding_as_in_tensorflow_depends_on_the_images_side(side):
    centers = CellCenters(random_backbone("tf_efficientnet_lite0", 32, "blocks.6"))
    expected = center_of_same_padding(side, 5)
    assert centers.of_side(side, 0) == pytest.approx((expected, 32), abs=1e-3)
    assert center_of_same_padding(64, 5) == 31


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("tf_efficientnet_lite0", "blocks.2", (230, 237)),
        ("tf_efficientnet_lite0", "blocks.2", (225, 232)),
        ("mobilenetv2_100", "blocks.2", (230, 225)),
        ("resnet18", "layer2", (230, 225)),
    ],
)
def test_centers_are_the_middles_of_receptive_fields(name, layer, size):
    backbone = random_backbone(name, 32).double()
    image = torch.rand(1, 3, *size, dtype=torch.float64, requires_grad=True)
    kept = []
    backbone.get_submodule(layer).register_forward_hook(lambda _m, _i, output: kept.append(output))
    backbone.forward_features(image)
    row, column = (side // 2 for side in kept[0].shape[2:])
    (gradient,) = torch.autograd.grad(kept[0][0, :, row, column].sum(), image)
    centers = CellCenters(backbone, layer)
    for axis, cell in enumerate((row, column)):
        seen = gradient[0].abs().amax(dim=(0, 2 - axis)).nonzero()
        assert seen.min() > 0 and seen.max() < size[axis] - 1
        first, pitch = centers.of_side(size[axis], axis)
        assert first + cell * pitch == pytest.approx(float(seen.min() + seen.max()) / 2, abs=0.01)


def test_layers_side_by_side_have_the_mean_center_of_their_channels():
    centers = CellCenters(random_backbone("tf_efficientnet_lite0", 32, ["blocks.4", "blocks.6"]))
    # Cells of 16 pixels at 15 and 31, 112 channels, are averaged; those of 32, 320 channels, at 31.
    expected = (112 * (15 + 31) / 2 + 320 * 31) / (112 + 320)
    assert centers.of_side(64, 0) == pytest.approx((expected, 32), abs=0.01)


def test_the_network_does_not_change():
    backbone = random_backbone("resnet18", 32)
    state = copy.deepcopy(backbone.state_dict())
    CellCenters(backbone).of_side(100, 0)
    assert all(torch.equal(state[key], value) for key, value in backbone.state_dict().items())
    assert not any(part._forward_hooks for part in backbone.modules())
    assert all(parameter.requires_grad for parameter in backbone.parameters())


class OfTheWholeImage(nn.Module):
    """A network whose cells all see the whole image."""

    def forward_features(self, images):
        return images.mean(dim=(2, 3), keepdim=True).expand(-1, -1, 6, 6)


def test_cells_without_a_place_are_refused():
    with pytest.raises(UserError, match="cells of OfTheWholeImage have no even distance"):
        CellCenters(OfTheWholeImage()).of_side(64, 0)
