"""What the shipped configurations promise, with the file that they ask of the user."""

import re
from functools import reduce

import pytest
import yaml
from snakemake.utils import update_config

from pipeline.config.resolve import resolve
from pipeline.datasets.paths import in_dataset
from pipeline.datasets.voc import CLASSES, read_list
from pipeline.errors import UserError
from pipeline.io.tables import read_table
from pipeline.planning import inputs
from pipeline.planning.network_problems import network_problems
from pipeline.planning.plan import Plan
from pipeline.resources.network import Network
from pipeline.resources.networks import memory_of
from pipeline.resources.sizes import TRAINING_FACTOR
from tests.helpers import REPOSITORY

OWN_FOLDER = REPOSITORY / "experiments/own-folder.yaml"
METHOD = "probe/second/crf"


def mine():
    """Read the user's file as the comment of the experiment shows it."""
    head = OWN_FOLDER.read_text(encoding="utf-8").split("\n\n", 1)[0]
    (shown,) = re.findall(r"^# mine.yaml:\n((?:#   .*\n)+)", head, re.MULTILINE)
    return yaml.safe_load(re.sub(r"^# {3}", "", shown, flags=re.MULTILINE))


def own_folder(**changes):
    """Merge as Snakemake does with several files after --configfile."""
    config = yaml.safe_load(OWN_FOLDER.read_text(encoding="utf-8"))
    update_config(config, mine() | changes)
    return config


def test_paths_make_the_configuration_of_a_folder_whole():
    config = resolve(own_folder())
    assert config["experiment"] == "mine"
    assert config["dataset"]["images"] == "photographs/"
    assert config["export"]["pseudo_labels"] == [METHOD] == config["pseudo_labels"][:1]
    rounds = Plan(config).rounds(METHOD)
    assert rounds == config["segmentation"]["trained_on"] == ["probe/cam+rw/crf-sure"]


def test_without_paths_they_are_asked_for():
    with pytest.raises(UserError, match="dataset lacks 'images', 'image_labels'"):
        resolve(yaml.safe_load(OWN_FOLDER.read_text(encoding="utf-8")))


def test_the_background_of_a_folder_is_chosen_without_masks():
    config = resolve(own_folder())
    assert config["dataset"]["masks"] is None
    for refinement in config["refinements"].values():
        assert refinement["background"]["value"] == 0.5
        assert refinement["background"]["threshold_source"] == "one half, without masks"
    assert config["random_walks"]["rw"]["markers"]  # its maps are probabilities


def test_the_users_file_overrides_the_experiment():
    network = resolve(own_folder(segmentation={"epochs": 3}))["segmentation"]
    assert (network["epochs"], network["batch_size"]) == (3, 16)


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite2", "mobilenetv2_100"])
def test_one_line_of_the_subset_names_the_backbone(backbone):
    text = (REPOSITORY / "experiments/voc2012-subset.yaml").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "backbone: &backbone" in line]
    changed = text.replace(line, line.replace("tf_efficientnet_lite2", backbone))
    plan = Plan(resolve(yaml.safe_load(changed)))
    networks = [plan.config["classifiers"]["probe"], plan.config["segmentation"]]
    assert [section["backbone"] for section in networks] == [backbone] * 2
    assert list(network_problems(plan)) == []


@pytest.mark.parametrize("name", ["animals", "vehicles"])
def test_a_set_of_voc_stands_for_a_folder(name):
    path = REPOSITORY / f"experiments/voc2012-subset/{name}.yaml"
    config = yaml.safe_load(OWN_FOLDER.read_text(encoding="utf-8"))
    update_config(config, yaml.safe_load(path.read_text(encoding="utf-8")))
    dataset = resolve(config)["dataset"]
    ids = {
        split: read_list(in_dataset("x", dataset[f"{split}_list"])) for split in ("train", "val")
    }
    table = read_table(in_dataset("x", dataset["image_labels"]))
    rows = {row["image"]: row["labels"].split(";") for row in table}
    assert not {*ids["train"]} & {*ids["val"]}
    assert {*ids["train"], *ids["val"]} == rows.keys()
    # Its labels are those of the subset, without the classes that are background here.
    of_subset = {
        row["image"]: [label for label in row["labels"].split(";") if label in dataset["classes"]]
        for row in read_table(path.with_name("labels.csv"))
    }
    assert rows == {image: labels for image, labels in of_subset.items() if labels}
    meanings = {int(value): name for value, name in dataset["mask_values"].items()}
    assert meanings == {
        number: label if label in dataset["classes"] else "background"
        for number, label in enumerate(CLASSES, start=1)
    }


