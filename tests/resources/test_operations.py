import pytest

from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.resources.network import Network
from pipeline.resources.operations import count


def test_operations_of_a_resnet_are_the_published_ones():
    # 1.8 billion multiply-adds for 224 x 224 pixels (He et al. 2016, table 1), at stride 32.
    found = count(Network("resnet18", 32))
    assert found.forward * 224**2 == pytest.approx(2 * 1.8e9, rel=0.03)
    assert found.parameters == pytest.approx(11.2e6, rel=0.01)


def test_a_segmentation_has_the_operations_of_its_decoder_as_well():
    plain, whole = count(Network("resnet18")), count(Network("resnet18", decoder="separable"))
    assert whole.forward > plain.forward
    assert whole.parameters == sum(
        p.numel() for p in SegmentationNetwork("resnet18", 21).parameters()
    )


def test_frozen_parts_of_a_network_go_forward_only():
    whole = count(Network("resnet18", 32))
    assert whole.learning == whole.forward
    assert whole.step == 3 * whole.forward
    frozen = count(Network("resnet18", 32, frozen=("conv1", "bn1", "layer1")))
    # By hand: 7 x 7 filters of 3 channels at every 4th pixel, four of 3 x 3 at every 16th.
    resting = 2 * (49 * 3 * 64 / 4 + 4 * 9 * 64 * 64 / 16)
    assert frozen.forward - frozen.learning == pytest.approx(resting)
    assert frozen.step == pytest.approx(3 * whole.forward - 2 * resting)


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
