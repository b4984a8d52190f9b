"""What a configuration leads to, by hand."""

import os
from types import SimpleNamespace

import pytest

from pipeline.config.resolve import resolve
from pipeline.errors import UserError
from pipeline.planning import inputs, jobs, settings
from pipeline.planning.plan import Plan, labels_path

METHOD = "puzzle/cam+rw/crf"


@pytest.fixture
def plan_of(demo_config):
    def plan(**sections):
        return Plan(resolve(demo_config | sections))

    return plan


def test_one_seed_lives_in_the_experiments_folder(plan_of):
    plan = plan_of()
    assert (plan.root, plan.home, plan.seed) == ("results/demo", "results/demo", 0)
    assert plan.runs == [plan] and plan.at(SimpleNamespace()) is plan
    assert plan.targets() == [
        "results/demo/dataset/check.html",
        "results/demo/report.html",
        "results/scoreboard.html",
    ]


def test_several_seeds_have_folders_of_their_own_beside_one_data_set(plan_of):
    plan = plan_of(seeds=[3, 7])
    assert plan.root == "results/demo/seed-{seed}"
    seventh = plan.at(SimpleNamespace(seed="7"))
    assert (seventh.root, seventh.seed) == ("results/demo/seed-7", 7)
    assert [run.seed for run in plan.runs] == [3, 7]
    assert seventh.manifest("train") == "results/demo/dataset/manifest.csv"
    assert (
        seventh.map_shards("plain/cam")[0]
        == "results/demo/seed-7/maps/plain/cam/train/0.safetensors"
    )
    assert [path for path in plan.targets() if path.endswith("report.html")] == [
        "results/demo/seed-3/report.html",
        "results/demo/seed-7/report.html",
    ]
    times = jobs.times(seventh)
    assert times[0] == "results/demo/benchmarks/prepare_dataset.tsv"
    assert all(path.startswith("results/demo/seed-7/benchmarks/") for path in times[1:])


def test_a_score_names_the_jobs_that_lead_to_it(plan_of):
    results = {
        item["file"]: item for item in jobs.scored_results(plan_of(shards=1, seeds=[1]).runs[0])
    }
    maps = results["scores/maps/puzzle/cam+rw/train.json"]
    assert maps["counts"] == "scores/maps/puzzle/cam+rw/train.counts.safetensors"
    walk = [
        "train_classifier/puzzle", "make_maps/puzzle/cam/train/0",
        "make_affinity_labels/puzzle/cam/0", "train_affinity/puzzle/cam",
        "propagate_maps/puzzle/cam+rw/train/0",
    ]  # fmt: skip
    assert maps["times"] == [f"benchmarks/{job}.tsv" for job in walk]
    network = results[f"scores/predictions/{METHOD}/val.json"]
    rest = [
        f"make_labels/{METHOD}/train/0",
        f"train_segmentation/{METHOD}",
        f"predict_masks/{METHOD}/val/0",
    ]
    assert network["times"] == [f"benchmarks/{job}.tsv" for job in walk + rest]
    plain = results["scores/maps/plain/cam/train.json"]["times"]
    assert plain == [
        "benchmarks/train_classifier/plain.tsv",
        "benchmarks/make_maps/plain/cam/train/0.tsv",
    ]


def test_affinities_of_features_need_no_training(plan_of):
    plan = plan_of(shards=1, affinity={"kind": "features", "layers": ["layer2"]})
    walk = [
        "train_classifier/puzzle", "make_maps/puzzle/cam/train/0",
        "propagate_maps/puzzle/cam+rw/train/0",
    ]  # fmt: skip
    results = {item["file"]: item["times"] for item in jobs.scored_results(plan)}
    made = results["scores/maps/puzzle/cam+rw/train.json"]
    assert made == [f"benchmarks/{job}.tsv" for job in walk]
    assert not [path for path in jobs.times(plan) if "affinity" in path]
    assert not [path for path in plan.histories() if "/affinity/" in path]
    classifier = "results/demo/classifiers/puzzle/model.safetensors"
    assert plan.walk_weights("puzzle/cam") == classifier
    learned = plan_of(shards=1)
    assert learned.walk_weights("puzzle/cam") == (
        "results/demo/affinity/puzzle/cam/model.safetensors"
    )
    assert [path for path in learned.histories() if "/affinity/" in path]


