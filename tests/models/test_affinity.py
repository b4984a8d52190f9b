import numpy as np
import pytest
import torch

from pipeline.artifacts import write_weights
from pipeline.models.affinity import (
    AffinityNetwork,
    create_affinity_network,
    edge_map,
    load_affinity_network,
    save_affinity_network,
)
from pipeline.models.backbone import create_backbone
from pipeline.models.classifier import create_classifier, save_classifier

SETTINGS = {"backbone": "test_resnet", "pretrained": False, "output_stride": 16, "pooling": "gap"}


def network(seed=0, name="test_resnet"):
    torch.manual_seed(seed)
    return AffinityNetwork(create_backbone(name, output_stride=16))


@pytest.mark.parametrize("name", ["resnet50", "resnest101e", "resnest269e", "mobilenetv2_100"])
def test_promised_backbones_give_edges_at_stride_4(name):
    with torch.device("meta"):
        model = network(name=name).eval()
        assert model(torch.zeros(2, 3, 65, 96)).shape == (2, 17, 24)
        assert len(model.branches) == 5


def test_edges_are_shares_and_every_part_of_the_head_learns():
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
    model = create_classifier(SETTINGS, 3)
    save_classifier(tmp_path / "classifier.safetensors", model.state_dict(), SETTINGS, 3)
    return tmp_path / "classifier.safetensors", model


def test_features_are_the_classifiers_or_pretrained(classifier, tmp_path):
    path, model = classifier
    same, description = create_affinity_network(path, "classifier")
    shape = {"backbone": "test_resnet", "output_stride": 16, "dilation": True, "last_layer": None}
    assert description == shape
    mine, theirs = same.backbone.state_dict(), model.backbone.state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    other = create_backbone("test_resnet", output_stride=16)
    write_weights(tmp_path / "other.safetensors", other.state_dict(), {})
    found, _ = create_affinity_network(path, "pretrained", tmp_path / "other.safetensors")
    assert torch.equal(found.backbone.conv1[0].weight, other.conv1[0].weight)
    with pytest.raises(ValueError, match="pretrained is true"):
        create_affinity_network(path, "pretrained")


def test_a_saved_network_is_rebuilt(classifier, tmp_path):
    model, description = create_affinity_network(classifier[0], "classifier")
    save_affinity_network(tmp_path / "a.safetensors", model.state_dict(), description)
    image = torch.randn(1, 3, 40, 24)
    torch.testing.assert_close(
        load_affinity_network(tmp_path / "a.safetensors")(image), model.eval()(image)
    )


@pytest.mark.parametrize("max_size", [None, 32])
def test_a_mirrored_image_has_mirrored_edges(max_size):
    model = network().eval()
    image = np.random.default_rng(0).integers(0, 256, (36, 48, 3), dtype=np.uint8)
    edges = edge_map(model, image, (9, 12), flip=True, max_size=max_size)
    mirrored = edge_map(model, image[:, ::-1].copy(), (9, 12), flip=True, max_size=max_size)
    assert edges.shape == (9, 12)
    torch.testing.assert_close(mirrored.flip(1), edges)
    one_way = edge_map(model, image, (9, 12), flip=False, max_size=max_size)
    assert not torch.allclose(one_way, edges)
