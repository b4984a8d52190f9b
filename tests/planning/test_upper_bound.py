"""The upper bound: made only if asked for, and no label or other network depends on it."""

import os
from copy import deepcopy

import pytest
from PIL import Image

from pipeline.config.resolve import resolve
from pipeline.errors import UserError
from pipeline.planning import jobs, preflight, settings
from pipeline.planning.plan import Plan
from tests.helpers.workflow import TINY
from tests.helpers.workflow_api import read_workflow

METHOD = "puzzle/cam+rw/crf"
BOUND = "ground_truth"
#: Rules whose result depends on masks or boxes. No other rule's does.
SUPERVISED = {
    "list_ground_truth", "check_dataset", "sweep_thresholds", "evaluate_labels",
    "evaluate_predictions", "evaluate_boxes", "localize", "compare_attributions",
    "summarize_quality", "export_labels", "report", "record_experiment", "scoreboard",
    "train_upper_bound", "predict_upper_bound", "predict_soft_upper_bound",
    "evaluate_upper_bound", "export_upper_bound",
}  # fmt: skip
#: Those of them whose only way from the masks is a score that they show.
SHOW_SCORES = {
    "compare_attributions", "summarize_quality", "export_labels", "record_experiment", "scoreboard",
}  # fmt: skip
#: Rules whose result depends on the upper bound.
AFTER_BOUND = {
    "predict_upper_bound", "predict_soft_upper_bound", "evaluate_upper_bound",
    "export_upper_bound", "report", "record_experiment", "scoreboard",
}  # fmt: skip