def test_a_self_training_round_needs_the_previous_rounds_network(plan_of, demo_config):
    attributions = demo_config["attributions"] | {
        "second": {"method": "segmentation", "trained_on": METHOD},
        "third": {"method": "segmentation", "trained_on": "puzzle/second+rw/crf"},
    }
    last = "puzzle/third/crf"
    network = demo_config["segmentation"] | {"trained_on": [last]}
    plan = plan_of(attributions=attributions, pseudo_labels=[last], segmentation=network, shards=1)
    assert plan.labels == [METHOD, "puzzle/second+rw/crf", last]
    assert plan.networks == plan.labels
    assert plan.walked == ["puzzle/cam", "puzzle/second"]
    assert plan.map_weights("puzzle", "cam") == "results/demo/classifiers/puzzle/model.safetensors"
    assert plan.map_weights("puzzle", "third") == (
        "results/demo/segmentation/puzzle/second+rw/crf/model.safetensors"
    )
    results = {item["file"]: item["times"] for item in jobs.scored_results(plan)}
    first = [
        "train_classifier/puzzle", "make_maps/puzzle/cam/train/0",
        "make_affinity_labels/puzzle/cam/0", "train_affinity/puzzle/cam",
        "propagate_maps/puzzle/cam+rw/train/0", f"make_labels/{METHOD}/train/0",
        f"train_segmentation/{METHOD}", "make_maps/puzzle/second/train/0",
        "make_affinity_labels/puzzle/second/0", "train_affinity/puzzle/second",
        "propagate_maps/puzzle/second+rw/train/0",
    ]  # fmt: skip
    found = results["scores/maps/puzzle/second+rw/train.json"]
    assert found == [f"benchmarks/{job}.tsv" for job in first]
    # Networks on the way are not scored on val, but all that was made counts as time.
    assert [file for file in results if "predictions" in file] == [
        f"scores/predictions/{last}/val.json"
    ]
    assert {job.removeprefix("results/demo/") for job in jobs.times(plan)} >= set(found)
    assert len(plan.histories()) == 1 + 2 + 3
    shown = settings.map_settings(plan.config, "second+rw")
    assert (shown["attribution"], shown["trained_on"]) == ("segmentation", METHOD)


def test_a_mean_with_the_previous_maps_needs_them_for_every_split(plan_of, demo_config):
    second = {"method": "segmentation", "trained_on": METHOD, "previous_weight": 0.3}
    attributions = demo_config["attributions"] | {"second": second}
    plan = plan_of(attributions=attributions, pseudo_labels=["puzzle/second/crf"], shards=1)
    job = SimpleNamespace(classifier="puzzle", attribution="second", split="val", shard="0")
    assert plan.previous_maps(job) == ["results/demo/maps/puzzle/cam+rw/val/0.safetensors"]
    job.attribution = "cam"
    assert plan.previous_maps(job) == []


def test_a_network_may_be_needed_only_for_a_comparison(plan_of, demo_config):
    attributions = demo_config["attributions"] | {
        "second": {"method": "segmentation", "trained_on": METHOD}
    }
    comparison = {"methods": ["puzzle/second"]}
    plan = plan_of(
        attributions=attributions,
        comparison=comparison,
        pseudo_labels=[],
        segmentation=demo_config["segmentation"] | {"trained_on": []},
    )
    assert plan.labels == plan.networks == [METHOD]


def test_exports_are_of_the_splits_that_are_asked_for(plan_of):
    wanted = {"pseudo_labels": [METHOD], "predictions": [METHOD], "formats": ["voc", "soft"]}
    plan = plan_of(export=wanted, shards=1)
    assert plan.exports() == [
        f"results/demo/export/{form}/{kind}/{METHOD}"
        for form in ("voc", "soft")
        for kind in ("pseudo_labels", "predictions")
    ]
    assert plan.export_splits("pseudo_labels") == ["train"] and plan.export_splits(
        "predictions"
    ) == ["val"]
    both = plan_of(export=wanted | {"splits": ["train", "val"]}, shards=1)
    voc = both.export_shards("voc", "pseudo_labels", METHOD)
    assert voc["labels"] == [
        f"results/demo/pseudo_labels/{METHOD}/{split}/0" for split in ("train", "val")
    ]
    assert voc["soft"] == []
    soft = both.export_shards("soft", "predictions", METHOD)
    assert soft["labels"] == []
    assert soft["soft"] == [
        f"results/demo/soft_predictions/{METHOD}/{split}/0" for split in ("train", "val")
    ]
    assert (
        both.export_scores("pseudo_labels", METHOD)[1]
        == f"results/demo/scores/pseudo_labels/{METHOD}/val.json"
    )
    assert (
        settings.export_settings(both.config, "predictions", METHOD)["image_labels_given"] is False
    )


