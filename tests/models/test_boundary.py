import pytest
import torch

from pipeline.io.arrays import write_weights
from pipeline.io.images import network_input
from pipeline.models.backbone import create_backbone
from pipeline.models.boundary import (
    BoundaryNetwork,
    boundary_map,
    create_boundary_network,
    load_boundary_network,
    save_boundary_network,
)
from pipeline.models.classifier import create_classifier, save_classifier
from pipeline.models.views import Views
from tests.helpers.photographs import photograph
from tests.helpers.training import NETWORK


def network(seed=0, name="test_resnet", **seen):
    torch.manual_seed(seed)
    return BoundaryNetwork(create_backbone(name, output_stride=16), **seen)


@pytest.mark.parametrize("name", ["resnet50", "resnest101e", "resnest269e", "mobilenetv2_100"])
def test_documented_backbones_have_boundary_maps_at_stride_4(name):
    with torch.device("meta"):
        model = network(name=name).eval()
        assert model(torch.zeros(2, 3, 65, 96)).shape == (2, 17, 24)
        assert len(model.branches) == 5


@pytest.mark.parametrize(
    ("name", "last_layer", "branches"),
    [
        ("test_resnet", "layer3", 4),
        ("mobilenetv2_100", "blocks.4", 4),
        ("mobilenetv2_100", ["blocks.2", "blocks.4"], 4),
        ("mobilenetv2_100", "blocks.6", 5),
        ("vgg16", "features.22", 4),
    ],
)
def test_a_backbone_that_ends_early_has_the_branches_of_its_stages(name, last_layer, branches):
    with torch.device("meta"):
        whole = BoundaryNetwork(create_backbone(name, output_stride=16)).eval()
        cut = create_backbone(name, output_stride=16, last_layer=last_layer)
        model = BoundaryNetwork(cut).eval()
        assert model(torch.zeros(2, 3, 65, 96)).shape == (2, 17, 24)
    assert len(model.branches) == branches
    shapes = [branch[0].weight.shape for branch in whole.branches]
    assert [branch[0].weight.shape for branch in model.branches] == shapes[:branches]


def test_boundaries_are_probabilities_and_every_part_of_the_head_learns():
    model = network().train()
    edges = model(torch.randn(2, 3, 33, 47))
    assert edges.shape == (2, 9, 12)
    assert edges.min() > 0 and edges.max() < 1
    edges.sum().backward()
    learning = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in learning} == {id(p) for p in model.head.parameters()}
    assert all(p.grad is not None and p.grad.any() for p in learning)


def test_the_backbone_stays_as_it_was():
    model = network().train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(
        torch.equal(value, before[key]) for key, value in model.backbone.state_dict().items()
    )


@pytest.fixture
def classifier(tmp_path):
    torch.manual_seed(5)
    model = create_classifier(NETWORK, 3)
    save_classifier(tmp_path / "classifier.safetensors", model.state_dict(), NETWORK, 3)
    return tmp_path / "classifier.safetensors", model


def test_features_are_the_classifiers_or_pretrained(classifier, tmp_path):
    path, model = classifier
    seen = {"crop": 48, "interpolation": "bicubic"}
    same, description = create_boundary_network(path, "classifier", **seen)
    shape = {"backbone": "test_resnet", "output_stride": 16, "dilation": True, "last_layer": None}
    assert description == shape | seen
    assert (same.crop, same.interpolation) == (48, "bicubic")
    mine, theirs = same.backbone.state_dict(), model.backbone.state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    other = create_backbone("test_resnet", output_stride=16)
    write_weights(tmp_path / "other.safetensors", other.state_dict(), {})
    found, _ = create_boundary_network(path, "pretrained", tmp_path / "other.safetensors")
    assert torch.equal(found.backbone.conv1[0].weight, other.conv1[0].weight)
    with pytest.raises(ValueError, match="pretrained is true"):
        create_boundary_network(path, "pretrained")