def configuration(*bound, images):
    """Return a configuration with all that can be trained or labeled, and the upper bound."""
    config = deepcopy(TINY)
    config["attributions"]["second"] = {"method": "segmentation", "trained_on": METHOD}
    config["pseudo_labels"].append("puzzle/second+rw/crf")
    config["segmentation"]["trained_on"] = ["puzzle/second+rw/crf", METHOD, *bound]
    config["export"]["predictions"] = [METHOD, *bound]
    config["folders"] = {
        "more": {"images": images, "predictions": [METHOD], "pseudo_labels": [METHOD]}
    }
    return config


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The jobs of a configuration without the upper bound, and with it."""
    folder = tmp_path_factory.mktemp("bound")
    Image.new("RGB", (32, 32)).save(folder / "one.png")
    return [
        read_workflow(folder, configuration(*bound, images=str(folder)))["jobs"]
        for bound in ((), (BOUND,))
    ]


def descendants(planned, rule, *, through=lambda _path: True):
    """Return the rules of all jobs that read results of a rule, directly or not."""
    found = [job for job in planned if job["rule"] == rule]
    assert found
    for job in found:
        made = set(filter(through, job["output"]))
        found += [other for other in planned if other not in found and made & {*other["input"]}]
    return {job["rule"] for job in found} - {"all"}


def test_nothing_is_made_unless_asked_for_and_then_nothing_else_changes(both):
    without, with_bound = both
    assert not [job for job in without if "upper_bound" in job["rule"]]
    assert not [path for job in without for path in job["input"] if BOUND in path.split("/")]

    def weak(planned):
        kept = [job for job in planned if "upper_bound" not in job["rule"]]
        changed = {"report", "record_experiment", "all"}
        return sorted(str(job) for job in kept if job["rule"] not in changed)

    assert weak(without) == weak(with_bound) and len(weak(without)) > 50
    rules = [job["rule"] for job in with_bound]
    assert rules.count("train_upper_bound") == 1
    made = {path for job in with_bound for path in job["output"] if BOUND in path.split("/")}
    assert {path.removeprefix("results/tiny/").removesuffix(".json") for path in made} >= {
        "segmentation/ground_truth/model.safetensors", "predictions/ground_truth/val/0",
        "predictions/ground_truth/val/1", "scores/predictions/ground_truth/val",
        "export/voc/predictions/ground_truth", "export/soft/predictions/ground_truth",
    }  # fmt: skip
    assert not [path for path in made if {"train", "more"} & set(path.split("/"))]


def test_no_label_and_no_other_network_depends_on_a_mask(both):
    for planned in both:
        expected = {rule for rule in SUPERVISED if any(job["rule"] == rule for job in planned)}
        assert descendants(planned, "list_ground_truth") == expected
        direct = descendants(
            planned, "list_ground_truth", through=lambda path: "/scores/" not in path
        )
        assert direct == expected - SHOW_SCORES
    learned = {job["rule"] for job in both[1]} - SUPERVISED
    assert learned >= {
        "prepare_dataset", "train_classifier", "fit_probe", "make_maps", "train_affinity",
        "propagate_maps", "choose_threshold", "make_labels", "make_soft_labels",
        "train_segmentation", "predict_masks", "classify", "label_folder", "predict_folder",
    }  # fmt: skip


def test_nothing_is_labeled_with_the_upper_bound(both):
    _, with_bound = both
    assert descendants(with_bound, "train_upper_bound") - {"train_upper_bound"} == AFTER_BOUND


@pytest.fixture
def config(demo_config):
    """The demo with the upper bound beside the network that learns pseudo-labels."""
    demo_config["segmentation"]["trained_on"] = [METHOD, BOUND]
    return demo_config


def test_the_upper_bound_is_a_network_and_no_pseudo_label(config):
    plan = Plan(resolve(config | {"shards": 1, "seeds": [4]})).runs[0]
    assert BOUND not in plan.labels + plan.networks + plan.segmentation_labels
    assert plan.predicted == [METHOD, BOUND]
    root = "results/demo/seed-4"
    assert f"{root}/segmentation/ground_truth/history.csv" in plan.histories()
    assert f"{root}/scores/predictions/ground_truth/val.json" in plan.scores()
    results = {item["file"]: item["times"] for item in jobs.scored_results(plan)}
    own = ["benchmarks/train_upper_bound.tsv", "benchmarks/predict_upper_bound/val/0.tsv"]
    assert results["scores/predictions/ground_truth/val.json"] == own
    assert not set(own) & set(results[f"scores/predictions/{METHOD}/val.json"])
    assert set(jobs.times(plan)) >= {f"{root}/{path}" for path in own}


def test_the_upper_bound_has_the_settings_of_the_other_networks_and_says_what_it_learned(config):
    resolved = resolve(config)
    alone = resolve(config | {"segmentation": config["segmentation"] | {"trained_on": [METHOD]}})
    training = settings.segmentation_training(resolved)
    assert training == settings.segmentation_training(alone)
    shown = settings.upper_bound_settings(resolved)
    assert shown.pop("trained_on") == "ground-truth masks of train"
    assert shown == settings.prediction_settings(resolved)
    assert shown == {"image_labels_given": False} | resolved["prediction"]
    assert settings.export_settings(resolved, "predictions", BOUND)["trained_on"]


FOLDER = {"kind": "folder", "images": "i", "image_labels": "l.csv", "masks": "m"}
VOC = {"kind": "voc", "root": "r", "image_labels": "l.csv"}
ROUND = {"method": "segmentation", "trained_on": BOUND}
EXPORT = {"formats": ["png"]}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"dataset": FOLDER | {"masks": None}}, "the data set has none: set dataset.masks, or"),
        ({"dataset": VOC | {"masks": None}}, "the data set has none: set dataset.masks, or"),
        ({"dataset": FOLDER | {"scored_splits": ["val"]}}, "scored_splits lacks train: add it,"),
        ({"dataset": FOLDER | {"scored_splits": ["train"]}}, "scored_splits lacks val: add it,"),
        ({"dataset": VOC | {"score_list": "s.txt"}}, "leaves only those of s.txt: set score_list"),
        (
            {"export": EXPORT | {"pseudo_labels": [BOUND]}},
            "export.pseudo_labels.0 is 'ground_truth', expected CLASSIFIER/MAPS/REFINEMENT: a "
            "network that is trained on masks is an upper bound to compare with, so nothing is",
        ),
        (
            {"export": EXPORT | {"predictions": [BOUND], "splits": ["train", "val"]}},
            "'ground_truth' is exported for val only, but export.splits has train",
        ),
        ({"attributions": {"cam": {}, "second": ROUND}}, "second.trained_on is 'ground_truth', ex"),
        (
            {"folders": {"x": {"images": "i", "predictions": [BOUND]}}},
            "folders.x.predictions.0 is 'ground_truth', expected CLASSIFIER/MAPS/REFINEMENT",
        ),
        (
            {"folders": {"x": {"images": "i", "pseudo_labels": [BOUND]}}},
            "folders.x.pseudo_labels.0 is 'ground_truth', expected CLASSIFIER/MAPS/REFINEMENT",
        ),
        ({"pseudo_labels": [BOUND]}, "pseudo_labels.0 is 'ground_truth', expected CLASSIFIER"),
        ({"comparison": {"methods": [BOUND]}}, "methods.0 is 'ground_truth', expected CLASSIFIER"),
        (
            {"classifiers": {BOUND: {"backbone": "resnet18"}}},
            "a name in classifiers is 'ground_truth', expected a name other than ground_truth",
        ),
    ],
)
def test_what_the_upper_bound_cannot_be_is_refused_in_one_line(config, sections, message):
    with pytest.raises(UserError) as caught:
        resolve(config | sections)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_score_list_of_all_train_images_hides_no_mask(config):
    every = "ImageSets/Segmentation/train.txt"
    resolve(config | {"dataset": VOC | {"score_list": every, "train_list": every}})
    weak = config["segmentation"] | {"trained_on": [METHOD]}
    resolve(config | {"dataset": VOC | {"score_list": "s.txt"}, "segmentation": weak})


def test_predictions_of_the_upper_bound_are_exported_only_if_it_is_trained(config):
    export = {"export": EXPORT | {"predictions": [BOUND]}}
    plan = Plan(resolve(config | export))
    assert plan.exports() == ["results/demo/export/png/predictions/ground_truth"]
    assert plan.export_splits("predictions") == ["val"]
    config["segmentation"]["trained_on"] = [METHOD]
    with pytest.raises(UserError, match=r"'ground_truth' is not in segmentation\.trained_on"):
        resolve(config | export)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of four train images and a val image; two of the train images have masks."""
    monkeypatch.chdir(tmp_path)
    for name in "abcde":
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("L", (8, 8)).save(tmp_path / f"{kind}/{name}.png")
    for name in "bd":
        (tmp_path / f"masks/{name}.png").unlink()
    rows = [f"{name}.png,cat,{'val' if name == 'e' else 'train'}" for name in "abcde"]
    (tmp_path / "l.csv").write_text("image,labels,split\n" + "\n".join(rows), encoding="utf-8")
    return {"kind": "folder", "images": "images", "image_labels": "l.csv", "masks": "masks"}


def test_train_images_without_a_mask_are_counted_before_anything_runs(config, folder):
    config |= {"dataset": folder, "weights": {}}
    for part in [*config["classifiers"].values(), config["segmentation"]]:
        part["pretrained"] = False

    def problems():
        return preflight.problems(Plan(resolve(config)), [])

    (problem,) = problems()
    assert problem == (
        "segmentation.trained_on: 'ground_truth' needs masks of all train images, but 2 of 4 have "
        "none, first b: add them, or remove 'ground_truth'"
    )
    config["segmentation"]["trained_on"] = [METHOD]
    assert problems() == []
    config["segmentation"]["trained_on"] = [METHOD, BOUND]
    for name in "bd":
        os.link("masks/a.png", f"masks/{name}.png")
    assert problems() == []
