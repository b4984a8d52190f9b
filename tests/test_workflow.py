"""The real workflow on a tiny demo: what runs, what reruns, and what survives a kill."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
import venv

import numpy as np
import pytest
import yaml
from torchvision.datasets import VOCSegmentation

from pipeline.io.arrays import MapShard, read_label
from pipeline.io.tables import read_json
from pipeline.planning.checks import NETWORKS
from tests.helpers import REPOSITORY
from tests.helpers.workflow import (
    TINY,
    TRAINING,
    changed,
    command,
    planned,
    planned_each,
    snakemake,
)

pytestmark = pytest.mark.slow

AFTER_LABELS = {"train_segmentation": 1, "predict_masks": 2, "evaluate_predictions": 1}
# Labels that change are compared with all others; those exported are exported again.
OTHER_LABELS = {"compare_labels": 1, "assess_labels": 4, "summarize_quality": 4}
EXPORTS = {"make_soft_labels": 2, "export_labels": 2}
# The record is of the whole configuration, and the scoreboard of all records.
ALWAYS = {"record_experiment": 1, "report": 1, "scoreboard": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder in which the tiny configuration has run to its report."""
    folder = tmp_path_factory.mktemp("workflow")
    snakemake(folder, TINY)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """Return a new folder with the note that the networks of the configuration can be built.

    Their check imports torch, which takes longer than the rest of a dry run.
    """
    shutil.copytree(finished / NETWORKS, tmp_path / NETWORKS)
    return tmp_path


def seconds(benchmark):
    """Read the time of a job."""
    header, row = benchmark.read_text(encoding="utf-8").splitlines()
    return float(dict(zip(header.split("\t"), row.split("\t"), strict=True))["s"])


def test_the_whole_workflow_runs_to_its_report(finished):
    results = finished / "results/tiny"
    report = (results / "report.html").read_text(encoding="utf-8")
    for method in ("plain/cam", "puzzle/cam+rw", "plain/cam/threshold", "puzzle/cam+rw/crf"):
        assert method in report
    labels = read_json(results / "scores/pseudo_labels/puzzle/cam+rw/crf/train.json")
    predictions = read_json(results / "scores/predictions/puzzle/cam+rw/crf/val.json")
    assert (labels["images"], predictions["images"]) == (6, 3)
    assert labels["settings"]["image_labels_given"] is True
    assert predictions["settings"]["image_labels_given"] is False
    with (results / "comparison.csv").open(newline="", encoding="utf-8") as file:
        comparison = list(csv.DictReader(file))
    assert [row["method"] for row in comparison] == ["plain/cam", "plain/saliency", "probe/cam"]
    for row in comparison:  # on the three val images
        sweep = read_json(results / f"scores/maps/{row['method']}/val.json")
        assert float(row["miou"]) == sweep["miou"]
        times = (results / "benchmarks/make_maps" / row["method"] / "val").iterdir()
        assert float(row["seconds_per_image"]) == pytest.approx(sum(map(seconds, times)) / 3)
    assert 'id="comparison"' in report and 'id="units"' in report
    assert read_json(results / "experiment.json")["seed"] == 0
    assert "puzzle/cam+rw/crf" in (finished / "results/scoreboard.csv").read_text(encoding="utf-8")
    assert not list(results.rglob("checkpoint*")) and not list(results.rglob("*.partial"))


def test_a_finished_workflow_runs_no_job(finished, tmp_path):
    assert planned(finished, TINY) == {}
    # Nor has a copy without times, in which what a network was trained on is newer than it.
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, copy_function=shutil.copyfile, symlinks=True)
    for path in (copy / "results/tiny/labels").rglob("*"):
        path.touch()
    assert planned(copy, TINY) == {}


