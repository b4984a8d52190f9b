import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.models.backbone import create_backbone
from pipeline.models.boundary import load_boundary_network
from pipeline.models.classifier import create_classifier, load_classifier, save_classifier
from pipeline.models.segmentation_network import (
    SegmentationNetwork,
    load_segmentation_network,
    save_segmentation_network,
)
from pipeline.training.optimization import make_optimizer

SETTINGS = {
    "backbone": "test_resnet",
    "pretrained": False,
    "output_stride": 16,
    "pooling": "gap",
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_classifier(SETTINGS, 3).eval()


def test_shapes(model):
    logits, maps = model(torch.randn(2, 3, 64, 48))
    assert logits.shape == (2, 3)
    assert maps.shape == (2, 3, 4, 3)


def test_pooled_class_maps_equal_a_linear_layer_on_pooled_features(model):
    images = torch.randn(2, 3, 64, 64)
    features = model.backbone.forward_features(images).double()
    weight = model.head.weight[:, :, 0, 0].double()
    expected = features.mean(dim=(2, 3)) @ weight.T
    torch.testing.assert_close(model(images).logits.double(), expected, rtol=1e-4, atol=1e-5)


def test_maximum_pooling_takes_the_strongest_cell():
    model = create_classifier(SETTINGS | {"pooling": "gmp"}, 2).eval()
    logits, maps = model(torch.randn(1, 3, 64, 64))
    assert logits.tolist() == [[maps[0, 0].max().item(), maps[0, 1].max().item()]]


@pytest.mark.parametrize("pooling", ["gap", "gmp"])
def test_every_parameter_has_a_gradient(pooling):
    model = create_classifier(SETTINGS | {"pooling": pooling}, 2).train()
    model(torch.randn(2, 3, 64, 64)).logits.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_batch_equals_its_single_images(model):
    images = torch.randn(3, 3, 48, 48)
    together = model(images).logits
    alone = torch.cat([model(image[None]).logits for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_saved_classifier_is_rebuilt_from_its_file_alone(model, tmp_path):
    save_classifier(tmp_path / "model.safetensors", model.state_dict(), SETTINGS, 3)
    again = load_classifier(tmp_path / "model.safetensors")
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(again(images).maps, model(images).maps)
    assert not again.training


@pytest.mark.parametrize("other", [{"dilation": False}, {"last_layer": "blocks.4"}])
def test_what_shapes_the_backbone_is_saved_with_it(other, tmp_path):
    settings = SETTINGS | {"backbone": "mobilenetv2_100"}
    torch.manual_seed(0)
    model = create_classifier(settings | other, 3).eval()
    save_classifier(tmp_path / "model.safetensors", model.state_dict(), settings | other, 3)
    images = torch.randn(1, 3, 64, 64)
    maps = load_classifier(tmp_path / "model.safetensors")(images).maps
    assert torch.equal(maps, model(images).maps)
    torch.manual_seed(0)
    assert not torch.equal(create_classifier(settings, 3).eval()(images).maps, maps)


def test_a_pretrained_classifier_needs_a_file(tmp_path):
    settings = SETTINGS | {"pretrained": True}
    with pytest.raises(ValueError, match="pretrained is true"):
        create_classifier(settings, 2)
    tensors = create_backbone("test_resnet", output_stride=16).state_dict()
    save_file(tensors, tmp_path / "w.safetensors")
    state = create_classifier(settings, 2, tmp_path / "w.safetensors").backbone.state_dict()
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize(("init", "deviation"), [("uniform", 0.0128), ("he", 0.03125)])
def test_the_class_layer_is_initialized_with_the_configured_deviation(init, deviation):
    settings = SETTINGS | {"backbone": "resnet50", "class_layer_init": init}
    torch.manual_seed(0)
    weight = create_classifier(settings, 20).head.weight
    assert weight.std().item() == pytest.approx(deviation, rel=0.015)
    # Uniform values reach 1.7 deviations, normal ones of that number about 4.
    assert (weight.abs().max() > 3 * deviation) == (init == "he")


def test_images_of_one_pixel_are_legal(model):
    assert model(torch.randn(1, 3, 1, 1)).maps.shape == (1, 3, 1, 1)


def test_weights_of_another_network_are_named(model, tmp_path):
    path = tmp_path / "model.safetensors"
    segmentation = {
        "backbone": "test_resnet", "output_stride": 16, "dilation": True, "decoder": "separable",
        "architecture": None, "architecture_options": {}, "atrous_rates": [12, 24, 36],
        "decoder_norm": "batch",
    }  # fmt: skip
    save_segmentation_network(
        path, SegmentationNetwork("test_resnet", 4).state_dict(), segmentation, 4
    )
    with pytest.raises(
        UserError, match=r"model\.safetensors: .* without last_layer, pooling, bias.*delete it"
    ):
        load_classifier(path)
    save_classifier(path, model.state_dict(), SETTINGS | {"backbone": "resnet18"}, 3)
    with pytest.raises(UserError, match=r"model\.safetensors: weights of another network"):
        load_classifier(path)
    with pytest.raises(UserError, match="without architecture, architecture_options, decoder"):
        load_segmentation_network(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a complete safetensors"):
        load_boundary_network(path)


def test_the_constant_learns_at_the_class_layers_rate():
    model = create_classifier(SETTINGS | {"bias": True}, 2)
    settings = {
        "name": "sgd", "learning_rate": 0.1, "head_multiplier": 10, "bias_multiplier": 1,
        "bias_decay": False, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0,
    }  # fmt: skip
    groups = make_optimizer(model, model.class_layer, settings).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rates[id(model.bias)] == rates[id(model.head.weight)] == 1
    assert {rates[id(parameter)] for parameter in model.backbone.parameters()} == {0.1}
    assert [*create_classifier(SETTINGS, 2).class_layer.parameters()] != []
