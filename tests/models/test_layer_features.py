import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.models.backbone import create_backbone, kept_stages
from pipeline.models.classifier import create_classifier, save_classifier
from pipeline.models.layer_features import (
    LayerFeatures,
    default_layers,
    image_features,
    load_layer_features,
)
from pipeline.models.views import Views

NETWORKS = ["test_resnet", "test_vit", "mobilenetv2_100"]


def network(name, layers=None, **options):
    torch.manual_seed(0)
    return LayerFeatures(create_backbone(name, **options), layers).eval()


def layers_of(name):
    """Return the layers of all depths."""
    return [stage["module"] for stage in kept_stages(create_backbone(name)).values()]


def picture(height, width):
    return np.random.default_rng(5).integers(0, 256, (height, width, 3)).astype(np.uint8)


def whole(model, image, size, views):
    return [torch.cat(list(parts)) for parts in image_features(model, image, size, views)]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer1"),  # cells of 4 pixels; act1 has cells of 2, layer2 of 8
        ("tf_efficientnet_lite0", "blocks.1"),
        ("vit_tiny_patch16_224", "blocks.11"),
        ("densenet121", "features.denseblock1"),
        ("swin_tiny_patch4_window7_224", "layers.0"),
    ],
)
def test_the_layer_of_maps_cells_is_the_default(name, layer):
    backbone = create_backbone(name)
    assert default_layers(backbone) == [layer]
    with torch.no_grad():
        (found,) = LayerFeatures(backbone)(torch.zeros(1, 3, 64, 96))
    side = 16 if "vit" in name else 4
    assert found.shape[2:] == (64 // side, 96 // side)


def test_outputs_are_those_of_the_named_layers_in_the_order_of_the_names():
    model = network("test_resnet", ["layer3", "conv1", "layer2"])
    images = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        late, first, early = model(images)
        backbone = model.backbone
        x = backbone.conv1(images)
        torch.testing.assert_close(first, x)
        x = backbone.layer1(backbone.maxpool(backbone.act1(backbone.bn1(x))))
        torch.testing.assert_close(early, backbone.layer2(x))
        torch.testing.assert_close(late, backbone.layer3(backbone.layer2(x)))
    assert not any(part._forward_hooks for part in backbone.modules())


def test_layers_after_the_last_wanted_one_are_not_applied():
    model, applied = network("test_resnet", ["layer2", "layer1"]), []
    for name in ("layer1", "layer2", "layer3"):
        part = model.backbone.get_submodule(name)
        part.register_forward_hook(lambda *_args, name=name: applied.append(name))
    assert len(model(torch.randn(1, 3, 40, 56))) == 2
    assert applied == ["layer1", "layer2"]


def test_tokens_of_a_transformer_are_placed_without_those_that_have_no_place():
    model = network("test_vit", ["blocks.0", "blocks.5"])
    images = torch.randn(1, 3, 50, 70)  # patches of 16 pixels: 4 x 5
    with torch.no_grad():
        found = model(images)
        assert [item.shape[2:] for item in found] == [(4, 5), (4, 5)]
        last = model.backbone.norm(found[1].flatten(2).mT).mT.reshape(found[1].shape)
        torch.testing.assert_close(last, model.backbone.forward_features(images))


def test_every_tensor_is_frozen_and_in_evaluation_mode():
    model = network("test_resnet")
    assert not any(weight.requires_grad for weight in model.parameters())
    assert not any(part.training for part in model.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_resampled_to_any_grid_in_parts(name):
    model = network(name, layers_of(name))
    sources = list(image_features(model, picture(45, 70), (12, 18), Views()))
    assert len(sources) == len(model.layers)
    with torch.no_grad():
        channels = [item.shape[1] for item in model(torch.zeros(1, 3, 45, 70))]
    for parts, count in zip(sources, channels, strict=True):
        shapes = [tuple(part.shape) for part in parts]
        assert sum(shape[0] for shape in shapes) == count
        assert {shape[1:] for shape in shapes} == {(12, 18)}
        assert max(shape[0] for shape in shapes) <= 16


def test_cells_of_the_grid_read_the_patches_below_them():
    # Patches of 16 pixels on a grid of 4: the cells around a patch's center read it alone, half and
    # half with the next one at its edge. Beyond the outer centers, features are constant.
    model = network("test_vit", ["blocks.1"])
    image = picture(48, 64)
    (found,) = whole(model, image, (12, 16), Views())
    batch = Views().batch(model, image)
    with torch.no_grad():
        patches = model(batch)[0][0]
    # Centers of patches at pixels 7.5 + 16 i, of cells at 1.5 + 4 j: cell 2 is 2 pixels right of
    # patch 0's center, an eighth of the way to the next.
    expected = patches[:, 0, 0] * 7 / 8 + patches[:, 0, 1] / 8
    torch.testing.assert_close(found[:, 0, 2], expected)
    torch.testing.assert_close(found[:, 0, 0], patches[:, 0, 0])
    torch.testing.assert_close(found[:, 11, 15], patches[:, 2, 3])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_mirrored_image_has_the_mirrored_features_of_both_views(name):
    model, views, image = network(name, layers_of(name)), Views(flip=True), picture(45, 69)
    plain = whole(model, image, (12, 18), views)
    mirrored = whole(model, image[:, ::-1].copy(), (12, 18), views)
    assert len(plain) == 2 * len(model.layers)
    for k in range(0, len(plain), 2):
        torch.testing.assert_close(plain[k], mirrored[k + 1].flip(-1), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(plain[k + 1], mirrored[k].flip(-1), rtol=1e-3, atol=1e-4)


def test_a_classifiers_backbone_has_its_weights_and_filter(tmp_path):
    settings = {
        "backbone": "test_resnet", "pretrained": False, "output_stride": 16, "pooling": "gap",
        "interpolation": "bicubic",
    }  # fmt: skip
    torch.manual_seed(1)
    classifier, path = create_classifier(settings, 2), tmp_path / "model.safetensors"
    save_classifier(path, classifier.state_dict(), settings, 2)
    model = load_layer_features(path, "classifier", None, ["layer2"])
    assert model.interpolation == "bicubic" and model.layers == ("layer2",)
    for name, value in classifier.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value)


@pytest.mark.parametrize(
    ("name", "layers", "problem"),
    [
        ("test_resnet", ["layr2"], "layer is 'layr2', expected a module of the backbone: conv1"),
        ("test_resnet", ["global_pool"], "layer 'global_pool' is applied 0 times to an image"),
        ("test_vit", ["blocks.0.attn.q_norm"], "layer 'blocks.0.attn.q_norm' returns no feature"),
        ("efficientnet_b0", ["blocks.1.0.se.gate"], "se.gate' returns no feature map, expected"),
    ],
)
def test_a_layer_without_a_feature_map_is_refused(name, layers, problem):
    with pytest.raises(UserError, match=problem):
        network(name, layers)
