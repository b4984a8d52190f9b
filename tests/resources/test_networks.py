"""The table of networks: its operations are those that torch counts."""

import subprocess
import sys

import pytest

from pipeline.resources.network import Network
from pipeline.resources.networks import kept_share, memory_of, operations_of, table
from pipeline.resources.operations import count, parts_of
from tests.helpers import REPOSITORY

BACKBONES = sorted(table().keys() - {"other"})
LISTED = [
    Network(name, stride, None if kind == "classifier" else kind)
    for name in BACKBONES
    for kind, by_stride in table()[name]["operations"].items()
    for stride in by_stride
]
# The largest ones take seconds each. They are counted at the default stride alone.
LARGE = {"resnest101e", "resnest269e", "resnet101", "convnext_tiny"}


@pytest.mark.parametrize(
    "network",
    [item for item in LISTED if item.name not in LARGE or item == Network(item.name)],
    ids=lambda network: f"{network.name}-{network.output_stride}-{network.decoder}",
)
def test_operations_of_the_table_are_those_that_are_counted(network):
    counted = count(network)
    assert operations_of(network).forward == round(counted.forward)
    assert operations_of(network).learning == round(counted.learning)
    assert operations_of(network).attention == pytest.approx(counted.attention, rel=1e-4)
    assert operations_of(network).learning_attention == operations_of(network).attention
    assert operations_of(network).stride == counted.stride or network.decoder
    # Millions, rounded. The decoders' are those for 2048 channels.
    assert operations_of(network).parameters > 0.9 * counted.parameters - 0.5e6


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name not in LARGE])
def test_parts_of_the_table_are_those_that_are_counted(backbone):
    counted = {name: [round(part[0]), part[1]] for name, part in parts_of(backbone).items()}
    assert table()[backbone]["parts"] == counted


@pytest.mark.parametrize("backbone", BACKBONES)
def test_parts_of_a_backbone_add_up_to_it(backbone):
    row = table()[backbone]
    operations = sum(part[0] for part in row["parts"].values())
    whole = row["operations"]["classifier"][row.get("stride", 16)]
    whole += row.get("attention", 0) * 256**2
    assert operations == pytest.approx(whole, abs=len(row["parts"]))


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize(
    ("backbone", "frozen"),
    [
        ("resnet50", ("conv1", "bn1", "layer1", "layer2")),
        ("resnet50", ("conv1", "bn1", "layer1", "layer2", "layer3")),
        ("mobilenetv2_100", ("conv_stem", "bn1", *(f"blocks.{number}" for number in range(6)))),
        ("mobilenetv2_100", ("conv_stem", "blocks")),
    ],
)
def test_no_fewer_operations_are_assumed_than_counted_if_parts_are_frozen(backbone, frozen, stride):
    network = Network(backbone, stride, frozen=frozen)
    assumed, counted = operations_of(network), count(network)
    # At stride 16 the two agree, except for the rounding of the parts.
    assert counted.learning - len(table()[backbone]["parts"]) <= assumed.learning
    assert assumed.training(1, 0) < 2 * counted.training(1, 0)
    if stride == 16:
        assert assumed.learning == pytest.approx(counted.learning, abs=9)


def test_frozen_blocks_of_a_transformer_have_their_share_of_attention():
    blocks = tuple(f"blocks.{number}" for number in range(9))
    network = Network("vit_small_patch16_224", frozen=("patch_embed", "pos_drop", *blocks))
    assumed, counted = operations_of(network), count(network)
    assert assumed.learning == pytest.approx(counted.learning, rel=0.02)
    assert counted.learning_attention == pytest.approx(counted.attention / 4)
    assert assumed.learning_attention == pytest.approx(counted.learning_attention, rel=0.05)
    frozen = operations_of(Network("vit_small_patch16_224", frozen=("all",)))
    # The parts are rounded.
    assert frozen.learning / frozen.forward == pytest.approx(0, abs=1e-3)


def test_a_decoder_of_a_network_with_its_own_stride_has_the_largest_known_operations():
    network = Network("vit_small_patch14_reg4_dinov2", decoder="separable", architecture="dpt")
    assumed = operations_of(network)
    assert assumed.forward == table()["other"]["operations"]["separable"][16]
    assert assumed.stride == 14


def test_no_fewer_operations_are_assumed_than_counted_with_a_last_layer():
    network = Network("resnet18", 32, last_layer="layer3")
    assert count(network).forward < operations_of(network).forward


def test_an_unknown_backbone_has_more_than_most_of_its_size():
    # 45 million parameters, as resnest101e.
    unknown = operations_of(Network("of-tomorrow"))
    assert unknown.forward > operations_of(Network("resnest101e")).forward
    assert memory_of(Network("of-tomorrow")).training > memory_of(Network("resnest101e")).training
    # A decoder that timm's network cannot have is reported elsewhere.
    assert operations_of(Network("vgg16", decoder="full")).forward > unknown.forward


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2_100"])
def test_the_share_of_listed_parts_is_that_of_their_modules(backbone):
    parts = list(table()[backbone]["parts"])
    leaves = parts_of(backbone, leaves=True)
    for number in (1, 4, len(parts) - 1):
        frozen = tuple(parts[:number])
        inside = sum(
            values
            for name, (_, values) in leaves.items()
            if any(f"{name}.".startswith(f"{part}.") for part in frozen)
        )
        expected = 1 - inside / sum(values for _, values in leaves.values())
        assert kept_share(Network(backbone, frozen=frozen)) == pytest.approx(expected)


def test_a_module_inside_a_part_is_counted():
    shares = [
        kept_share(Network("resnet18", frozen=("conv1", "bn1", *more)))
        for more in ((), ("layer1.0",), ("layer1",))
    ]
    # Each of the two blocks of layer1 has two convolutions, two norms and two activations.
    assert shares[0] > shares[1] > shares[2]
    assert shares[0] - shares[1] == pytest.approx(shares[1] - shares[2])


def test_frozen_parts_of_a_listed_backbone_do_not_import_torch():
    code = (
        "import sys; from pipeline.resources import networks, requests;"
        "network = networks.Network('mobilenetv2_100', frozen=('conv_stem', 'blocks.0'));"
        "assert networks.kept_share(network) < 1; networks.operations_of(network);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "False\n"