def test_labels_that_are_only_exported_are_made_and_scored_too(plan_of):
    path = "plain/cam/crf"
    plan = plan_of(export={"pseudo_labels": [path], "formats": ["png"]})
    assert (
        path in plan.labels
        and f"results/demo/scores/pseudo_labels/{path}/train.json" in plan.scores()
    )


def test_a_folder_is_a_split_with_manifests_of_its_own(plan_of, tmp_path):
    folder = {"images": str(tmp_path), "pseudo_labels": [METHOD], "predictions": [METHOD]}
    plan = plan_of(folders={"holiday": folder})
    assert plan.splits == "train|val|holiday"
    assert plan.folder_results() == [
        f"results/demo/folders/holiday/{kind}/{METHOD}" for kind in ("predictions", "pseudo_labels")
    ]
    without, labeled = (
        plan.folder_manifest("holiday", kind, "puzzle") for kind in ("predictions", "pseudo_labels")
    )
    assert without == "results/demo/folders/holiday/manifest.csv"
    assert labeled == "results/demo/folders/holiday/labeled/puzzle.csv"
    assert plan.manifest("val", "puzzle") == "results/demo/dataset/manifest.csv"
    assert list(inputs.missing(plan)) == []
    gone = plan_of(folders={"holiday": folder | {"images": "nowhere"}})
    assert list(inputs.missing(gone)) == [
        "nowhere: no such folder, named by the configuration's folders.holiday.images"
    ]


def test_the_users_weights_count_by_their_bytes_and_a_download_does_not(
    plan_of, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"one")
    network = {"backbone": "resnet50", "pretrained": True}
    given = inputs.pretrained({"weights": {"resnet50": str(file)}}, network)
    state = inputs.weights_digest(given)
    os.utime(file, (0, 0))
    assert given == [str(file)] and inputs.weights_digest(given) == state != ""
    file.write_bytes(b"two")
    assert inputs.weights_digest(given) != state
    fetched = inputs.pretrained({"weights": {}, "downloads": {"folder": str(tmp_path)}}, network)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/resnet50.safetensors").write_bytes(b"one")
    assert fetched == [str(tmp_path / "weights/resnet50.safetensors")]
    assert inputs.weights_digest(fetched) == inputs.weights_digest([]) == ""


@pytest.mark.parametrize(
    ("images", "results", "depends"),
    [
        ("photos", "inside", False),
        ("../photos", "inside", True),
        ("../project/photos", "inside", False),
        ("{tmp}/photos", "inside", False),
        ("photos", "outside", True),
    ],
)
def test_links_depend_on_the_projects_place_where_they_are_absolute(
    plan_of, tmp_path, monkeypatch, images, results, depends
):
    project = tmp_path / "project"
    project.mkdir()
    if results == "outside":
        (tmp_path / "disk").mkdir()
        (project / "results").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(project)
    folder = {"kind": "folder", "images": images.format(tmp=tmp_path), "image_labels": "labels.csv"}
    plan = plan_of(dataset=folder, export=None)
    assert inputs.place_of_links(plan) == (str(project) if depends else "")


def test_only_a_rules_threshold_is_a_file(plan_of, demo_config):
    refinements = demo_config["refinements"] | {"free": {"background": {"value": "otsu"}}}
    plan = plan_of(refinements=refinements)
    assert plan.threshold("puzzle/cam+rw/free") == [
        "results/demo/thresholds/puzzle/cam+rw/train.json"
    ]
    assert plan.threshold(METHOD) == []
    assert settings.background(plan.config, "free") == {"rule": "threshold", "value": "otsu"}


