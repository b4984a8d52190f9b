"""The two training stages and what is made with their networks, on random images."""

import csv
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load
from sklearn.metrics import average_precision_score
from torch import nn

from pipeline.datasets.manifest import read_manifest, read_masks, write_manifest, write_masks
from pipeline.datasets.review import write_left_out
from pipeline.errors import UserError
from pipeline.io.arrays import MapShard, read_label, read_weights, write_label, write_maps
from pipeline.io.images import network_input, read_rgb
from pipeline.models.classifier import load_classifier
from pipeline.refinement.labels import label_by_scores
from pipeline.stages.make_maps import make_maps
from pipeline.stages.predict_masks import predict_masks
from pipeline.stages.train_classifier import train_classifier
from pipeline.stages.train_segmentation import train_segmentation
from pipeline.stages.train_upper_bound import train_upper_bound
from pipeline.stages.visualize_classes import visualize_classes
from tests.helpers.training import run_probe, run_training

PUZZLE = {"pieces": 4, "alpha": 1.0, "ramp": 0.5, "reconstruction": "masked_mean", "norm": "l1"}
PROBE = {
    "backbone": "test_resnet", "pretrained": False, "output_stride": 16, "size": 32, "bias": True,
    "solver": "logistic", "c": 0.1, "flip": True, "precision": "32-true", "last_layer": None,
}  # fmt: skip
CAM = {
    "method": "cam", "scales": [1.0, 0.5], "flip": True, "max_size": None, "stride": 4,
    "full_resolution": False, "align": False,
}  # fmt: skip


def train(dataset, folder, settings, **changes):
    return run_training(train_classifier, dataset, folder, settings, **changes)


