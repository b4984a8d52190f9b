import copy

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.resolve import PRESETS
from pipeline.errors import UserError
from pipeline.models.adl import AttentionDropout, insert_adl
from pipeline.models.backbone import create_backbone, find_module
from pipeline.models.classifier import create_classifier, load_classifier, save_classifier
from tests.helpers.training import NETWORK

ADL = {"points": ["layer3", "layer4"], "threshold": 0.9, "drop_rate": 0.75}
FEATURES = torch.tensor([[[[4.0, 2.0], [0.0, 3.0]], [[0.0, 2.0], [2.0, 1.0]]]])  # mean 2 2 1 2


def test_the_strongest_places_are_hidden():
    layer = AttentionDropout(threshold=0.9, drop_rate=1.0).train()
    expected = torch.tensor([[[[0.0, 0], [0, 0]], [[0, 0], [2.0, 0]]]])
    assert torch.equal(layer(FEATURES), expected)


def test_the_other_draw_weighs_by_the_sigmoid_of_the_mean():
    layer = AttentionDropout(threshold=0.9, drop_rate=0.0).train()
    weight = 1 / (1 + torch.exp(-torch.tensor([[2.0, 2.0], [1.0, 2.0]])))
    torch.testing.assert_close(layer(FEATURES), FEATURES * weight)


def test_the_maximum_is_each_images_own():
    layer = AttentionDropout(threshold=0.5, drop_rate=1.0).train()
    images = torch.cat([FEATURES, 100 * FEATURES])
    together = layer(images)
    torch.testing.assert_close(together[1], 100 * together[0])


def test_a_threshold_of_one_hides_the_peak_alone():
    layer = AttentionDropout(threshold=1.0, drop_rate=1.0).train()
    image = torch.tensor([[[[1.0, 5.0, 4.9]]]])
    assert layer(image).tolist() == [[[[1.0, 0.0, pytest.approx(4.9)]]]]


@given(st.integers(0, 2**32 - 1))
def test_one_draw_decides_for_the_whole_batch(seed):
    torch.manual_seed(seed)
    layer = AttentionDropout(threshold=0.5, drop_rate=0.5).train()
    batch = torch.rand(4, 3, 5, 5) + 0.1
    hidden = (layer(batch) == 0).flatten(1).any(dim=1)
    assert hidden.all() or not hidden.any()


def test_the_share_of_hiding_batches_is_the_drop_rate():
    torch.manual_seed(0)
    layer = AttentionDropout(threshold=0.5, drop_rate=0.75).train()
    hiding = sum(bool((layer(FEATURES + 0.1) == 0).any()) for _ in range(2000))
    assert abs(hiding / 2000 - 0.75) < 4 * (0.75 * 0.25 / 2000) ** 0.5


def test_in_evaluation_it_is_the_identity_and_it_has_no_parameters():
    layer = AttentionDropout(threshold=0.5, drop_rate=1.0).eval()
    assert layer(FEATURES) is FEATURES
    assert not list(layer.parameters()) and not layer.state_dict()


def test_gradients_flow_where_nothing_is_hidden():
    layer = AttentionDropout(threshold=0.9, drop_rate=1.0).train()
    features = FEATURES.clone().requires_grad_()
    layer(features).sum().backward()
    assert torch.equal(features.grad, torch.tensor([[[[0.0, 0], [1, 0]], [[0, 0], [1.0, 0]]]]))


@pytest.fixture
def pair():
    """Return the same network without and with dropout layers."""
    networks = []
    for adl in (None, ADL):
        torch.manual_seed(0)
        networks.append(create_classifier(NETWORK | {"adl": adl}, 3))
    return networks


def test_names_and_values_of_the_weights_stay(pair):
    plain, dropping = (network.state_dict() for network in pair)
    assert list(plain) == list(dropping)
    assert all(torch.equal(plain[name], dropping[name]) for name in plain)


def test_a_network_drops_in_training_only(pair):
    plain, dropping = pair
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(dropping.eval()(images).maps, plain.eval()(images).maps)
    # With batch norm's own statistics left out, only the dropout differs.
    for network in pair:
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    assert not torch.equal(dropping(images).maps, plain(images).maps)


def test_a_copy_switches_by_itself(pair):
    original = pair[1].eval()
    twin = copy.deepcopy(original).train()
    assert [layer.training for layer in original.adl] == [False, False]
    images = torch.randn(1, 3, 64, 64)
    before = original(images).maps
    twin.adl.eval()
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert torch.equal(twin(images).maps, before)


def test_a_trained_network_is_rebuilt_without_the_layers(pair, tmp_path):
    dropping = pair[1].eval()
    path = tmp_path / "model.safetensors"
    save_classifier(path, dropping.state_dict(), NETWORK | {"adl": ADL}, 3)
    again = load_classifier(path)
    images = torch.randn(1, 3, 48, 48)
    assert torch.equal(again(images).maps, dropping(images).maps)
    assert again.adl is None


def test_every_parameter_still_learns(pair):
    torch.manual_seed(1)
    network = pair[1].train()
    for layer in network.adl:
        layer.drop_rate = 0.0
    network(torch.randn(2, 3, 64, 64)).logits.sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_place_that_the_backbone_lacks_is_named():
    backbone = create_backbone("test_resnet", output_stride=16)
    with pytest.raises(UserError, match=r"layer is 'layer9', expected a module of the backbone"):
        insert_adl(backbone, points=["layer9"], threshold=0.9, drop_rate=0.75)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("vgg16", [256, 512, 512]),
        ("resnet50", [1024, 2048, 2048]),
        ("seresnet50", [1024, 2048, 2048]),
    ],
)
def test_presets_are_at_the_published_layers(name, channels):
    backbone = create_backbone(name, output_stride=16).eval()
    seen = []
    for point in yaml.safe_load(PRESETS.read_text(encoding="utf-8"))["adl"][name]["points"]:
        find_module(backbone, point).register_forward_hook(
            lambda _m, _i, output: seen.append(tuple(output.shape[1:]))
        )
    with torch.no_grad():
        backbone.forward_features(torch.zeros(1, 3, 64, 64))
    assert [shape[0] for shape in seen] == channels
    # VGG: after pool3 (stride 8), after pool4 (16) and conv5_3; ResNet: all at stride 16.
    sizes = [8, 4, 4] if name == "vgg16" else [4, 4, 4]
    assert [shape[1] for shape in seen] == sizes
