import json

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.resources.network import Network
from pipeline.resources.operations import count


def test_operations_of_a_resnet_are_the_published_ones():
    # 1.8 billion multiply-adds for 224 x 224 pixels (He et al. 2016, table 1), at stride 32.
    found = count(Network("resnet18", 32))
    assert found.forward * 224**2 == pytest.approx(2 * 1.8e9, rel=0.03)
    assert found.parameters == pytest.approx(11.2e6, rel=0.01)


def counted(name, side):
    """Count the operations of timm's own network."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad():
        model = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
        model.forward = model.forward_features
        with counter:
            model(torch.zeros(1, 3, side, side))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("side", [224, 448, 896])
def test_attention_grows_with_the_square_of_an_images_pixels(name, side):
    found = count(Network(name))
    assumed = found.forward * side**2 + found.attention * side**4
    # The class token makes the difference: at most .4 %.
    assert assumed == pytest.approx(counted(name, side), rel=0.004)


def test_operations_of_attention_by_hand():
    # Of each of 12 blocks: products of queries and keys, and of weights and values, of 192 channels
    # and all pairs of tokens of 16 x 16 pixels.
    found = count(Network("vit_tiny_patch16_224"))
    assert found.attention == pytest.approx(12 * 2 * 2 * 192 / 16**4, rel=0.001)
    # 1.26 billion multiply-adds for 224 x 224 pixels, as timm's table of models says.
    whole = found.forward * 224**2 + found.attention * 224**4
    assert whole == pytest.approx(2 * 1.26e9, rel=0.01)


def test_attention_within_windows_and_convolutions_grow_with_the_pixels():
    for name in ("swin_tiny_patch4_window7_224", "resnet18"):
        found = count(Network(name))
        assert (found.attention, found.learning_attention) == (0, 0)


def test_attention_of_frozen_blocks_is_not_learned():
    whole = count(Network("test_vit"))
    depth = 6
    frozen = count(Network("test_vit", frozen=("patch_embed", "blocks.0", "blocks.1")))
    assert whole.attention == whole.learning_attention == frozen.attention
    assert frozen.learning_attention == pytest.approx(whole.attention * (depth - 2) / depth)
    assert frozen.training(0, 1) == pytest.approx(whole.attention * (1 + 2 * (depth - 2) / depth))
    nothing = count(Network("test_vit", frozen=("all",)))
    assert (nothing.learning, nothing.learning_attention) == (0, 0)


def test_options_of_an_architecture_change_its_operations():
    section = {
        "backbone": "resnet18", "output_stride": None, "decoder": "separable",
        "architecture": "fpn",
    }  # fmt: skip
    plain, small = (
        count(Network.of(section | {"architecture_options": options}))
        for options in ({}, {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32})
    )
    assert small.parameters < plain.parameters and small.forward < plain.forward
    text = Network.of(section | {"architecture_options": {"b": 1, "a": [2]}}).architecture_options
    assert json.loads(text) == {"a": [2], "b": 1}


def test_a_segmentation_has_the_operations_of_its_decoder_as_well():
    plain, whole = count(Network("resnet18")), count(Network("resnet18", decoder="separable"))
    assert whole.forward > plain.forward
    assert whole.parameters == sum(
        p.numel() for p in SegmentationNetwork("resnet18", 21).parameters()
    )


def test_frozen_parts_of_a_network_go_forward_only():
    whole = count(Network("resnet18", 32))
    assert whole.learning == whole.forward
    assert whole.training(1, 0) == 3 * whole.forward
    frozen = count(Network("resnet18", 32, frozen=("conv1", "bn1", "layer1")))
    # By hand: 7 x 7 filters of 3 channels at every 4th pixel, four of 3 x 3 at every 16th.
    resting = 2 * (49 * 3 * 64 / 4 + 4 * 9 * 64 * 64 / 16)
    assert frozen.forward - frozen.learning == pytest.approx(resting)
    assert frozen.training(1, 0) == pytest.approx(3 * whole.forward - 2 * resting)


def test_what_is_behind_the_last_layer_does_not_count():
    whole, cut = (count(Network("resnet18", 32, last_layer=layer)) for layer in (None, "layer3"))
    # By hand: the first of four 3 x 3 filters, and that beside it, have half of the channels.
    layer4 = 2 * (3.5 * 9 * 512 * 512 + 256 * 512) / 32**2
    assert whole.forward - cut.forward == pytest.approx(layer4)
    assert cut.parameters < whole.parameters


def test_strides_are_those_of_the_features():
    names = {"resnet18": 16, "vit_tiny_patch16_224": 16, "eva02_tiny_patch14_224": 14}
    assert {name: count(Network(name)).stride for name in names} == names
    assert count(Network("resnet18", 32)).stride == 32


def test_channels_are_those_of_all_last_layers():
    assert count(Network("resnet18")).channels == 512
    assert count(Network("resnet50", last_layer="layer3")).channels == 1024
    assert count(Network("resnet50", last_layer=("layer3", "layer4"))).channels == 1024 + 2048


def test_a_segmentations_frozen_encoder_is_found_inside_it():
    whole = count(Network("resnet18", decoder="separable"))
    parts = ("conv1", "layer1", "layer2", "layer3", "layer4")
    frozen = count(Network("resnet18", decoder="separable", frozen=parts))
    encoder = count(Network("resnet18"))
    assert frozen.forward - frozen.learning == pytest.approx(encoder.forward)
    assert whole.learning == whole.forward == frozen.forward
