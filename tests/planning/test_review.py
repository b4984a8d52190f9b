"""The jobs that a review reruns: those that use the part of it that changed, and what follows."""

import pytest

from pipeline.config.resolve import resolve
from pipeline.datasets.manifest import write_classes
from pipeline.datasets.review import Judgment, write_review
from pipeline.errors import UserError
from pipeline.planning.inputs import dataset_section, dataset_without_ground_truth, missing
from pipeline.planning.plan import Plan
from pipeline.planning.review import (
    check_review,
    labels_digest,
    left_out,
    of_labels,
    unknown_classes,
    unused_rows,
    verdicts_digest,
)
from tests.helpers.workflow import TINY
from tests.helpers.workflow_api import changed_rules, read_workflow

#: Rules that use verdicts themselves: trainings of segmentation networks, and exports.
JUDGED = {"train_segmentation", "export_labels"}
#: Rules whose params have the whole configuration, or that list what was made from it.
RECORDS = {"report", "record_experiment"}
REVIEWS = {
    "none": [],
    "empty": [Judgment("train_0000", "good"), Judgment("train_0001", "unsure", None, "hm")],
    "bad": [Judgment("train_0000", "good"), Judgment("train_0001", "bad", None, "frayed")],
    "noted": [Judgment("train_0001", "bad", None, "very frayed"), Judgment("train_0002", "good")],
    "worse": [Judgment("train_0001", "bad"), Judgment("train_0002", "bad")],
    "labels": [Judgment("train_0000", "", ("circle",))],
}


@pytest.fixture(scope="module")
def workflows(tmp_path_factory):
    """Read the workflow without a review, and with each of several contents of one."""
    folder = tmp_path_factory.mktemp("review")
    dataset = TINY["dataset"]
    found = {}
    for name, judgments in REVIEWS.items():
        write_review(folder / "review.csv", judgments)
        review = {} if name == "none" else {"review": "review.csv"}
        found[name] = read_workflow(folder, TINY | {"dataset": dataset | review})["jobs"]
    return found


def test_a_review_without_a_bad_image_or_a_label_changes_no_result(workflows):
    own, _ = changed_rules(workflows["none"], workflows["empty"])
    assert own == RECORDS


def test_a_bad_image_reruns_segmentation_trainings_and_exports_alone(workflows):
    own, every = changed_rules(workflows["empty"], workflows["bad"])
    assert own == {"list_left_out", *JUDGED}
    assert every == {
        "list_left_out", *JUDGED, "predict_masks", "evaluate_predictions", *RECORDS, "scoreboard",
    }  # fmt: skip


def test_another_bad_image_reruns_the_list_and_what_reads_it(workflows):
    own, every = changed_rules(workflows["bad"], workflows["worse"])
    assert own == {"list_left_out"}
    assert every >= JUDGED and not {"prepare_dataset", "make_labels"} & every


def test_notes_and_good_verdicts_rerun_nothing(workflows):
    assert changed_rules(workflows["bad"], workflows["noted"]) == (set(), set())


def test_a_corrected_label_reruns_what_the_manifest_reaches(workflows):
    own, every = changed_rules(workflows["empty"], workflows["labels"])
    assert own == {"prepare_dataset"}
    assert {"train_classifier", "make_maps", "make_labels", "train_segmentation"} <= every
    assert "generate_demo" not in every
    jobs = [job for job in workflows["labels"] if job["rule"] == "list_left_out"]
    assert jobs == []


def test_only_the_upper_bound_learns_images_that_were_judged_bad(workflows):
    readers = {
        job["rule"]
        for job in workflows["bad"]
        if any(path.endswith("dataset/left_out.csv") for path in job["input"])
    }
    assert readers == JUDGED


@pytest.fixture
def plan(demo_config, tmp_path):
    demo_config["dataset"]["review"] = str(tmp_path / "review.csv")
    return Plan(resolve(demo_config))


def test_a_missing_review_is_named(plan, tmp_path):
    assert list(missing(plan)) == [
        f"{tmp_path}/review.csv: no such file, named by the configuration's dataset.review"
    ]


@pytest.mark.parametrize(
    "part", [check_review, left_out, of_labels, labels_digest, verdicts_digest, unused_rows]
)
def test_a_review_that_disappears_stops_the_jobs_that_read_the_rules_again(plan, tmp_path, part):
    write_review(tmp_path / "review.csv", [Judgment("a", "bad", ("circle",))])
    part(plan)
    (tmp_path / "review.csv").unlink()
    with pytest.raises(UserError, match=r"review\.csv: no such table"):
        part(plan)


def test_a_damaged_review_is_refused_before_any_job(plan, tmp_path):
    (tmp_path / "review.csv").write_text("image,verdict,labels,note\na,god,,\n", encoding="utf-8")
    with pytest.raises(UserError, match="unknown verdict 'god' of a"):
        check_review(plan)


def test_reviewed_images_that_no_job_checks_are_named_once_there_is_a_manifest(plan, tmp_path):
    plan.home = str(tmp_path)
    judgments = [Judgment("a", "good"), Judgment("b.jpg", "unsure"), Judgment("c", "bad")]
    write_review(tmp_path / "review.csv", judgments)
    assert unused_rows(plan) == ""
    manifest = tmp_path / "dataset/manifest.csv"
    manifest.parent.mkdir()
    manifest.write_text("id,image\na,a.jpg\nb,b.jpg\n", encoding="utf-8")
    assert unused_rows(plan) == (
        f"{tmp_path}/review.csv: it has rows of images that {manifest} lacks: b.jpg; correct "
        "their ids, or delete the rows"
    )


def test_the_data_set_of_other_jobs_does_not_name_the_review(demo_config):
    folder = {"kind": "folder", "images": "photos", "image_labels": "labels.csv"}
    plain, reviewed = (
        Plan(resolve(demo_config | {"dataset": folder | more}))
        for more in ({}, {"review": "review.csv"})
    )
    assert dataset_section(reviewed) == dataset_section(plain)
    assert dataset_without_ground_truth(reviewed) == dataset_without_ground_truth(plain)


def test_corrected_labels_that_are_no_classes_are_named_once_the_data_set_is_prepared(
    plan, tmp_path
):
    plan.home = str(tmp_path)
    judgments = [Judgment("a", "", ("cat", "dgo")), Judgment("b", "", ()), Judgment("c", "bad")]
    write_review(tmp_path / "review.csv", judgments)
    assert unknown_classes(plan) == []
    classes = tmp_path / "dataset/classes.json"
    classes.parent.mkdir()
    write_classes(classes, ["cat", "dog"])
    assert unknown_classes(plan) == [
        f"{tmp_path}/review.csv, a: unknown label 'dgo', expected one of cat, dog"
        ": did you mean 'dog'?"
    ]
    many = [Judgment(f"i{number}", "", ("cow",)) for number in range(7)]
    write_review(tmp_path / "review.csv", many)
    assert len(unknown_classes(plan)) == 6
    assert unknown_classes(plan)[-1] == "and 2 more unknown labels"