#: Values of the published code of Puzzle-CAM: its scripts' defaults, and its README's commands.
#: Its optimizer hands the weight decay on as SGD's momentum: that is the momentum it trains with.
SGD = {"name": "sgd", "nesterov": True}
PUBLISHED = {
    # tools/general/xml_utils.py
    "dataset": {
        "kind": "voc", "train_list": "ImageSets/Segmentation/train_aug.txt", "image_labels": None,
        "val_list": "ImageSets/Segmentation/val.txt", "masks": "SegmentationClass",
        "score_list": "ImageSets/Segmentation/train.txt",
        "empty_boxes": "skip", "classes": None,
    },
    # train_classification_with_puzzle.py, with --alpha 4.00 of the README
    "classifiers.puzzle": {
        "init_from": None, "last_layer": None, "frozen": [],
        "pretrained": True, "output_stride": 16, "pooling": "gap", "batch_norm": "train",
        "class_layer_init": "he", "accumulate": 4,  # parts of 8 images: what batch norm sees
        "batch_size": 32, "epochs": 15, "selection": "last", "precision": "32-true",
        "optimizer": SGD | {
            "learning_rate": 0.1, "head_multiplier": 10, "bias_multiplier": 2, "bias_decay": False,
            "momentum": 1e-4, "weight_decay": 1e-4,
        },
        "schedule": {"power": 0.9, "warmup": 0},
        "augmentation": {
            "resize": [320, 640], "interpolation": "bicubic", "crop": 512, "flip": True,
            "color_jitter": 0, "hide_and_seek": None,
        },
        "puzzle": {
            "pieces": 4, "alpha": 4.0, "ramp": 0.5, "reconstruction": "masked_mean", "norm": "l1",
        },
        "adl": None,
    },
    # inference_classification.py
    "attributions.cam": {
        "scales": [0.5, 1.0, 1.5, 2.0], "flip": True, "max_size": None, "stride": 4,
        "full_resolution": True,
        "align": False,
    },
    # make_affinity_labels.py with the README's thresholds, train_affinitynet.py
    "affinity": {
        "features": "pretrained", "radius": 10, "pairs": "inner", "batch_size": 32, "epochs": 3,
        "optimizer": SGD | {
            "learning_rate": 0.1, "head_multiplier": 1, "bias_multiplier": 1, "bias_decay": True,
            "momentum": 1e-4, "weight_decay": 1e-4,
        },
        "schedule": {"power": 0.9, "warmup": 0},
        "augmentation": {
            "resize": [320, 640], "interpolation": "bicubic", "crop": 512, "flip": True,
            "color_jitter": 0, "hide_and_seek": None,
        },
    },
    "affinity.confident_labels": {"foreground": 0.4, "background": 0.1},
    "affinity.confident_labels.crf": {
        "iterations": 10, "unary": "labels", "gt_prob": 0.7, "gaussian_sxy": 3,
        "gaussian_compat": 3, "bilateral_sxy": 50, "bilateral_srgb": 5, "bilateral_compat": 10,
    },
    # inference_rw.py: 2^8 steps
    "random_walks.rw": {
        "beta": 10, "radius": 5, "steps": 256, "markers": None, "flip": True, "max_size": None,
    },
    # make_pseudo_labels.py with --threshold 0.35 --crf_iteration 1
    "refinements.crf": {"uncertain_below": None, "graph_cut": None},
    "refinements.crf.background": {"rule": "threshold", "value": 0.35},
    "refinements.crf.crf": {
        "iterations": 1, "unary": "labels", "gt_prob": 0.7, "gaussian_sxy": 3,
        "gaussian_compat": 3, "bilateral_sxy": 50, "bilateral_srgb": 5, "bilateral_compat": 10,
    },
    # train_segmentation.py with --mode fix --use_gn True
    "segmentation": {
        "architecture": "deeplabv3plus", "architecture_options": {},
        "frozen": [], "pretrained": True, "output_stride": 16, "decoder": "full",
        "batch_norm": "frozen_statistics", "accumulate": 4,
        "atrous_rates": [6, 12, 18], "decoder_norm": "group", "class_balance": 0,
        "batch_size": 32, "epochs": 50, "precision": "32-true",
        "optimizer": SGD | {
            "learning_rate": 0.007, "head_multiplier": 10, "bias_multiplier": 2,
            "bias_decay": False, "momentum": 4e-5, "weight_decay": 4e-5,
        },
        "schedule": {"power": 0.9, "warmup": 0},
        "augmentation": {
            "resize": [256, 1024], "interpolation": "bicubic", "crop": 512, "flip": True,
            "color_jitter": 0, "hide_and_seek": None,
        },
    },
    # inference_segmentation.py with --iteration 10
    "prediction": {
        "scales": [0.5, 1.0, 1.5, 2.0], "flip": True, "max_size": None, "fuse": "logits",
        "crf_classes": "all",
    },
    "prediction.crf": {
        "iterations": 10, "gaussian_sxy": 3, "gaussian_compat": 3, "bilateral_sxy": 80,
        "bilateral_srgb": 13, "bilateral_compat": 10,
    },
}  # fmt: skip
BACKBONES = {
    "voc2012": {"backbone": "resnet50.tv_in1k", "dilation": False},
    "voc2012-resnest269": {"backbone": "resnest269e.in1k", "dilation": True},
}