CHANGES = {
    "gallery": (changed("report", "gallery", value=2), {}),
    "thresholds of the sweep": (
        changed("evaluation", "thresholds", value=5),
        {"sweep_thresholds": 7, "compare_attributions": 1},
    ),
    "words about a threshold": (
        changed("refinements", "crf", "background", "threshold_source", value="by eye"),
        {"evaluate_labels": 2, "summarize_quality": 2, "export_labels": 2},
    ),
    "scales of the prediction": (
        changed("prediction", "scales", value=[1.0, 0.5]),
        {"predict_masks": 2, "evaluate_predictions": 1},
    ),
    "CRF of the labels": (
        changed("refinements", "crf", "crf", "iterations", value=3),
        {
            "make_labels": 4, "evaluate_labels": 2, "evaluate_boxes": 2,
            **OTHER_LABELS, **EXPORTS, **AFTER_LABELS,
        },
    ),
    "components of the graph cut": (
        changed("refinements", "graph-cut", "graph_cut", "components", value=2),
        {"make_labels": 2, "evaluate_labels": 1, "evaluate_boxes": 1, **OTHER_LABELS},
    ),
    "number of the superpixels": (
        changed("regions", "superpixels", "segments", value=[30]),
        {
            "make_regions": 2, "make_labels": 2, "evaluate_labels": 1, "evaluate_boxes": 1,
            **OTHER_LABELS,
        },
    ),
    "rule of the regions": (
        changed("refinements", "graph-cut", "regions", "rule", value="mean"),
        {"make_labels": 2, "evaluate_labels": 1, "evaluate_boxes": 1, **OTHER_LABELS},
    ),
    "crops of the saliency": (
        changed("attributions", "saliency", "crops", value=5),
        {
            "make_maps": 4, "choose_threshold": 2, "sweep_thresholds": 2, "make_labels": 2,
            "evaluate_labels": 1, "evaluate_boxes": 1, "localize": 1, "evaluate_faithfulness": 1,
            "compare_attributions": 1, **OTHER_LABELS,
        },
    ),
    "steps of the class models": (
        changed("class_models", "steps", value=3),
        {"visualize_classes": 3},
    ),
    "pictures of the units": (changed("units", "images", value=1), {"visualize_units": 3}),
    "threshold of the boxes": (
        changed("comparison", "localization", "threshold", value=0.3),
        {"localize": 3, "compare_attributions": 1},
    ),
    "steps of the faithfulness": (
        changed("comparison", "faithfulness", "steps", value=3),
        {"evaluate_faithfulness": 3, "compare_attributions": 1},
    ),
    "maps after a walk": (
        changed("comparison", "methods", value=[*TINY["comparison"]["methods"], "puzzle/cam+rw"]),
        {
            "make_maps": 2, "propagate_maps": 2, "classify": 2, "choose_threshold": 1,
            "sweep_thresholds": 1, "localize": 1, "evaluate_faithfulness": 1,
            "compare_attributions": 1,
        },
    ),
    "solver of the probe": (
        changed("classifiers", "probe", "solver", value="svm"),
        {
            "fit_probe": 1, "make_maps": 2, "visualize_classes": 1, "visualize_units": 1,
            "classify": 2, "choose_threshold": 1, "sweep_thresholds": 1, "localize": 1,
            "evaluate_faithfulness": 1, "compare_attributions": 1,
        },
    ),
    "steps of the random walk": (
        changed("random_walks", "rw", "steps", value=32),
        {
            "propagate_maps": 2, "choose_threshold": 1, "sweep_thresholds": 1, "make_labels": 2,
            "evaluate_labels": 1, "evaluate_boxes": 1, **OTHER_LABELS, **EXPORTS, **AFTER_LABELS,
        },
    ),
    "epochs of the affinities": (
        changed("affinity", "epochs", value=2),
        {
            "train_affinity": 1, "propagate_maps": 2, "choose_threshold": 1, "sweep_thresholds": 1,
            "make_labels": 2, "evaluate_labels": 1, "evaluate_boxes": 1,
            **OTHER_LABELS, **EXPORTS, **AFTER_LABELS,
        },
    ),
    "affinities of features": (
        changed("affinity", value={"kind": "features", "layers": ["layer2"]}),
        {
            "propagate_maps": 2, "choose_threshold": 1, "sweep_thresholds": 1, "make_labels": 2,
            "evaluate_labels": 1, "evaluate_boxes": 1, **OTHER_LABELS, **EXPORTS, **AFTER_LABELS,
        },
    ),
    "threshold of the affinity labels": (
        changed("affinity", "confident_labels", value={"background": 0.2}),
        {
            "make_affinity_labels": 2, "train_affinity": 1, "propagate_maps": 2,
            "choose_threshold": 1, "sweep_thresholds": 1, "make_labels": 2, "evaluate_labels": 1,
            "evaluate_boxes": 1, **OTHER_LABELS, **EXPORTS, **AFTER_LABELS,
        },
    ),
    "epochs of one classifier": (
        changed("classifiers", "puzzle", "epochs", value=2),
        {
            "train_classifier": 1, "make_maps": 2, "choose_threshold": 2, "sweep_thresholds": 2,
            "classify": 2, **OTHER_LABELS, **EXPORTS,
            "make_affinity_labels": 2, "train_affinity": 1, "propagate_maps": 2,
            "visualize_classes": 1, "visualize_units": 1, "make_labels": 4, "evaluate_labels": 2,
            "evaluate_boxes": 2,
            **AFTER_LABELS,
        },
    ),
    "seed": (
        changed("seed", value=1),
        {
            "generate_demo": 1, "prepare_dataset": 1, "list_ground_truth": 1, "check_dataset": 1,
            "train_classifier": 2,
            "fit_probe": 1,
            "make_maps": 12, "visualize_classes": 3, "visualize_units": 3, "classify": 8,
            "choose_threshold": 7, **OTHER_LABELS, **EXPORTS,
            "localize": 3, "evaluate_faithfulness": 3, "compare_attributions": 1,
            "make_affinity_labels": 2, "train_affinity": 1, "propagate_maps": 2,
            "make_regions": 2,
            "sweep_thresholds": 7, "make_labels": 8, "evaluate_labels": 4, "evaluate_boxes": 4,
            **AFTER_LABELS,
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def planned_after_changes(finished):
    """Return the jobs that each change would run."""
    return planned_each(finished, {name: config for name, (config, _) in CHANGES.items()})


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_exactly_what_depends_on_it(planned_after_changes, name):
    assert planned_after_changes[name] == {**CHANGES[name][1], **ALWAYS}


def test_a_single_output_can_be_a_target(folder):
    target = "results/tiny/maps/plain/cam/train/1.safetensors"
    jobs = planned(folder, TINY, target)
    assert jobs == {"generate_demo": 1, "prepare_dataset": 1, "train_classifier": 1, "make_maps": 1}


def test_a_rule_can_be_a_target(folder):
    assert planned(folder, TINY, "prepare_dataset") == {"generate_demo": 1, "prepare_dataset": 1}


def test_exported_labels_equal_the_pseudo_labels(finished):
    results = finished / "results/tiny"
    export = results / "export/voc/pseudo_labels/puzzle/cam+rw/crf/VOCdevkit/VOC2012"
    labels = VOCSegmentation(export.parents[1], year="2012", image_set="train")
    assert len(labels) == 6
    made = {p.stem: p for p in (results / "pseudo_labels/puzzle/cam+rw/crf/train").rglob("*.png")}
    for path in (export / "SegmentationClass").iterdir():
        assert np.array_equal(read_label(path), read_label(made[path.stem]))
    soft = results / "export/soft/pseudo_labels/puzzle/cam+rw/crf"
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "checksums.sha256"], cwd=soft, check=False
    )
    assert done.returncode == 0


def test_a_threshold_chosen_without_masks_is_recorded_with_its_score(finished):
    scores = finished / "results/tiny/scores"
    chosen = read_json(finished / "results/tiny/thresholds/plain/cam/train.json")["thresholds"]
    labels = read_json(scores / "pseudo_labels/plain/cam/threshold/train.json")["threshold"]
    assert labels == {
        "value": chosen["mean"],
        "threshold_source": "by the rule 'mean', without masks",
    }
    sweep = read_json(scores / "maps/plain/cam/train.json")
    free = sweep["label_free"]
    assert (free["rule"], free["value"]) == ("mean", chosen["mean"])
    # The labels were made at that threshold, so that they have its score.
    assert (
        free["miou"] == read_json(scores / "pseudo_labels/plain/cam/threshold/train.json")["miou"]
    )
    assert free["cost"] == pytest.approx(sweep["miou"] - free["miou"])


def test_images_of_a_further_folder_get_masks(finished):
    pictures = finished / "further/sub"
    pictures.mkdir(parents=True)
    demo = finished / "results/tiny/demo/JPEGImages"
    for index, path in enumerate(sorted(demo.iterdir())[:3]):
        shutil.copy(path, pictures / f"{index}{path.suffix}")
    method = "puzzle/cam+rw/crf"
    folder = {
        "images": "further",
        "predictions": [method],
        "pseudo_labels": [method],
        "confidence": 0.01,
    }
    config = changed("folders", value={"more": folder})
    targets = [
        f"results/tiny/folders/more/{kind}/{method}" for kind in ("pseudo_labels", "predictions")
    ]
    jobs = planned(finished, config, *targets)
    assert jobs == {
        "list_folder": 1, "classify": 2, "label_folder": 1, "make_maps": 2, "propagate_maps": 2,
        "make_labels": 2, "predict_masks": 2, "predict_folder": 2,
    }  # fmt: skip
    snakemake(finished, config, *targets)
    for target in targets:
        masks = sorted((finished / target / "masks").rglob("*.png"))
        assert [path.name for path in masks] == ["0.png", "1.png", "2.png"]
        assert read_label(masks[0]).shape == (32, 32)


def test_a_self_training_round_makes_maps_with_the_first_network(finished):
    second = {
        "method": "segmentation",
        "trained_on": "puzzle/cam+rw/crf",
        "scales": [1.0],
        "previous_weight": 0.5,
    }
    config = changed("attributions", "second", value=second)
    scores = "results/tiny/scores/pseudo_labels/puzzle"
    assert planned(finished, config, f"{scores}/second+rw/crf/train.json") == {
        "make_maps": 2, "make_affinity_labels": 2, "train_affinity": 1, "propagate_maps": 2,
        "make_labels": 2, "evaluate_labels": 1,
    }  # fmt: skip
    target = f"{scores}/second/crf/train.json"
    snakemake(finished, config, target)
    found = read_json(finished / target)
    assert found["images"] == 6
    assert found["settings"]["trained_on"] == "puzzle/cam+rw/crf"
    assert planned(finished, config, target) == {}


def test_maps_of_a_probe_walk_over_its_features_without_a_training(finished):
    config = changed("affinity", value={"kind": "features"})
    target = "results/tiny/maps/probe/cam+rw/val/0.safetensors"
    assert planned(finished, config, target) == {"propagate_maps": 1}
    snakemake(finished, config, target)
    walked, source = MapShard(finished / target), MapShard(finished / target.replace("+rw", ""))
    assert walked.ids == source.ids and walked.ids
    for image_id in walked.ids:
        before, after = source[image_id].values, walked[image_id].values
        assert after.shape == before.shape
        if before.any():
            assert after.max() == 1 and not np.array_equal(after, before)


def test_features_for_a_probe_and_its_maps_are_computed_once(finished, tmp_path):
    probe = TINY["classifiers"]["probe"] | {"views_of": "cam"}
    del probe["size"]
    config = changed("classifiers", "probe", value=probe)
    fit, maps = {"extract_features": 2, "fit_probe": 1}, "results/tiny/maps/probe/cam/train/0"
    weights = "results/tiny/classifiers/probe/model.safetensors"
    assert planned(finished, config, weights) == fit
    targets = [maps + ".safetensors", maps[:-1] + "1.safetensors"]
    assert planned(tmp_path, config, *targets)["extract_features"] == 2
    snakemake(tmp_path, config, *targets)
    assert planned(tmp_path, config, *targets) == {}
    refit = changed("classifiers", "probe", value=probe | {"c": 1.0})
    assert planned(tmp_path, refit, *targets) == {"fit_probe": 1, "make_maps": 2}
    for key, value, jobs in (
        ("stride", 8, {"make_maps": 2}),
        ("max_size", 24, fit | {"make_maps": 2}),
    ):
        again = changed("attributions", "cam", key, value=value)
        again["classifiers"]["probe"] = probe
        assert planned(tmp_path, again, *targets) == jobs
    (tmp_path / targets[0]).unlink()
    assert planned(tmp_path, config, *targets) == {"make_maps": 1}
    # Without its features, a finished probe and its maps stay.
    shutil.rmtree(tmp_path / "results/tiny/features")
    assert planned(tmp_path, config, targets[1]) == {}


@pytest.mark.slow
def test_a_transformer_goes_from_a_probe_to_a_segmentation_network(tmp_path):
    config = changed("segmentation", value=TRAINING | {
        "backbone": "test_vit", "frozen": ["all"], "trained_on": ["probe/cam+rw/crf"],
        "architecture_options": {"decoder_fusion_channels": 16},
    })  # fmt: skip
    probe = {"backbone": "test_vit", "last_layer": ["blocks.2", "blocks.5"], "views_of": "cam"}
    linear = {"kind": "linear-probe", "pretrained": False}
    config |= {"classifiers": {"probe": linear | probe}, "shards": 1}
    config |= {"pseudo_labels": ["probe/cam+rw/crf"], "export": None, "comparison": None}
    # Labels of a walk over the features of two blocks: no boundary network is trained.
    config["affinity"] = {"kind": "features", "layers": ["blocks.1", "blocks.5"]}
    config["random_walks"]["rw"]["markers"] = {"foreground": 0.5, "background": 0.2}
    target = "results/tiny/scores/predictions/probe/cam+rw/crf/val.json"
    jobs = planned(tmp_path, config, target)
    assert jobs["propagate_maps"] == 1 and not {"make_affinity_labels", "train_affinity"} & set(
        jobs
    )
    snakemake(tmp_path, config, target)
    found = read_json(tmp_path / target)
    assert found["images"] == 3 and 0 < found["miou"] < 1
    assert planned(tmp_path, config, target) == {}


def test_seeds_share_only_the_data_set(finished, folder):
    config = changed("seeds", value=[0, 1])
    jobs = planned(folder, config)
    alone = planned(folder, TINY)
    shared = {
        "generate_demo",
        "prepare_dataset",
        "list_ground_truth",
        "check_dataset",
        "scoreboard",
    }
    assert jobs == {rule: count if rule in shared else 2 * count for rule, count in alone.items()}
    paths = [f"results/tiny/seed-{seed}/classifiers/plain/model.safetensors" for seed in (0, 1)]
    snakemake(folder, config, *paths)
    first, second = ((folder / path).read_bytes() for path in paths)
    alone_path = finished / "results/tiny/classifiers/plain/model.safetensors"
    assert first == alone_path.read_bytes() != second


def test_a_second_checkout_runs_its_own_code(tmp_path):
    # Snakemake itself does not quote the path of Python.
    checkout = tmp_path / "it's a [second] checkout"
    for name in ("pipeline", "profiles", "rules"):
        shutil.copytree(REPOSITORY / name, checkout / name)
    shutil.copy(REPOSITORY / "Snakefile", checkout)
    (checkout / "pipeline/stages/generate_demo.py").write_text(
        "import pipeline\nraise SystemExit(f'imported from {pipeline.__file__}')\n",
        encoding="utf-8",
    )
    venv.create(checkout / ".venv")
    (packages,) = (checkout / ".venv/lib").glob("python*/site-packages")
    (packages / "these.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    # The environment's own package is another one, as of an editable installation.
    text = snakemake(
        tmp_path, TINY, snakefile=checkout / "Snakefile", python=checkout / ".venv/bin/python",
        check=False,
    )  # fmt: skip
    assert f"imported from {checkout / 'pipeline/__init__.py'}" in text


def test_another_workflow_can_use_this_one_as_a_module(tmp_path):
    text = (REPOSITORY / "examples/downstream/config.yaml").read_text(encoding="utf-8")
    over = yaml.safe_load(text)
    over["wsss"]["dataset"] |= {"train": 8, "val": 2}
    over["wsss"]["classifiers"]["plain"] |= {"epochs": 1, "batch_size": 4}
    over["student"]["epochs"] = 1
    snakemake(tmp_path, over, snakefile=REPOSITORY / "examples/downstream/Snakefile")
    assert (tmp_path / "results/student.safetensors").is_file()
    assert "epoch 1 of 1: loss" in (tmp_path / "results/logs/train_student.log").read_text(
        encoding="utf-8"
    )


def given_by_a_user(finished, folder, **changes):
    """Return a copy of the demo's files and the section of a data set that names them."""
    demo = folder / "data"
    shutil.copytree(finished / "results/tiny/demo", demo)
    return demo, {
        "kind": "voc", "root": str(demo), "image_labels": "labels.csv",
        "classes": ["redcap", "goldcap", "greencap", "bluecap", "violetcap"],
    } | changes  # fmt: skip


def test_user_files_changed_in_place_rerun_what_depends_on_them(finished, folder):
    demo, dataset = given_by_a_user(finished, folder)
    further = folder / "further"
    shutil.copytree(demo / "JPEGImages", further / "deep")
    config = changed("dataset", value=dataset)
    config["folders"] = {
        "more": {"images": str(further), "predictions": config["segmentation"]["trained_on"]}
    }
    wanted = ["check_dataset", "results/tiny/folders/more/manifest.csv"]
    snakemake(folder, config, *wanted)
    for name in ("JPEGImages", "SegmentationClass", "../further"):
        (demo / name / ".DS_Store").write_bytes(b"a file manager's")
    same = config | {"dataset": dataset | {"root": f"{demo}/", "masks": "SegmentationClass/"}}
    assert planned(folder, same, *wanted) == {}
    # Files that were touched, or copied without their times, have the bytes that they had; and
    # images and masks may be dated in the future.
    for path in [*demo.rglob("*"), *further.rglob("*")]:
        ahead = 3600 if path.suffix == ".png" else 0
        os.utime(path, (time.time() + ahead,) * 2)
    assert planned(folder, same, *wanted) == {}
    names = sorted(path.name for path in (demo / "SegmentationClass").glob("*.png"))
    shutil.copy(demo / "SegmentationClass" / names[0], demo / "SegmentationClass" / names[1])
    shutil.copy(further / "deep" / names[0], further / "deep/added.png")
    trained = "results/tiny/classifiers/plain/model.safetensors"
    assert planned(folder, config, *wanted, trained) == {
        "list_ground_truth": 1, "check_dataset": 1, "list_folder": 1, "train_classifier": 1,
    }  # fmt: skip
    shutil.copy(demo / "JPEGImages" / names[0], demo / "JPEGImages" / names[1])
    assert planned(folder, config, trained) == {"prepare_dataset": 1, "train_classifier": 1}
    # Not only in the run that meets the change: one that ends before is gone on with.
    probe = "results/tiny/classifiers/probe/model.safetensors"
    snakemake(folder, config, probe)
    shutil.copy(demo / "JPEGImages" / names[2], demo / "JPEGImages" / names[1])
    snakemake(folder, config, "check_dataset")
    assert planned(folder, config, probe) == {"fit_probe": 1}


def test_masks_with_other_names_are_refused_by_the_check(finished, folder):
    demo, dataset = given_by_a_user(finished, folder)
    for path in (demo / "SegmentationClass").iterdir():
        path.rename(path.with_name(f"mask-{path.name}"))
    text = snakemake(folder, changed("dataset", value=dataset), "check_dataset", check=False)
    assert "none of the 6 train images has a mask of its name, such as train_00000.png" in text
    assert "none of the 3 val images has a mask of its name" in text
    assert "set `masks: null`" in text and "Traceback" not in text


def test_masks_for_val_only_score_the_network(finished, folder):
    demo, dataset = given_by_a_user(finished, folder, scored_splits=["val"])
    for path in (demo / "SegmentationClass").glob("train*"):
        path.unlink()
    config = changed("dataset", value=dataset)
    jobs = planned(folder, config)
    assert not {"evaluate_labels", "evaluate_boxes"} & jobs.keys()
    assert jobs["evaluate_predictions"] == jobs["report"] == 1
    assert jobs["sweep_thresholds"] == 3  # of the compared maps, on val
    snakemake(folder, config, "list_ground_truth")


def test_without_masks_nothing_is_scored(finished, folder):
    demo = finished / "results/tiny/demo"
    dataset = {
        "kind": "folder",
        "images": str(demo / "JPEGImages"),
        "image_labels": str(demo / "labels.csv"),
    }
    jobs = planned(folder, changed("dataset", value=dataset))
    scoring = {"sweep_thresholds", "evaluate_labels", "evaluate_boxes", "evaluate_predictions"}
    assert not (scoring | {"localize"}) & jobs.keys()
    assert jobs["evaluate_faithfulness"] == 3  # asks the classifier, not a mask
    assert jobs["report"] == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("sedd", value=1), "unknown key 'sedd' in the top level: did you mean 'seed'?"),
        (
            changed("dataset", value={"kind": "voc", "root": "/nowhere"}),
            "/nowhere/ImageSets/Segmentation/train.txt: no such file, named by",
        ),
        (
            changed("classifiers", "plain", "pretrained", value=True)
            | {"weights": {"test_resnet": "/nowhere/w.safetensors"}},
            "/nowhere/w.safetensors: no such file",
        ),
        (
            changed("segmentation", "frozen", value=["layr1"]),
            "segmentation.frozen: layer is 'layr1', expected a module of the backbone",
        ),
    ],
    ids=["typo", "data", "weights", "layer"],
)
def test_mistakes_are_reported_before_any_job_runs(tmp_path, config, message):
    text = snakemake(tmp_path, config, check=False)
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "results").exists()


