import copy
from dataclasses import replace

import pytest
import torch

from pipeline.attribution.grad_cam import grad_cam
from pipeline.attribution.units import unit_maps
from pipeline.errors import UserError
from pipeline.models.backbone import create_backbone
from pipeline.models.boundary import (
    create_boundary_network,
    load_boundary_network,
    save_boundary_network,
)
from pipeline.models.classifier import create_classifier, load_classifier, save_classifier
from pipeline.resources.network import Network
from pipeline.resources.operations import count
from pipeline.runtime.folding import fold_batch_norm

LAYERS = ["blocks.4", "blocks.5", "blocks.6"]
SETTINGS = {
    "backbone": "mobilenetv2_100", "pretrained": False, "output_stride": 32, "pooling": "gap",
    "last_layer": LAYERS,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_classifier(SETTINGS, 3).eval()


@pytest.fixture(scope="module")
def images():
    # 7 x 9 cells of 16 pixels in 4 x 5 of 32: the last ones are partial.
    return torch.randn(2, 3, 100, 140, generator=torch.Generator().manual_seed(1))


def outputs(backbone, images):
    """Return the outputs of the three layers, by the network's own containers."""
    found, features = [], backbone.bn1(backbone.conv_stem(images))
    for block in backbone.blocks:
        features = block(features)
        found.append(features)
    return found[4:]


def test_features_are_the_layers_channels_in_order(model, images):
    with torch.no_grad():
        features = model.backbone.forward_features(images)
        finer, middle, last = outputs(model.backbone, images)
    assert model.backbone.num_features == 96 + 160 + 320 == features.shape[1]
    assert (finer.shape[2:], last.shape[2:]) == ((7, 9), (4, 5))
    assert torch.equal(features[:, 96:256], middle) and torch.equal(features[:, 256:], last)
    for row, column in [(0, 0), (1, 2), (3, 4), (3, 0), (0, 4)]:
        below = finer[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        torch.testing.assert_close(features[:, :96, row, column], below.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("name", "layers", "size"),
    # Sides that are rounded down leave a rest of finer cells.
    [
        ("resnet18", ["layer2", "layer4"], (2, 3)),
        ("convnext_atto", ["stages.2", "stages.3"], (1, 2)),
    ],
)
def test_sizes_are_those_of_the_last_layer(name, layers, size):
    backbone = create_backbone(name, output_stride=32, last_layer=layers).eval()
    alone = create_backbone(name, output_stride=32, last_layer=layers[-1]).eval()
    image = torch.zeros(1, 3, 63, 95)
    features = backbone.forward_features(image)
    assert features.shape == (1, backbone.num_features, *size)
    assert features.shape[2:] == alone.forward_features(image).shape[2:]
    assert backbone.state_dict().keys() == alone.state_dict().keys()


def test_a_single_name_and_a_list_of_it_are_the_same_network():
    torch.manual_seed(0)
    alone = create_backbone("resnet18", output_stride=32, last_layer="layer3").eval()
    torch.manual_seed(0)
    listed = create_backbone("resnet18", output_stride=32, last_layer=["layer3"]).eval()
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(alone.forward_features(image), listed.forward_features(image))
    assert alone.num_features == listed.num_features == 256


def test_a_saved_classifier_is_rebuilt_with_all_layers(model, images, tmp_path):
    save_classifier(tmp_path / "model.safetensors", model.state_dict(), SETTINGS, 3)
    again = load_classifier(tmp_path / "model.safetensors")
    assert torch.equal(again(images).maps, model(images).maps)


def test_a_copy_uses_its_own_layers(model, images):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.backbone.blocks[4][-1].bn3.bias += 1
        before, after = (m.backbone.forward_features(images) for m in (model, changed))
    torch.testing.assert_close(after[:, :96], before[:, :96] + 1)


def test_folding_batch_norm_does_not_change_the_maps(model, images):
    folded = copy.deepcopy(model)
    assert fold_batch_norm(folded) > 40
    torch.testing.assert_close(folded(images).maps, model(images).maps, rtol=1e-3, atol=1e-4)


def test_units_are_channels_of_all_layers(model, images):
    found = unit_maps(model, images[:1], torch.tensor([100, 300]))
    with torch.no_grad():
        _, middle, last = outputs(model.backbone, images[:1])
    assert torch.equal(found, torch.stack([middle[0, 4], last[0, 44]]))


def test_grad_cam_of_a_listed_layer_has_both_of_its_paths(model, images):
    with torch.no_grad():
        _, leaf, _ = outputs(model.backbone, images)
    leaf.requires_grad_()
    rest = torch.cat([leaf, model.backbone.blocks[6](leaf)], dim=1).mean(dim=(2, 3))
    weight = model.head.weight[:, 96:, 0, 0]
    (gradient,) = torch.autograd.grad((rest @ weight.T)[:, 1].sum(), leaf)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * leaf).sum(dim=1).relu()
    maps = grad_cam(model, images, torch.tensor([1]), layer="blocks.5")[:, 0]
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-3, atol=1e-6)
    assert maps.max() > 0


def test_attention_dropout_after_a_listed_layer_applies_to_its_channels(images):
    adl = {"points": ["blocks.5"], "threshold": 0.5, "drop_rate": 1.0}
    torch.manual_seed(0)
    model = create_classifier(SETTINGS | {"adl": adl}, 3).eval()
    with torch.no_grad():
        plain = model.backbone.forward_features(images)[:, 96:256]
        model.adl.train()
        dropped = model.backbone.forward_features(images)[:, 96:256]
    attention = plain.mean(dim=1, keepdim=True)
    kept = attention < 0.5 * attention.amax(dim=(2, 3), keepdim=True)
    assert torch.equal(dropped, plain * kept) and not kept.all()


def test_every_parameter_has_a_gradient(images):
    model = create_classifier(SETTINGS, 3).train()
    model(images).logits.sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


def test_operations_are_those_of_the_last_layer_alone():
    alone, listed = (
        count(Network.of({"backbone": "resnet18", "output_stride": 32, "last_layer": layer}))
        for layer in ("layer4", ["layer3", "layer4"])
    )
    assert listed == replace(alone, channels=256 + 512)


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ([], "an empty list, expected names of layers"),
        (["layer9", "layer4"], "lists 'layer9', expected a module of the backbone: .*layer3"),
        (["", "layer4"], "lists '', expected a module"),
        (["layer3", "layer3"], "lists 'layer3' 2 times, expected once"),
        (["layer4", "layer3"], r"expected the order .*: \['layer3', 'layer4'\]"),
        (["layer3", "layer4.0"], "is 'layer4.0', expected the end of a stage: .*layer3, layer4"),
        (["fc", "layer4"], "lists 'fc', which the backbone applies 0 times"),
        (["layer3.0.drop_block", "layer4"], "'layer3.0.drop_block', .* changes in place"),
    ],
)
def test_bad_lists_are_named_in_one_line(layers, problem):
    with pytest.raises(UserError, match=rf"^last_layer .*{problem}") as caught:
        create_backbone("resnet18", output_stride=16, last_layer=layers)
    assert "\n" not in str(caught.value)


def test_a_boundary_network_is_rebuilt_from_a_classifier_with_several_layers(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_classifier(path, model.state_dict(), SETTINGS, 3)
    network, description = create_boundary_network(path, "classifier", crop=48)
    save_boundary_network(tmp_path / "edges.safetensors", network.state_dict(), description)
    image = torch.randn(1, 3, 64, 48)
    again = load_boundary_network(tmp_path / "edges.safetensors")
    assert torch.equal(again(image), network.eval()(image))
    assert again.backbone.num_features == model.backbone.num_features
