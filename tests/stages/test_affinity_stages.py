"""From class maps over learned edges to class maps that have walked."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.datasets.manifest import read_manifest
from pipeline.errors import UserError
from pipeline.io.arrays import ClassMaps, MapShard, read_label, write_maps
from pipeline.io.images import read_rgb, strided_size
from pipeline.models.backbone import create_backbone
from pipeline.models.boundary import boundary_map, load_boundary_network
from pipeline.models.classifier import create_classifier, save_classifier
from pipeline.models.layer_features import image_features, load_layer_features
from pipeline.models.views import Views
from pipeline.stages.make_affinity_labels import make_affinity_labels
from pipeline.stages.propagate_maps import propagate_maps
from pipeline.stages.train_affinity import train_affinity
from tests.helpers.grids import cosine_matrix, dense_walk, power_walk
from tests.helpers.training import run_training

WALK = {
    "radius": 3, "beta": 4.0, "steps": 16, "tolerance": 1e-5, "flip": True, "max_size": None,
    "markers": None,
}  # fmt: skip


@pytest.fixture
def maps(small_dataset, tmp_path):
    """Write one shard of maps that rise from left to right for every labeled class."""
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    items = []
    for record in data.of_split("train"):
        numbers = data.class_numbers(record)
        size = (record.height, record.width)
        rows, columns = strided_size(size, 4)
        ramp = np.linspace(0, 1, columns)[None, None] * np.ones((len(numbers), rows, 1))
        items.append((record.id, ClassMaps(numbers, ramp.astype(np.float16), size)))
    write_maps(tmp_path / "maps/0.safetensors", items)
    return tmp_path / "maps/0.safetensors"


def save_network(path, backbone):
    settings = {
        "backbone": backbone, "pretrained": False, "output_stride": None, "pooling": "gap",
    }  # fmt: skip
    torch.manual_seed(0)
    model = create_classifier(settings, 2)
    save_classifier(path, model.state_dict(), settings, 2)
    return path


@pytest.fixture
def classifier(tmp_path):
    return save_network(tmp_path / "classifier.safetensors", "test_resnet")


@pytest.fixture
def settings(demo_config):
    section = {
        key: value
        for key, value in demo_config["affinity"].items()
        if key not in ("kind", "confident_labels")
    }
    # Further than the uncertain pixels between foreground and background are wide.
    section |= {"epochs": 8, "batch_size": 4, "radius": 6}
    section["augmentation"] |= {"resize": [40, 40], "crop": 32}
    return section


def labeled(small_dataset, maps, folder, **changes):
    arguments = {
        "manifest": small_dataset["manifest"],
        "classes": small_dataset["classes"],
        "maps": maps,
        "foreground": 0.7,
        "background": 0.3,
        "crf": None,
        "labels": folder,
        "threads": 1,
    }
    make_affinity_labels(**(arguments | changes))
    return folder


def trained(small_dataset, classifier, labels, folder, settings):
    inputs = {"classifier": classifier, "labels": [labels]}
    return run_training(train_affinity, small_dataset, folder, settings, **inputs)


def propagated(small_dataset, source, weights, path, settings=WALK, affinity=None, pretrained=()):
    propagate_maps(
        manifest=small_dataset["manifest"],
        classes=small_dataset["classes"],
        source=source,
        weights=weights,
        pretrained=list(pretrained),
        settings=settings,
        affinity=affinity,
        precision="32-true",
        maps=path,
        threads=1,
    )
    return MapShard(path)


def test_labels_are_confident_at_both_ends_and_uncertain_between(small_dataset, maps, tmp_path):
    folder = labeled(small_dataset, maps, tmp_path / "labels")
    dog = read_label(folder / "1.png")
    assert dog.shape == (37, 40)
    assert np.unique(dog[:, :12]).tolist() == [0]
    assert np.unique(dog[:, 14:26]).tolist() == [255]
    assert np.unique(dog[:, 29:]).tolist() == [2]
    assert not read_label(folder / "3.png").any()  # an image without labels


def test_labels_pass_the_crf_in_processes(processes, small_dataset, maps, tmp_path):
    crf = {"iterations": 2}
    one = labeled(small_dataset, maps, tmp_path / "one", crf=crf)
    two = labeled(small_dataset, maps, tmp_path / "two", crf=crf, threads=2)
    assert len(list(one.iterdir())) == 4
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
        assert set(np.unique(read_label(path))) <= {0, 1, 2, 255}


def test_training_lowers_the_loss_and_repeats(small_dataset, maps, classifier, settings, tmp_path):
    labels = labeled(small_dataset, maps, tmp_path / "labels")
    one, two = (
        trained(small_dataset, classifier, labels, tmp_path / name, settings) for name in "ab"
    )
    assert one.read_bytes() == two.read_bytes()
    with (tmp_path / "a/history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert {"loss_background", "loss_foreground", "loss_negative"} <= rows[0].keys()


def test_an_image_without_a_label_stops_the_training(
    small_dataset, maps, classifier, settings, tmp_path
):
    labels = labeled(small_dataset, maps, tmp_path / "labels")
    (labels / "2.png").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images have no label in .*, first 2.png"):
        trained(small_dataset, classifier, labels, tmp_path / "a", settings)


@pytest.mark.parametrize(
    ("changes", "radius", "lacking"),
    [
        ({"foreground": 0.999, "background": 1e-6}, 6, "no pairs with different labels"),
        ({}, 2, "no pairs with different labels"),  # nearer than the uncertain pixels are wide
    ],
)
def test_labels_without_pairs_to_learn_from_stop_the_training(
    small_dataset, maps, classifier, settings, tmp_path, changes, radius, lacking
):
    labels = labeled(small_dataset, maps, tmp_path / "labels", **changes)
    with pytest.raises(UserError, match=f"the 4 confident labels have {lacking} closer than"):
        trained(small_dataset, classifier, labels, tmp_path / "a", settings | {"radius": radius})
    assert not (tmp_path / "a").exists()


@pytest.fixture
def network(small_dataset, maps, classifier, settings, tmp_path):
    labels = labeled(small_dataset, maps, tmp_path / "labels")
    return trained(small_dataset, classifier, labels, tmp_path / "n", settings | {"epochs": 1})


def test_propagated_maps_equal_the_dense_matrix_product(small_dataset, maps, network, tmp_path):
    walked = propagated(small_dataset, maps, network, tmp_path / "0.safetensors")
    source = MapShard(maps)
    assert walked.ids == source.ids
    model = load_boundary_network(network)
    for record in read_manifest(small_dataset["manifest"], small_dataset["classes"]).records[:4]:
        before, after = source[record.id], walked[record.id]
        assert (after.classes == before.classes).all() and after.size == before.size
        assert after.values.dtype == np.float16
        cells = before.values.shape[1:]
        edges = boundary_map(model, read_rgb(record.image), cells, Views(flip=True))
        expected = dense_walk(before.values, edges.numpy(), 3, 4.0, 16)
        expected /= expected.max(initial=1e-9)
        np.testing.assert_allclose(after.values, expected, atol=2e-3)


def test_propagated_markers_equal_the_dense_matrix_product(small_dataset, maps, network, tmp_path):
    settings = WALK | {"markers": {"foreground": 0.6, "background": 0.25}}
    walked = propagated(small_dataset, maps, network, tmp_path / "0.safetensors", settings)
    source, model = MapShard(maps), load_boundary_network(network)
    for record in read_manifest(small_dataset["manifest"], small_dataset["classes"]).records[:4]:
        before, after = source[record.id].values, walked[record.id].values
        # All maps are the same ramp: its right part is every class, its left background.
        cells = before.shape[1:]
        ground = np.tile(np.linspace(0, 1, cells[1]) < 0.25, (1, cells[0], 1))
        seeds = np.concatenate([before > 0.6, ground])
        edges = boundary_map(model, read_rgb(record.image), cells, Views(flip=True))
        arrived = dense_walk(seeds, edges.numpy(), 3, 4.0, 16)
        np.testing.assert_allclose(after, arrived[:-1] / arrived.sum(axis=0), atol=2e-3)
        assert after.shape == before.shape


@pytest.mark.parametrize("markers", [None, {"foreground": 0.6, "background": 0.25}])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_maps_walk_over_cosines_of_features_without_a_training(
    small_dataset, maps, tmp_path, backbone, markers
):
    layers = {"test_resnet": ["layer2", "layer4"], "test_vit": ["blocks.2"]}[backbone]
    weights = save_network(tmp_path / "other.safetensors", backbone)
    chosen = {"features": "classifier", "layers": layers}
    settings = WALK | {"markers": markers}
    path = tmp_path / "0.safetensors"
    walked = propagated(small_dataset, maps, weights, path, settings, chosen)
    source, model = MapShard(maps), load_layer_features(weights, "classifier", None, layers)
    for record in read_manifest(small_dataset["manifest"], small_dataset["classes"]).records[:4]:
        before, after = source[record.id].values.astype(np.float32), walked[record.id].values
        cells = before.shape[1:]
        starts = before
        if markers:
            ground = np.tile(np.linspace(0, 1, cells[1]) < 0.25, (1, cells[0], 1))
            starts = np.concatenate([before > 0.6, ground])
        sources = image_features(model, read_rgb(record.image), cells, Views(flip=True))
        features = [torch.cat(list(parts)).numpy() for parts in sources]
        arrived = power_walk(starts, cosine_matrix(features, 3), 4.0, 16)
        share = arrived[:-1] / arrived.sum(axis=0) if markers else arrived
        expected = share if markers else share / share.max(initial=1e-9)
        np.testing.assert_allclose(after, expected, atol=2e-3)
        assert len(features) == 2 * len(layers) and after.shape == before.shape


def test_pretrained_features_are_those_of_the_given_file(small_dataset, maps, tmp_path):
    weights = save_network(tmp_path / "classifier.safetensors", "test_resnet")
    torch.manual_seed(7)
    other = create_backbone("test_resnet", output_stride=16)
    save_file(other.state_dict(), tmp_path / "pretrained.safetensors")
    model = load_layer_features(weights, "pretrained", tmp_path / "pretrained.safetensors", None)
    torch.testing.assert_close(model.backbone.state_dict(), other.state_dict())
    walked = {
        features: propagated(
            small_dataset, maps, weights, tmp_path / f"walked-{features}.safetensors", WALK,
            {"features": features, "layers": None}, [tmp_path / "pretrained.safetensors"],
        )
        for features in ("classifier", "pretrained")
    }  # fmt: skip
    image_id = MapShard(maps).ids[0]
    found = [shard[image_id].values for shard in walked.values()]
    assert not np.array_equal(*found)


def test_an_image_whose_size_changed_is_reported(small_dataset, maps, network, tmp_path):
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(data.records[0].image)
    with pytest.raises(UserError, match=r"0.png: image is \(9, 9\), expected \(36, 40\)"):
        propagated(small_dataset, maps, network, tmp_path / "0.safetensors")
    assert not (tmp_path / "0.safetensors").exists()