def test_a_repeated_key_ends_the_run(tmp_path):
    twice = tmp_path / "twice.yaml"
    twice.write_text("seed: 1\nshards: 2\nseed: 2\n", encoding="utf-8")
    done = subprocess.run(
        [*command(tmp_path, TINY, "--dry-run"), str(twice)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    message = f"{twice}: the top level has the key 'seed' twice, in lines 1 and 3"
    assert message in done.stdout + done.stderr


@pytest.mark.parametrize(
    "result",
    [
        "scores/pseudo_labels/plain/cam/crff/train.json",
        "scores/maps/plain/cam+wr/train.json",
        "maps/plan/cam/train/0.safetensors",
        "export/vocc/pseudo_labels/plain/cam/crf",
    ],
)
def test_a_result_of_a_misspelled_name_is_refused(folder, result):
    target = f"results/tiny/{result}"
    text = snakemake(folder, TINY, "--dry-run", target, check=False)
    assert f"No rule to produce {target}" in text
    assert "Traceback" not in text


def test_a_bad_image_is_named_and_leaves_no_output(finished, folder):
    demo = folder / "data"
    subprocess.run(["cp", "-r", str(finished / "results/tiny/demo"), str(demo)], check=True)
    (demo / "JPEGImages/train_00002.png").write_bytes(b"broken")
    dataset = {"kind": "voc", "root": str(demo), "image_labels": "labels.csv",
               "classes": ["redcap", "goldcap", "greencap", "bluecap", "violetcap"]}  # fmt: skip
    text = snakemake(folder, changed("dataset", value=dataset), "prepare_dataset", check=False)
    assert "train_00002.png: not an image of a known format" in text
    assert not list((folder / "results").rglob("*.csv"))


def test_a_killed_run_resumes_to_the_same_bytes(finished, tmp_path):
    config = changed("classifiers", "plain", "epochs", value=4)
    target = "results/tiny/classifiers/plain/model.safetensors"
    snakemake(finished, config, target)
    run = subprocess.Popen(
        command(tmp_path, config, target), start_new_session=True, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "results/tiny/classifiers/plain/checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert checkpoint.exists()
    assert not (tmp_path / target).exists()
    locked = snakemake(tmp_path, config, target, check=False)
    assert "results/tiny is locked by a run that was killed" in locked and "--unlock" in locked
    snakemake(tmp_path, config, "--unlock")
    text = snakemake(tmp_path, config, target)
    assert re.search(r"continuing after epoch [1-4], from the checkpoint", text)
    assert (tmp_path / target).read_bytes() == (finished / target).read_bytes()