def test_the_path_of_a_job_is_its_method():
    wildcards = SimpleNamespace(classifier="puzzle", maps="cam+rw", refinement="crf")
    assert labels_path(wildcards) == METHOD


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"export": {"predictions": ["plain/cam/crf"], "formats": ["png"]}},
            "export.predictions: 'plain/cam/crf' is not in segmentation.trained_on",
        ),
        ({"export": {"formats": ["png"]}}, "export requests nothing, expected pseudo_labels or"),
        (
            {"export": {"pseudo_labels": ["plain/cam/crff"], "formats": ["png"]}},
            "export.pseudo_labels: 'plain/cam/crff' names 'crff', which refinements lacks: did",
        ),
        ({"export": {"pseudo_labels": [METHOD], "formats": ["vocc"]}}, "did you mean 'voc'?"),
        ({"folders": {"x": {"images": "i"}}}, "folders.x requests nothing"),
        (
            {"folders": {"x": {"images": "i", "predictions": ["plain/cam/crf"]}}},
            "folders.x.predictions: 'plain/cam/crf' is not in segmentation.trained_on",
        ),
        (
            {"folders": {"val": {"images": "i", "pseudo_labels": [METHOD]}}},
            "a name in folders is 'val', expected a name other than train",
        ),
        ({"seeds": [1, 1]}, "seeds is [1, 1], expected no entry twice"),
        (
            {"refinements": {"x": {"background": {"rule": "power", "value": "mean"}}}},
            "value is 'mean', a rule for thresholds, expected a number for power",
        ),
        ({"refinements": {"x": {"background": {"value": "best"}}}}, "background.value is 'best'"),
    ],
)
def test_mistakes_are_named(plan_of, sections, message):
    with pytest.raises(UserError) as caught:
        plan_of(**sections)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("attribution", "expected"),
    [
        ({"method": "cam"}, "bf16-mixed"),
        ({"method": "grad-cam"}, "bf16-mixed"),  # of the last layer: known without a gradient
        ({"method": "grad-cam-pp", "layer": "layer3"}, "32-true"),
        ({"method": "saliency"}, "32-true"),
    ],
)
def test_gradients_are_in_32_bits(plan_of, demo_config, attribution, expected):
    plain = demo_config["classifiers"]["plain"] | {"precision": "bf16-mixed"}
    plan = plan_of(
        classifiers=demo_config["classifiers"] | {"plain": plain},
        attributions=demo_config["attributions"] | {"other": attribution},
    )
    assert settings.map_precision(plan.config, "plain", "other") == expected


def test_states_follow_links_and_survive_what_is_no_file(plan_of, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "photographs"
    root.mkdir()
    (root / "linked").symlink_to(outside)
    (root / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(root / "pipe.jpg")
    (root / os.fsdecode(b"caf\xe9.jpg")).touch()
    before = inputs.folder_digest(root)
    (outside / "new.jpg").touch()
    after = inputs.folder_digest(root)
    assert before != after
    (root / "._new.jpg").touch()
    assert inputs.folder_digest(root) == after


@pytest.mark.parametrize(
    ("make", "words"),
    [(os.mkfifo, "a named pipe"), (lambda path: path.symlink_to(path), "its symbolic links form")],
)
def test_a_table_that_is_no_file_is_refused_before_any_job(plan_of, tmp_path, make, words):
    make(tmp_path / "labels.csv")
    data = {"kind": "folder", "images": str(tmp_path), "image_labels": str(tmp_path / "labels.csv")}
    (problem,) = inputs.missing(plan_of(dataset=data))
    assert problem.startswith(f"{tmp_path}/labels.csv: {words}")
    assert problem.endswith("named by the configuration's dataset.image_labels")


def test_compared_maps_take_the_time_of_all_jobs_on_their_images(plan_of, demo_config):
    probe = {"kind": "linear-probe", "backbone": "resnet18", "views_of": "cam"}
    changes = {
        "classifiers": demo_config["classifiers"] | {"probe": probe},
        "attributions": demo_config["attributions"] | {"grad-cam": {"method": "grad-cam"}},
        "shards": 1,
    }
    methods = ["probe/cam", "probe/grad-cam", "puzzle/cam+rw"]
    walk = "propagate_maps/puzzle/cam+rw"
    made = {
        "train": {
            "probe/cam": ["extract_features/probe/0", "make_maps/probe/cam/train/0"],
            "probe/grad-cam": ["make_maps/probe/grad-cam/train/0"],
            "puzzle/cam+rw": ["make_maps/puzzle/cam/train/0", f"{walk}/train/0"],
        },
        "val": {  # its maps have no stored features
            "probe/cam": ["make_maps/probe/cam/val/0"],
            "probe/grad-cam": ["make_maps/probe/grad-cam/val/0"],
            "puzzle/cam+rw": ["make_maps/puzzle/cam/val/0", f"{walk}/val/0"],
        },
    }  # fmt: skip
    for split, wanted in made.items():
        plan = plan_of(comparison={"methods": methods, "split": split}, **changes)
        files = jobs.compared_times(plan)
        found = {
            method: [files[position] for position in positions]
            for method, positions in jobs.compared_positions(plan).items()
        }
        assert found == {
            method: [f"{plan.root}/benchmarks/{job}.tsv" for job in parts]
            for method, parts in wanted.items()
        }