@pytest.mark.parametrize("puzzle", [None, PUZZLE], ids=["plain", "puzzle"])
def test_a_classifier_is_trained_and_rebuilt(small_dataset, classifier_settings, tmp_path, puzzle):
    weights = train(small_dataset, tmp_path / "c", classifier_settings | {"puzzle": puzzle})
    model = load_classifier(weights)
    assert model(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 2)
    header, *rows = (tmp_path / "c/history.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3
    expected = {"epoch", "loss", "learning_rate", "seconds", "images_per_second"}
    expected |= {"val_map", "val_seconds"}
    if puzzle:
        expected |= {"loss_cls", "loss_p_cls", "loss_re", "alpha"}
    assert set(header.split(",")) == expected
    assert not (tmp_path / "c/checkpoint.safetensors").exists()


def test_class_colors_are_learned(small_dataset, classifier_settings, tmp_path):
    settings = classifier_settings | {"epochs": 30, "batch_size": 4}
    train(small_dataset, tmp_path / "c", settings)
    with (tmp_path / "c/history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert float(rows[-1]["val_map"]) == 1


def test_equal_seeds_write_equal_bytes(small_dataset, classifier_settings, tmp_path):
    one, two, other = (
        train(small_dataset, tmp_path / name, classifier_settings, seed=seed).read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one == two
    assert one != other


def test_the_best_epoch_by_val_labels_is_kept(small_dataset, classifier_settings, tmp_path):
    settings = classifier_settings | {"selection": "best_val_map"}
    weights = train(small_dataset, tmp_path / "c", settings)
    rows = history(tmp_path / "c")
    assert all(float(row["val_seconds"]) >= 0 for row in rows)
    model, data = (
        load_classifier(weights),
        read_manifest(small_dataset["manifest"], small_dataset["classes"]),
    )
    held_out = data.of_split("val")
    images = [network_input(read_rgb(record.image), (32, 32), model) for record in held_out]
    with torch.no_grad():
        found = model(torch.from_numpy(np.stack(images))).logits.numpy()
    expected = average_precision_score(data.targets(held_out), found, average="macro")
    assert max(float(row["val_map"]) for row in rows) == pytest.approx(expected)


def history(folder):
    with (folder / "history.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_validation_interval_does_not_change_training(
    small_dataset, classifier_settings, tmp_path
):
    weights, columns = [], []
    for every in (None, 0, 1, 2):
        settings = classifier_settings | {"validate_every": every}
        weights.append(train(small_dataset, tmp_path / str(every), settings).read_bytes())
        columns.append([row.get("val_map") for row in history(tmp_path / str(every))])
    last, never, always, second = columns
    assert never == [None] * 3
    assert [bool(value) for value in last] == [False, False, True]
    assert all(always) and second == ["", *always[1:]] and last[2] == always[2]
    states = [load(data) for data in weights]
    for state in states:
        for name, tensor in state.items():
            assert torch.equal(tensor, states[0][name]), name


def relabeled(dataset, split, names):
    data = read_manifest(dataset["manifest"], dataset["classes"])
    records = [replace(r, labels=names) if r.split == split else r for r in data.records]
    write_manifest(dataset["manifest"], records)
    return dataset


@pytest.mark.parametrize("names", [("cat",), ("cat", "dog"), ()], ids=["one", "both", "none"])
def test_labels_that_never_differ_are_refused(small_dataset, classifier_settings, tmp_path, names):
    relabeled(small_dataset, "train", names)
    expected = f"all 4 training images have the same labels .{', '.join(names) or 'none'}., expe"
    with pytest.raises(UserError, match=expected):
        train(small_dataset, tmp_path / "c", classifier_settings)
    with pytest.raises(UserError, match=expected):
        run_probe(small_dataset, tmp_path / "probe.safetensors", PROBE)
    assert not (tmp_path / "c").exists()


def test_a_val_split_without_labels_compares_no_epochs(
    small_dataset, classifier_settings, tmp_path
):
    relabeled(small_dataset, "val", ())
    with pytest.raises(UserError, match="no val image has a label, expected labels to compare"):
        train(small_dataset, tmp_path / "a", classifier_settings | {"selection": "best_val_map"})
    train(small_dataset, tmp_path / "b", classifier_settings | {"validate_every": 1})
    assert "val_map" not in history(tmp_path / "b")[0]


def test_pretrained_weights_come_from_a_local_file(small_dataset, classifier_settings, tmp_path):
    from safetensors.torch import save_file

    from pipeline.models.backbone import create_backbone

    torch.manual_seed(42)
    backbone = create_backbone("test_resnet", output_stride=16)
    save_file(backbone.state_dict(), tmp_path / "backbone.safetensors")
    frozen = deepcopy(classifier_settings) | {"batch_norm": "frozen", "epochs": 1}
    frozen["optimizer"] |= {"learning_rate": 1e-12}
    weights = train(
        small_dataset, tmp_path / "c", frozen, pretrained=[tmp_path / "backbone.safetensors"]
    )
    state = read_weights(weights)[0]
    key = "conv1.0.weight"
    torch.testing.assert_close(
        state[f"backbone.{key}"], backbone.state_dict()[key], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("bias", [False, True])
def test_a_classifier_can_start_from_a_probe(small_dataset, classifier_settings, tmp_path, bias):
    probe = PROBE | {"bias": bias}
    run_probe(small_dataset, tmp_path / "probe.safetensors", probe)
    still = deepcopy(classifier_settings) | {"init_from": "probe", "frozen": ["conv1", "layer1"]}
    still |= {"epochs": 1, "batch_norm": "frozen"}
    still["optimizer"] |= {"learning_rate": 1e-12}
    start = [tmp_path / "probe.safetensors"]
    weights = train(small_dataset, tmp_path / "c", still, pretrained=start)
    before, after = read_weights(start[0])[0], read_weights(weights)[0]
    assert before.keys() == after.keys() and ("bias" in after) == bias
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6, msg=name)
    moving = deepcopy(still) | {"seed": 0}
    moving["optimizer"] |= {"learning_rate": 0.01}
    moved = read_weights(train(small_dataset, tmp_path / "d", moving, pretrained=start))[0]
    changed = {name for name in moved if not torch.equal(moved[name], before[name])}
    assert "head.weight" in changed and "backbone.layer4.0.conv1.weight" in changed
    assert not any(name.startswith(("backbone.conv1", "backbone.layer1")) for name in changed)


def test_two_layers_below_the_class_layer_go_through_all_stages(
    small_dataset, classifier_settings, tmp_path
):
    layers = {"last_layer": ["layer3", "layer4"]}
    start = tmp_path / "probe.safetensors"
    run_probe(small_dataset, start, PROBE | layers)
    settings = classifier_settings | layers | {"init_from": "probe", "epochs": 1}
    weights = train(small_dataset, tmp_path / "c", settings, pretrained=[start])
    state, description = read_weights(weights)
    assert description["last_layer"] == ["layer3", "layer4"]
    assert state["head.weight"].shape == (2, 192 + 96, 1, 1)
    even, aligned = (
        maps_of(small_dataset, weights, tmp_path / f"{align}.safetensors", settings=settings)
        for align in (False, True)
        for settings in [CAM | {"align": align}]
    )
    assert even["2"].values.shape == aligned["2"].values.shape == (2, 10, 10)
    assert not np.array_equal(even["2"].values, aligned["2"].values)
    again = maps_of(small_dataset, weights, tmp_path / "0.safetensors")
    assert np.array_equal(again["2"].values, even["2"].values)


@pytest.fixture
def classifier(small_dataset, classifier_settings, tmp_path):
    return train(small_dataset, tmp_path / "classifier", classifier_settings | {"epochs": 1})


def maps_of(small_dataset, classifier, path, **changes):
    arguments = {
        "manifest": small_dataset["manifest"],
        "classes": small_dataset["classes"],
        "weights": classifier,
        "previous": [],
        "features": [],
        "settings": CAM,
        "precision": "32-true",
        "split": "train",
        "shard": 0,
        "shards": 1,
        "maps": path,
        "threads": 1,
    }
    make_maps(**(arguments | changes))
    return dict(iter(MapShard(path)))


def test_maps_are_of_the_labeled_classes(small_dataset, classifier, tmp_path):
    maps = maps_of(small_dataset, classifier, tmp_path / "0.safetensors")
    assert {name: item.classes.tolist() for name, item in maps.items()} == {
        "0": [1],
        "1": [2],
        "2": [1, 2],
        "3": [],
    }
    assert maps["2"].values.shape == (2, 10, 10)
    assert maps["2"].size == (38, 40)
    values = [values for item in maps.values() for values in item.values]
    assert all(class_map.min() >= 0 for class_map in values)
    assert {float(class_map.max()) for class_map in values} == {0, 1}  # without evidence, or with


def test_full_maps_are_stored_beside_the_cells_and_labels_are_made_of_them(
    small_dataset, classifier, tmp_path
):
    settings = CAM | {"full_resolution": True}
    maps = maps_of(small_dataset, classifier, tmp_path / "0.safetensors", settings=settings)
    assert {name: item.full.shape for name, item in maps.items()} == {
        "0": (1, 36, 40), "1": (1, 37, 40), "2": (2, 38, 40), "3": (0, 39, 40),
    }  # fmt: skip
    rule = {"rule": "threshold", "value": 0.5}
    labels = label_by_scores(maps["0"], None, background=rule, crf=None).initial
    np.testing.assert_array_equal(labels, maps["0"].full[0] > 0.5)
    assert set(np.unique(labels)) == {0, 1}


def test_a_method_gets_its_own_settings(small_dataset, classifier, tmp_path):
    settings = CAM | {"method": "saliency", "crops": 1, "crop_share": 0.9, "smooth_grad": None}
    one, two = (
        maps_of(small_dataset, classifier, tmp_path / f"{n}.safetensors", settings=chosen)
        for n, chosen in enumerate((settings, settings | {"crops": 5}))
    )
    assert one["2"].values.shape == two["2"].values.shape == (2, 10, 10)
    assert one["2"].values.max() == 1
    assert not np.array_equal(one["2"].values, two["2"].values)


def test_every_class_has_its_class_model(small_dataset, classifier, tmp_path):
    settings = {"size": 24, "steps": 3, "learning_rate": 0.1, "decay": 0.0, "jitter": 1, "blur": 0}
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        visualize_classes(
            classes=small_dataset["classes"], weights=classifier, settings=settings,
            precision="32-true", seed=0, grid=path, threads=1,
        )  # fmt: skip
    assert paths[0].read_bytes() == paths[1].read_bytes()
    grid = np.asarray(Image.open(paths[0]))
    assert grid.shape == (24 + 18, 2 * 24 + 8, 3)
    cat, dog = grid[18:, :24], grid[18:, 32:]
    assert cat.std() > 1 and dog.std() > 1 and not np.array_equal(cat, dog)


def test_shards_together_are_the_whole(small_dataset, classifier, tmp_path):
    whole = maps_of(small_dataset, classifier, tmp_path / "whole.safetensors")
    parts = {}
    for shard in range(3):
        path = tmp_path / f"{shard}.safetensors"
        parts |= maps_of(small_dataset, classifier, path, shard=shard, shards=3)
    assert parts.keys() == whole.keys()
    for name, item in whole.items():
        np.testing.assert_array_equal(parts[name].values, item.values)


@pytest.fixture
def segmentation_settings(demo_config):
    section = demo_config["segmentation"]
    section |= {"epochs": 2, "batch_size": 2}
    section["augmentation"] |= {"resize": [32, 40], "crop": 32}
    return section


def pseudo_labels(small_dataset, folder, ids):
    rng = np.random.default_rng(0)
    for number in ids:
        label = rng.choice(np.array([0, 1, 2, 255], np.uint8), (36 + number, 40))
        write_label(folder / f"{number}.png", label)


def segmented(small_dataset, folder, settings, labels, left_out=(), corrected=()):
    given = {"labels": labels, "left_out": list(left_out), "corrected": list(corrected)}
    return run_training(train_segmentation, small_dataset, folder, settings, **given)


def test_pseudo_labels_that_were_judged_bad_are_not_learned(
    small_dataset, segmentation_settings, tmp_path
):
    # Without the left-out images their labels are not even needed.
    pseudo_labels(small_dataset, tmp_path / "labels", [1, 2, 3])
    write_left_out(tmp_path / "left_out.csv", ["0", "4"])
    labels, left_out = [tmp_path / "labels"], [tmp_path / "left_out.csv"]
    one = segmented(small_dataset, tmp_path / "one", segmentation_settings, labels, left_out)
    assert one.is_file()
    with pytest.raises(UserError, match="1 of 4 images have no label"):
        segmented(small_dataset, tmp_path / "two", segmentation_settings, labels)


def test_a_segmentation_is_trained_and_predicts(small_dataset, segmentation_settings, tmp_path):
    pseudo_labels(small_dataset, tmp_path / "labels/0", [0, 2])
    pseudo_labels(small_dataset, tmp_path / "labels/1", [1, 3])
    shards = [tmp_path / "labels/0", tmp_path / "labels/1"]
    weights = segmented(small_dataset, tmp_path / "s", segmentation_settings, shards)
    again = segmented(small_dataset, tmp_path / "t", segmentation_settings, shards)
    assert weights.read_bytes() == again.read_bytes()
    for crf in (None, {"iterations": 2}):
        out = tmp_path / f"predictions/{crf is None}"
        predict_masks(
            manifest=small_dataset["manifest"],
            classes=small_dataset["classes"],
            weights=weights,
            settings={
                "scales": [1.0, 0.5],
                "flip": True,
                "max_size": 30,
                "crf": crf,
                "fuse": "probabilities",
                "crf_classes": "winning",
            },
            precision="32-true",
            split="val",
            shard=0,
            shards=1,
            predictions=out,
            threads=1,
        )
        assert sorted(path.name for path in out.iterdir()) == ["4.png", "5.png"]
        label = read_label(out / "5.png")
        assert label.shape == (41, 40)
        assert label.max() <= 2


def test_weights_of_classes_reach_the_loss(small_dataset, segmentation_settings, tmp_path):
    pseudo_labels(small_dataset, tmp_path / "labels", range(4))
    networks = [
        segmented(
            small_dataset,
            tmp_path / name,
            segmentation_settings | {"class_balance": power},
            [tmp_path / "labels"],
        ).read_bytes()
        for name, power in (("a", 0), ("b", 0.5), ("c", 0.5))
    ]
    assert networks[0] != networks[1] == networks[2]


def test_batch_norm_of_one_image_at_a_time_is_refused(
    small_dataset, segmentation_settings, tmp_path
):
    pseudo_labels(small_dataset, tmp_path / "labels", range(4))
    settings = segmentation_settings | {"batch_size": 4, "accumulate": 4}
    with pytest.raises(UserError, match="batch norm would see one image at a time: 4 training"):
        segmented(small_dataset, tmp_path / "s", settings, [tmp_path / "labels"])
    settings |= {"decoder_norm": "group"}
    assert segmented(small_dataset, tmp_path / "s", settings, [tmp_path / "labels"]).is_file()


def test_parts_of_a_step_are_weighted_by_their_labeled_pixels(
    small_dataset, segmentation_settings, tmp_path, monkeypatch
):
    """Two images have few labeled pixels. Without dropout, parts do not change the result."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda _self, features: features)
    pseudo_labels(small_dataset, tmp_path / "labels", range(4))
    for name in ("0", "1"):
        label = read_label(tmp_path / f"labels/{name}.png")
        label[:, 3:] = 255
        write_label(tmp_path / f"labels/{name}.png", label)
    settings = segmentation_settings | {
        "batch_size": 4, "batch_norm": "frozen_statistics", "decoder": "full",
        "decoder_norm": "group", "class_balance": 0.5,
        "optimizer": segmentation_settings["optimizer"] | {"name": "sgd", "learning_rate": 0.01},
    }  # fmt: skip
    states = [
        read_weights(
            segmented(
                small_dataset,
                tmp_path / f"{parts}",
                settings | {"accumulate": parts},
                [tmp_path / "labels"],
            )
        )[0]
        for parts in (1, 2, 4)
    ]
    for state in states[1:]:
        for name, tensor in states[0].items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            255,
            r"no pixel of the 4 pseudo-labels is confident .all are 255., .* lower .* "
            "uncertain_below",
        ),
        (0, r"the 4 pseudo-labels show only background, expected .* lower .* background.value"),
    ],
)
def test_pseudo_labels_without_a_class_are_refused_before_training(
    small_dataset, segmentation_settings, tmp_path, value, message
):
    pseudo_labels(small_dataset, tmp_path / "labels", range(4))
    for index in range(4):
        label = np.full_like(read_label(tmp_path / f"labels/{index}.png"), 255)
        label[5, 5] = value
        write_label(tmp_path / f"labels/{index}.png", label)
    with pytest.raises(UserError, match=message):
        segmented(small_dataset, tmp_path / "s", segmentation_settings, [tmp_path / "labels"])
    assert not (tmp_path / "s").exists()
    label[5, 5] = 2
    write_label(tmp_path / "labels/3.png", label)
    settings = segmentation_settings | {"epochs": 1}
    assert segmented(small_dataset, tmp_path / "s", settings, [tmp_path / "labels"]).is_file()


def test_a_missing_pseudo_label_is_named(small_dataset, segmentation_settings, tmp_path):
    pseudo_labels(small_dataset, tmp_path / "labels", [0, 1, 3])
    with pytest.raises(UserError, match=r"1 of 4 images have no label in .*, first 2.png"):
        segmented(small_dataset, tmp_path / "s", segmentation_settings, [tmp_path / "labels"])


def test_a_pseudo_label_of_another_size_is_named(small_dataset, segmentation_settings, tmp_path):
    pseudo_labels(small_dataset, tmp_path / "labels", [0, 1, 2, 3])
    write_label(tmp_path / "labels/2.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(
        UserError, match=r"2.png cannot be used \(it is \(5, 5\), expected \(38, 40\)"
    ):
        segmented(small_dataset, tmp_path / "s", segmentation_settings, [tmp_path / "labels"])


def test_a_segmentation_makes_maps_of_the_labeled_classes(
    small_dataset, segmentation_settings, tmp_path
):
    pseudo_labels(small_dataset, tmp_path / "labels", range(4))
    weights = segmented(small_dataset, tmp_path / "s", segmentation_settings, [tmp_path / "labels"])
    settings = CAM | {"method": "segmentation", "trained_on": "puzzle/cam/crf"}
    maps = maps_of(small_dataset, weights, tmp_path / "0.safetensors", settings=settings)
    assert {name: item.classes.tolist() for name, item in maps.items()} == {
        "0": [1], "1": [2], "2": [1, 2], "3": [],
    }  # fmt: skip
    assert maps["2"].values.shape == (2, 10, 10) and maps["2"].size == (38, 40)
    sums = maps["2"].values.astype(np.float64).sum(axis=0)
    assert sums.min() > 0 and sums.max() < 1
    rng = np.random.default_rng(0)
    others = {
        name: replace(item, values=rng.random(item.values.shape).astype(np.float16))
        for name, item in maps.items()
    }
    earlier = tmp_path / "earlier.safetensors"
    write_maps(earlier, others.items())
    mixed = maps_of(
        small_dataset, weights, tmp_path / "1.safetensors",
        settings=settings | {"previous_weight": 0.25}, previous=[earlier],
    )  # fmt: skip
    for name, item in mixed.items():
        first, second = others[name].values.astype(float), maps[name].values.astype(float)
        np.testing.assert_allclose(item.values, (first + 3 * second) / 4, atol=1e-3)
        np.testing.assert_array_equal(item.agreement, maps[name].agreement)


def bound(dataset, folder, settings):
    return run_training(train_upper_bound, dataset, folder, settings, masks=dataset["masks"])


#: Stored values of masks, each with its label: two values are void, and two are one class.
MEANING = {0: 0, 40: 1, 41: 1, 90: 2, 200: 255, 255: 255}


@pytest.mark.parametrize("power", [0, 0.5])
def test_the_upper_bound_learns_masks_as_others_learn_pseudo_labels(
    small_dataset, segmentation_settings, tmp_path, power
):
    """Masks that mean the same as pseudo-labels give the same network, void pixels included."""
    settings = segmentation_settings | {"class_balance": power}
    pseudo_labels(small_dataset, tmp_path / "labels", range(4))
    rng = np.random.default_rng(1)
    masks = {name: mask.path for name, mask in read_masks(small_dataset["masks"]).items()}
    for name in "0123":
        label = read_label(tmp_path / f"labels/{name}.png")
        stored = np.zeros_like(label)
        for value in (1, 2, 255):
            known = [key for key, meaning in MEANING.items() if meaning == value]
            stored[label == value] = rng.choice(known, np.count_nonzero(label == value))
        Image.fromarray(stored).save(masks[name])
    write_masks(small_dataset["masks"], masks, MEANING)
    weights = bound(small_dataset, tmp_path / "bound", settings)
    others = segmented(small_dataset, tmp_path / "s", settings, [tmp_path / "labels"])
    assert weights.read_bytes() == others.read_bytes()
    losses = [[row["loss"] for row in history(tmp_path / name)] for name in ("bound", "s")]
    assert losses[0] == losses[1] and len(losses[0]) == 2


def test_an_upper_bound_of_fewer_images_is_refused(small_dataset, segmentation_settings, tmp_path):
    masks = {name: mask.path for name, mask in read_masks(small_dataset["masks"]).items()}
    write_masks(small_dataset["masks"], {name: masks[name] for name in ("0", "3", "4", "5")})
    with pytest.raises(UserError, match="of all train images, but 2 of 4 have none, first 1: add"):
        bound(small_dataset, tmp_path / "bound", segmentation_settings)
    assert not (tmp_path / "bound").exists()


def test_a_mask_that_changed_its_size_is_named(small_dataset, segmentation_settings, tmp_path):
    path = read_masks(small_dataset["masks"])["2"].path
    write_label(path, np.zeros((5, 5), np.uint8))
    expected = r"masks/2.png: mask is \(5, 5\), expected \(38, 40\) as its image: run again"
    with pytest.raises(UserError, match=expected):
        bound(small_dataset, tmp_path / "bound", segmentation_settings)
