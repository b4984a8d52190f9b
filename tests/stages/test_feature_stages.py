"""A linear probe and its class maps from features that are computed once."""

from itertools import pairwise

import numpy as np
import pytest
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.io.arrays import MapShard, read_features, read_weights
from pipeline.models.backbone import create_backbone
from pipeline.stages.extract_features import extract_features
from pipeline.stages.make_maps import make_maps
from tests.helpers.training import run_probe

BACKBONE = {
    "backbone": "test_resnet", "pretrained": False, "output_stride": 16, "last_layer": None,
    "interpolation": "bicubic", "precision": "32-true",
}  # fmt: skip
#: Long side of all images: at the size of the probe, images keep their size.
SIDE = 40
PROBE = BACKBONE | {"size": SIDE, "bias": True, "solver": "logistic", "c": 0.1}
SCALES = [0.5, 1.0, 1.5]


def views(**changes):
    return {"scales": SCALES, "flip": True, "max_size": None} | changes


def extract(dataset, folder, shards=2, **changes):
    """Extract the features of all shards, and return their folders."""
    arguments = {
        "manifest": dataset["manifest"], "classes": dataset["classes"], "pretrained": [],
        "settings": BACKBONE, "views": views(), "seed": 3, "shards": shards, "threads": 1,
    } | changes  # fmt: skip
    for shard in range(shards):
        extract_features(**arguments, shard=shard, features=folder / str(shard))
    return [folder / str(shard) for shard in range(shards)]


def maps(dataset, weights, path, **changes):
    arguments = {
        "manifest": dataset["manifest"], "classes": dataset["classes"], "weights": weights,
        "previous": [], "features": [], "precision": "32-true", "split": "train", "shard": 1,
        "shards": 2, "maps": path, "threads": 1,
    } | changes  # fmt: skip
    make_maps(**arguments)
    return dict(iter(MapShard(path)))


@pytest.mark.parametrize("flip", [True, False])
def test_a_probe_on_stored_features_is_that_on_the_images(small_dataset, tmp_path, flip):
    features = extract(small_dataset, tmp_path / "features", views=views(flip=flip))
    settings = PROBE | {"flip": flip}
    stored = run_probe(
        small_dataset, tmp_path / "a.safetensors", settings, features=features, scales=SCALES
    )
    computed = run_probe(small_dataset, tmp_path / "b.safetensors", settings)
    one, other = read_weights(stored), read_weights(computed)
    assert one[1] == other[1] and one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        # Features are rounded to 16 bits.
        size = other[0][name].abs().max()
        assert (tensor - other[0][name]).abs().max() <= 0.01 * size, name


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("full", [True, False])
def test_maps_of_stored_features_are_those_of_the_images(
    small_dataset, tmp_path, align, flip, full
):
    seen = views(flip=flip)
    features = extract(small_dataset, tmp_path / "features", views=seen)
    weights = run_probe(small_dataset, tmp_path / "probe.safetensors", PROBE | {"flip": True})
    settings = seen | {"method": "cam", "stride": 4, "full_resolution": full, "align": align}
    found, expected = (
        maps(small_dataset, weights, tmp_path / f"{len(given)}", settings=settings, features=given)
        for given in (features[1:], [])
    )
    assert found.keys() == expected.keys() == {"1", "3"}
    for name, item in found.items():
        assert item.size == expected[name].size
        np.testing.assert_allclose(item.values, expected[name].values, atol=4e-3)
        np.testing.assert_allclose(item.agreement, expected[name].agreement, atol=4e-3)
        assert (item.full is None) == (not full)
        if full:
            np.testing.assert_allclose(item.full, expected[name].full, atol=4e-3)
    assert expected["1"].values.max() == 1


def test_each_scale_has_its_features(small_dataset, tmp_path):
    first, second = extract(small_dataset, tmp_path)
    assert sorted(path.name for path in first.iterdir()) == ["0.safetensors", "2.safetensors"]
    scales = read_features(second / "1.safetensors", range(3))
    assert [scale.shape[::3] for scale in scales] == [(2, 2), (2, 3), (2, 4)]
    assert all(a.shape[2] <= b.shape[2] for a, b in pairwise(scales))
    (middle,) = read_features(second / "1.safetensors", [1])
    assert np.array_equal(middle, scales[1]) and middle.dtype == np.float16


def test_an_image_without_features_is_named(small_dataset, tmp_path):
    features = extract(small_dataset, tmp_path / "features")
    (features[1] / "3.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images have no features in .*, first 3\.safet"):
        run_probe(small_dataset, tmp_path / "p", PROBE, features=features, scales=SCALES)


@pytest.mark.parametrize("damage", ["absent", "truncated"])
def test_of_damaged_features_the_folder_is_named(small_dataset, tmp_path, damage):
    features = extract(small_dataset, tmp_path / "features")
    weights = run_probe(small_dataset, tmp_path / "p", PROBE, features=features, scales=SCALES)
    path = features[1] / "1.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-100])
    settings = views() | {"method": "cam", "stride": 4, "full_resolution": False, "align": False}
    expected = r"features/1: its features 1\.safetensors cannot be used \(.*\): delete this folder"
    with pytest.raises(UserError, match=expected):
        maps(
            small_dataset, weights, tmp_path / "maps.safetensors", settings=settings,
            features=features[1:],
        )  # fmt: skip
    assert not (tmp_path / "maps.safetensors").exists()


def test_features_beyond_16_bits_are_refused(small_dataset, tmp_path):
    backbone = create_backbone("test_resnet", output_stride=16)
    state = backbone.state_dict()
    for name in [name for name in state if "bn" in name and name.endswith(("weight", "bias"))]:
        state[name] = 1e4 * (state[name] + 1)
    save_file(state, tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match="features of the backbone exceed the range of 16 bits"):
        extract(
            small_dataset, tmp_path / "features", pretrained=[tmp_path / "backbone.safetensors"],
            settings=BACKBONE | {"pretrained": True},
        )  # fmt: skip