def shipped(name):
    return resolve(
        yaml.safe_load((REPOSITORY / f"experiments/{name}.yaml").read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("experiment", BACKBONES)
@pytest.mark.parametrize("place", PUBLISHED)
def test_the_papers_recipe_has_the_published_values(experiment, place):
    section = reduce(lambda part, key: part[key], place.split("."), shipped(experiment))
    expected = PUBLISHED[place]
    if place in ("classifiers.puzzle", "segmentation"):
        expected = expected | BACKBONES[experiment]
    assert {key: section[key] for key in expected} == expected
    # Whatever else there is says nothing of the method.
    besides = {
        "root", "boxes", "exif", "mask_values", "max_pixels", "scored_splits", "image_labels",
        "confident_labels", "trained_on",
        "preset", "kind", "eval_size", "min_steps", "accumulate", "compile", "method", "tolerance",
        "threshold_source", "validate_every", "crf", "background", "precision", "unary", "gt_prob",
    }  # fmt: skip
    assert section.keys() - expected.keys() <= besides


#: Of a GPU: what autograd keeps, its overhead on a CPU taken for the GPU's, and 12 bytes a weight.
OVERHEAD, WEIGHT_BYTES = TRAINING_FACTOR, 12e6


@pytest.mark.parametrize("experiment", BACKBONES)
def test_memory_in_the_comment_is_that_of_the_cost_model(experiment):
    text = (REPOSITORY / f"experiments/{experiment}.yaml").read_text(encoding="utf-8")
    config = shipped(experiment)
    rows = [
        [int(number) for number in row]
        for row in re.findall(r"^# +(\d+) +(\d+) +(\d+) +(\d+)$", text, re.MULTILINE)
    ]
    assert 3 <= len(rows) <= 4
    classifier, segmentation = config["classifiers"]["puzzle"], config["segmentation"]
    for accumulate, images, *gigabytes in rows:
        assert accumulate * images == 32
        for settings, stated in zip((classifier, segmentation), gigabytes, strict=True):
            memory = memory_of(Network.of(settings))
            pixels = images * 512**2 * (2 if settings is classifier else 1)
            kept = OVERHEAD * memory.training * pixels
            assert stated == round((kept + WEIGHT_BYTES * memory.parameters) / 1e9)
    # What the presets have is among them, and the classifier's batch norm sees 8 images.
    assert config["classifiers"]["puzzle"]["accumulate"] in {row[0] for row in rows}
    assert [row[1] for row in rows if row[0] == 4] == [8]


@pytest.mark.parametrize("experiment", BACKBONES)
def test_the_papers_baseline_differs_only_in_the_puzzle_loss(experiment):
    classifiers = shipped(experiment)["classifiers"]
    assert (
        classifiers["cam"] | {"preset": "puzzle-cam", "puzzle": classifiers["puzzle"]["puzzle"]}
        == (classifiers["puzzle"])
    )


@pytest.mark.parametrize("experiment", [*BACKBONES, "voc2012-modern"])
def test_full_voc_needs_no_paths(experiment):
    config = shipped(experiment)
    plan = Plan(config)
    assert list(inputs.missing(plan)) == []
    assert inputs.dataset_sources(plan) == ["data/VOCdevkit/VOC2012"]
    name = config["segmentation"]["backbone"]
    assert inputs.pretrained(config, config["segmentation"]) == [f"data/weights/{name}.safetensors"]
    assert config["dataset"]["train_list"].endswith("train_aug.txt")


@pytest.mark.parametrize("experiment", BACKBONES)
def test_train_scores_use_the_papers_images_and_voc_masks(experiment):
    dataset = shipped(experiment)["dataset"]
    assert dataset["score_list"] == "ImageSets/Segmentation/train.txt"
    assert dataset["masks"] == "SegmentationClass"


def test_the_modern_recipe_uses_no_masks():
    config = shipped("voc2012-modern")
    text = yaml.safe_dump(config["refinements"])
    # A walk from seeds gives shares, so that one half is no choice.
    assert config["random_walks"]["rw"]["markers"]
    assert config["refinements"]["crf"]["background"]["value"] == 0.5
    assert "value: 0.5" in text and "masks" not in text
