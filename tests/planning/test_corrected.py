"""The jobs that depend on corrected masks, and those that their content reruns."""

from copy import deepcopy

import numpy as np
import pytest

from pipeline.config.resolve import resolve
from pipeline.io.arrays import write_label
from pipeline.planning.corrected import digest, findings, learned_for, path_of, table
from pipeline.planning.inputs import dataset_section, dataset_without_ground_truth, missing
from pipeline.planning.plan import Plan
from tests.helpers.workflow import TINY
from tests.helpers.workflow_api import changed_rules, following, read_workflow

METHOD, SECOND = "puzzle/cam+rw/crf", "puzzle/second+rw/crf"
#: Rules that read corrected masks themselves, in a configuration without further rounds.
READERS = {
    "train_segmentation", "export_labels", "evaluate_corrections", "evaluate_predictions", "report",
}  # fmt: skip
#: Rules that follow from the networks that learn them, and from their scores.
FOLLOWING = {"predict_masks", "predict_soft_masks", "record_experiment", "scoreboard"}
#: Rules of a second self-training round, whose maps are made by such a network.
SECOND_ROUND = {
    "make_maps", "make_affinity_labels", "train_affinity", "propagate_maps", "choose_threshold",
    "make_labels", "make_soft_labels", "sweep_thresholds", "evaluate_labels", "evaluate_boxes",
    "assess_labels", "compare_labels", "summarize_quality",
}  # fmt: skip


def configuration(*, rounds=1, **dataset):
    """Return a configuration with all that can be trained, the upper bound too."""
    config = deepcopy(TINY) | {"dataset": TINY["dataset"] | dataset}
    config["segmentation"]["trained_on"] = [METHOD, "ground_truth"]
    config["export"]["predictions"] = [METHOD, "ground_truth"]
    if rounds == 2:
        config["attributions"]["second"] = {"method": "segmentation", "trained_on": METHOD}
        config["pseudo_labels"].append(SECOND)
    return config


@pytest.fixture(scope="module")
def workflows(tmp_path_factory):
    """Read the workflow without corrected masks, with them, with others, and with two rounds."""
    folder = tmp_path_factory.mktemp("corrected")
    path = folder / "masks/train_00000.png"
    found = {"none": read_workflow(folder, configuration())["jobs"]}
    write_label(path, np.zeros((32, 32), np.uint8))
    found["one"] = read_workflow(folder, configuration(corrected="masks"))["jobs"]
    found["rounds"] = read_workflow(folder, configuration(rounds=2, corrected="masks"))["jobs"]
    write_label(path, np.ones((32, 32), np.uint8))
    found["other"] = read_workflow(folder, configuration(corrected="masks/"))["jobs"]
    return found


def test_without_corrected_masks_no_job_reads_any(workflows):
    rules = {job["rule"] for job in workflows["none"]}
    assert not {"list_corrected", "evaluate_corrections"} & rules
    paths = {path for job in workflows["none"] for path in job["input"]}
    assert not [path for path in paths if "corrected" in path or "corrections/" in path]


def test_corrected_masks_rerun_what_uses_them_alone(workflows):
    own, every = changed_rules(workflows["none"], workflows["one"])
    assert own == {"list_corrected", *READERS, "record_experiment"}
    assert every == {"list_corrected", *READERS, *FOLLOWING}


def test_other_masks_rerun_the_list_and_what_follows(workflows):
    own, every = changed_rules(workflows["one"], workflows["other"])
    assert own - {"report", "record_experiment"} == {"list_corrected"}
    assert every >= READERS
    assert changed_rules(workflows["other"], workflows["other"]) == (set(), set())