def test_a_saved_network_is_rebuilt(classifier, tmp_path):
    model, description = create_boundary_network(
        classifier[0], "classifier", crop=48, interpolation="bicubic"
    )
    save_boundary_network(tmp_path / "a.safetensors", model.state_dict(), description)
    image = torch.randn(1, 3, 40, 24)
    rebuilt = load_boundary_network(tmp_path / "a.safetensors")
    torch.testing.assert_close(rebuilt(image), model.eval()(image))
    assert (rebuilt.crop, rebuilt.interpolation) == (48, "bicubic")


@pytest.mark.parametrize("max_size", [None, 32])
def test_a_mirrored_image_has_mirrored_edges(max_size):
    model = network().eval()
    image = picture(36, 48)
    edges = boundary_map(model, image, (9, 12), Views(flip=True, max_size=max_size))
    mirrored = boundary_map(
        model, image[:, ::-1].copy(), (9, 12), Views(flip=True, max_size=max_size)
    )
    assert edges.shape == (9, 12)
    torch.testing.assert_close(mirrored.flip(1), edges)
    one_way = boundary_map(model, image, (9, 12), Views(max_size=max_size))
    assert not torch.allclose(one_way, edges)


def normalized(image, model):
    return torch.from_numpy(network_input(image, image.shape[:2], model))[None]


def picture(height, width):
    return photograph("astronaut", height, width)


def test_an_image_smaller_than_the_crop_has_the_edges_of_its_padded_training_crop():
    # The same as in training, where the rest of a crop is the mean color: zero after normalization.
    model = network(crop=64)
    image = picture(37, 51)
    crop = torch.zeros(1, 3, 64, 64)
    crop[:, :, :37, :51] = normalized(image, model)
    with torch.no_grad():
        expected = model.eval()(crop)[0, :10, :13]
    edges = boundary_map(model, image, (10, 13), Views())
    torch.testing.assert_close(edges, expected)
    unpadded = boundary_map(network(crop=16).eval(), image, (10, 13), Views())
    assert (unpadded - expected).abs().max() > 1e-3


def test_a_larger_image_than_the_crop_is_looked_at_whole():
    model = network(crop=16).eval()
    image = picture(64, 48)
    with torch.no_grad():
        expected = model(normalized(image, model))[0]
    edges = boundary_map(model, image, (16, 12), Views())
    torch.testing.assert_close(edges, expected)


@pytest.mark.parametrize("name", ["test_resnet", "vgg16"])
def test_sizes_that_are_no_multiples_of_the_stride_are_padded_with_the_mean_color(name):
    model = network(name=name).eval()
    images = torch.randn(1, 3, 33, 50)
    padded = torch.zeros(1, 3, 48, 64)
    padded[:, :, :33, :50] = images
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(padded)[:, :9, :13])


def test_both_views_logits_are_averaged_and_not_their_edges():
    model = network(crop=16).eval()
    image = picture(32, 48)
    with torch.no_grad():
        model.edge.weight *= 20  # edges near 0 and 1, whose mean is not that of the logits
        tensor = normalized(image, model)
        plain, mirrored = model(tensor, logits=True)[0], model(tensor.flip(3), logits=True)[0]
    expected = ((plain + mirrored.flip(1)) / 2).sigmoid()
    edges = boundary_map(model, image, (8, 12), Views(flip=True))
    torch.testing.assert_close(edges, expected)
    assert (expected - (plain.sigmoid() + mirrored.flip(1).sigmoid()) / 2).abs().max() > 0.05


def test_edges_are_relative_to_the_image_and_move_with_it():
    # Group norm looks at the whole image: rolling one in a frame of mean color changes nothing.
    model = network(crop=128).eval()
    inner = normalized(picture(32, 32), model)
    frames = torch.zeros(2, 3, 160, 160)
    frames[0, :, 64:96, 48:80] = inner
    frames[1, :, 80:112, 64:96] = inner
    with torch.no_grad():
        first, second = model(frames)
    torch.testing.assert_close(first[12:28, 8:24], second[16:32, 12:28], atol=1e-5, rtol=1e-4)
