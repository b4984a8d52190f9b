"""What jobs read, by their wildcards."""

from types import SimpleNamespace

import pytest
from snakemake.io import ancient

from pipeline.config.resolve import resolve
from pipeline.planning.contents import contents_digest
from pipeline.planning.plan import Plan
from pipeline.planning.rule_inputs import RuleInputs, weights_digest

WILDCARDS = {
    "seed": "7", "classifier": "puzzle", "attribution": "cam", "maps": "cam+rw",
    "refinement": "crf", "split": "val", "shard": "1",
}  # fmt: skip
RUN = "results/demo/seed-7"


@pytest.fixture
def job(demo_config):
    return RuleInputs(Plan(resolve(demo_config | {"seeds": [3, 7], "shards": 2})))


@pytest.fixture
def wildcards():
    return SimpleNamespace(**WILDCARDS)


def test_stored_features_are_read_by_the_maps_of_train_with_their_views(demo_config, wildcards):
    probe = {"kind": "linear-probe", "backbone": "resnet18", "views_of": "cam"}
    demo_config["classifiers"] |= {"probe": probe, "other": probe | {"views_of": None}}
    job = RuleInputs(Plan(resolve(demo_config | {"seeds": [3, 7], "shards": 2})))
    wildcards.classifier, wildcards.split = "probe", "train"
    folders = [f"{RUN}/features/probe/{shard}" for shard in range(2)]
    assert job.probe_features(wildcards) == folders
    assert job.map_features(wildcards) == folders[1:]
    cam = resolve(demo_config)["attributions"]["cam"]
    assert job.views_of_probe(wildcards) == {
        key: cam[key] for key in ("scales", "flip", "max_size")
    }
    assert job.scales_of_probe(wildcards) == cam["scales"]
    wildcards.split = "val"
    assert job.map_features(wildcards) == []
    wildcards.split, wildcards.attribution = "train", "saliency"
    assert job.map_features(wildcards) == []
    for name in ("other", "puzzle"):
        wildcards.classifier, wildcards.attribution = name, "cam"
        assert job.map_features(wildcards) == []
    wildcards.classifier = "other"
    assert job.probe_features(wildcards) == [] == job.scales_of_probe(wildcards)


def test_a_walk_over_features_reads_the_classifier_and_pretrained_weights(demo_config, wildcards):
    demo_config["weights"] = {"resnet18": "mine.safetensors"}
    demo_config["classifiers"]["puzzle"] |= {"backbone": "resnet18"}
    read = {}
    for name, affinity in {
        "learned": {"features": "pretrained"},
        "own": {"kind": "features"},
        "pretrained": {"kind": "features", "features": "pretrained", "layers": ["layer2"]},
    }.items():
        job = RuleInputs(Plan(resolve(demo_config | {"seeds": [3, 7], "affinity": affinity})))
        read[name] = (
            job.walk_weights(wildcards), job.walk_pretrained(wildcards),
            job.feature_affinity(wildcards),
        )  # fmt: skip
    learned = f"{RUN}/affinity/puzzle/cam/model.safetensors"
    classifier = f"{RUN}/classifiers/puzzle/model.safetensors"
    assert read == {
        "learned": (learned, [], None),
        "own": (classifier, [], {"features": "classifier", "layers": None}),
        "pretrained": (
            classifier, ["mine.safetensors"], {"features": "pretrained", "layers": ["layer2"]},
        ),
    }  # fmt: skip


def test_an_export_is_of_label_images_or_of_probabilities(demo_config, wildcards):
    method = "puzzle/cam+rw/crf"
    export = {"pseudo_labels": [method], "formats": ["voc", "soft"]}
    job = RuleInputs(Plan(resolve(demo_config | {"shards": 1, "export": export})))
    of = {"kind": "pseudo_labels", "classifier": "puzzle", "maps": "cam+rw", "refinement": "crf"}
    images = SimpleNamespace(format="voc", **of)
    assert job.exported_labels(images) == [f"results/demo/pseudo_labels/{method}/train/0"]
    assert job.exported_probabilities(images) == []
    soft = SimpleNamespace(format="soft", **of)
    assert job.exported_probabilities(soft) == [f"results/demo/soft_pseudo_labels/{method}/train/0"]
    assert job.exported_labels(soft) == []


def test_the_users_weights_are_known_by_content_and_downloads_are_not(tmp_path, wildcards):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"weights")
    given = weights_digest(lambda _wildcards: [ancient(str(path))])
    before = given(wildcards)
    assert before == contents_digest([path]) != ""
    path.write_bytes(b"other weights")
    assert given(wildcards) not in ("", before)
    assert weights_digest(lambda _wildcards: [str(path)])(wildcards) == ""
    assert weights_digest(lambda _wildcards: [])(wildcards) == ""