def test_corrected_masks_never_reach_classifiers_thresholds_and_the_upper_bound(workflows):
    listing = [job for job in workflows["one"] if job["rule"] == "list_corrected"]
    assert len(listing) == 1
    reached = following(listing, workflows["one"])
    assert reached == {"list_corrected", *READERS, *FOLLOWING}
    untouched = {job["rule"] for job in workflows["one"]} - reached
    assert untouched >= {
        "prepare_dataset", "train_classifier", "fit_probe", "make_maps", "make_affinity_labels",
        "train_affinity", "propagate_maps", "choose_threshold", "make_labels", "make_soft_labels",
        "sweep_thresholds", "evaluate_labels", "train_upper_bound", "predict_upper_bound",
        "evaluate_upper_bound", "export_upper_bound",
    }  # fmt: skip


def test_a_second_round_depends_on_them_only_through_the_network_that_learned_them(workflows):
    planned = workflows["rounds"]
    listing = [job for job in planned if job["rule"] == "list_corrected"]
    reached = following(listing, planned)
    assert reached - {"list_corrected", *READERS, *FOLLOWING} <= SECOND_ROUND
    assert "make_maps" in reached
    direct = following(listing, planned, through=lambda path: "/segmentation/" not in path)
    # These only state the supervision of the network whose maps they score.
    stating = {"sweep_thresholds", "evaluate_labels"}
    scores = {"summarize_quality", "compare_labels"}
    assert direct - {"list_corrected", *READERS, *FOLLOWING} <= stating | scores
    told = [
        job for job in planned
        if job["rule"] in stating and any("corrected.csv" in path for path in job["input"])
    ]  # fmt: skip
    assert {job["wildcards"]["maps"] for job in told} == {"second+rw"}


def test_pseudo_labels_of_every_method_are_scored(workflows):
    jobs = [job for job in workflows["one"] if job["rule"] == "evaluate_corrections"]
    assert {path for job in jobs for path in job["output"] if path.endswith(".json")} == {
        f"results/tiny/scores/corrections/{method}/train.json" for method in TINY["pseudo_labels"]
    }
    for job in jobs:
        assert "results/tiny/dataset/corrected.csv" in job["input"]
        assert "results/tiny/dataset/masks.csv" not in job["input"]
        assert "'scored_against': 'corrected masks'" in job["params"]["settings"]


@pytest.fixture
def plan(demo_config, tmp_path):
    demo_config["dataset"]["corrected"] = str(tmp_path / "masks/")
    return Plan(resolve(demo_config))


def test_missing_masks_are_named_before_anything_runs(plan, tmp_path):
    (problem,) = missing(plan)
    assert problem.startswith(f"{tmp_path}/masks") and "dataset.corrected" in problem
    (tmp_path / "masks").mkdir()
    assert list(missing(plan)) == []


def test_a_file_or_a_folder_may_be_named_and_its_content_counts(plan, demo_config, tmp_path):
    assert path_of(plan) == f"{tmp_path}/masks"
    assert table(plan) == ["results/demo/dataset/corrected.csv"]
    assert findings(plan) == ["results/demo/dataset/corrected_findings.json"]
    assert learned_for(plan, METHOD) == []
    (tmp_path / "masks").mkdir()
    seen = {digest(plan)}
    for text in ("{}", "{} "):
        (tmp_path / "masks/a.json").write_text(text, encoding="utf-8")
        seen.add(digest(plan))
    (tmp_path / "masks/notes.txt").write_text("not read", encoding="utf-8")
    seen.add(digest(plan))
    assert len(seen) == 3
    demo_config["dataset"]["corrected"] = f"{tmp_path}/masks/a.json"
    assert digest(Plan(resolve(demo_config))) in seen
    del demo_config["dataset"]["corrected"]
    plain = Plan(resolve(demo_config))
    assert (path_of(plain), digest(plain), table(plain), findings(plain)) == (None, "", [], [])
    assert plain.correction_scores() == []


def test_the_data_set_of_other_jobs_does_not_name_the_masks(demo_config):
    folder = {"kind": "folder", "images": "photos", "image_labels": "labels.csv"}
    plain, corrected = (
        Plan(resolve(demo_config | {"dataset": folder | more}))
        for more in ({}, {"corrected": "masks"})
    )
    assert dataset_section(corrected) == dataset_section(plain)
    assert dataset_without_ground_truth(corrected) == dataset_without_ground_truth(plain)
