"""The loop with a person: the report is reviewed in a browser, and the workflow runs again."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from pipeline.datasets.review import Judgment, read_review, write_review
from pipeline.io.arrays import read_label
from pipeline.io.tables import read_json, read_table
from tests.helpers.corrected import write_cvat
from tests.helpers.workflow import TINY, TRAINING, planned, planned_each, snakemake

pytestmark = pytest.mark.slow

METHOD = "plain/cam/threshold"
CONFIG = {
    "experiment": "loop",
    "shards": 2,
    "dataset": {"kind": "demo", "train": 12, "val": 3, "size": 32},
    "classifiers": {name: TINY["classifiers"][name] for name in ("plain", "probe")},
    "attributions": {"cam": {"scales": [1.0]}},
    "refinements": {"threshold": {"background": {"value": "mean"}}},
    "label_errors": {"classifier": "probe", "folds": 2},
    "pseudo_labels": [METHOD],
    "segmentation": TRAINING | {"trained_on": [METHOD]},
    "export": {"pseudo_labels": [METHOD], "predictions": [METHOD], "formats": ["png"]},
    "report": {"gallery": "all"},
}
REVIEWED = CONFIG | {"dataset": CONFIG["dataset"] | {"review": "review.csv"}}
# The configuration and with it the record of the experiment change when a review is named.
NAMED = {"record_experiment": 1, "report": 1, "scoreboard": 1}
LEFT_OUT = {
    "list_left_out": 1, "train_segmentation": 1, "predict_masks": 2, "evaluate_predictions": 1,
    "export_labels": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder in which the configuration has run to its report."""
    folder = tmp_path_factory.mktemp("loop")
    snakemake(folder, CONFIG)
    return folder


def exported(folder, kind):
    """Return the ids of the images of an export."""
    export = folder / f"results/loop/export/png/{kind}/{METHOD}"
    return sorted(path.stem for path in (export / "masks").rglob("*.png"))


def images(folder, split):
    rows = read_table(folder / "results/loop/dataset/manifest.csv")
    return sorted(row["id"] for row in rows if row["split"] == split)


def test_the_report_lists_label_errors_of_the_probe(finished):
    results = finished / "results/loop"
    rows = read_table(results / "label_errors/probe.csv")
    for split in ("train", "val"):
        listed = {row["image"] for row in rows if row["split"] == split}
        assert listed <= set(images(finished, split))
    report = (results / "report.html").read_text(encoding="utf-8")
    assert all(row["image"] in report for row in rows)
    assert 'id="labelerrors"' in report


def test_a_network_judges_the_labels_by_its_own_scores(finished):
    config = CONFIG | {"label_errors": {"classifier": "plain", "folds": 2}}
    table = "results/loop/label_errors/plain.csv"
    # Train was classified for the report, val was not.
    assert planned(finished, config, table) == {"find_label_errors": 1, "classify": 2}
    snakemake(finished, config, table)
    assert read_table(finished / table)


def test_a_review_reruns_exactly_what_it_changes(finished):
    first, second, *_ = images(finished, "train")
    reviews = {
        "nothing.csv": [Judgment(first, "good", note="sharp"), Judgment(second, "unsure")],
        "bad.csv": [Judgment(first, "bad")],
        "labels.csv": [Judgment(first, "", ("redcap", "goldcap", "greencap"))],
    }
    for name, judgments in reviews.items():
        write_review(finished / name, judgments)
    dataset = CONFIG["dataset"]
    configs = {name: CONFIG | {"dataset": dataset | {"review": name}} for name in reviews}
    jobs = planned_each(finished, configs)
    assert jobs["nothing.csv"] == NAMED
    assert jobs["bad.csv"] == NAMED | LEFT_OUT
    everything = planned(finished, CONFIG, "--forcerun", "prepare_dataset")
    assert everything["train_classifier"] == 1 and "generate_demo" not in everything
    assert jobs["labels.csv"] == everything


def test_images_that_are_judged_bad_in_the_browser_are_left_out(finished, tmp_path, browser):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    train = images(folder, "train")
    page = browser.new_context(accept_downloads=True).new_page()
    page.goto((folder / "results/loop/report.html").as_uri())
    page.select_option("#gallery [name=sort]", "id")
    order = page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")
    assert order == train
    page.locator("#gallery .begin").press("Enter")
    keys = "bgbubgbbgb"  # ten images, of which six are bad
    for key in keys:
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.locator("#gallery .save").click()
    download.value.save_as(folder / "review.csv")
    bad = {image for image, key in zip(order, keys, strict=False) if key == "b"}
    assert {one.image for one in read_review(folder / "review.csv") if one.verdict == "bad"} == bad
    assert planned(folder, REVIEWED) == NAMED | LEFT_OUT
    snakemake(folder, REVIEWED)
    assert exported(folder, "pseudo_labels") == sorted(set(train) - bad)
    assert exported(folder, "predictions") == images(folder, "val")
    card = read_json(folder / f"results/loop/export/png/pseudo_labels/{METHOD}/data_card.json")
    assert sorted(card["left_out"]["ids"]) == sorted(bad)
    log = folder / f"results/loop/logs/train_segmentation/{METHOD}.log"
    left = "6 of 12 images are left out: judged bad in the review"
    assert left in log.read_text(encoding="utf-8")
    # A note that is written later concerns no job.
    noted = [replace(one, note="look again") for one in read_review(folder / "review.csv")]
    write_review(folder / "review.csv", noted)
    assert planned(folder, REVIEWED) == {}


def test_a_mask_that_a_person_corrected_is_exported_and_scored(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    first = images(folder, "train")[0]
    export = folder / f"results/loop/export/png/pseudo_labels/{METHOD}"
    made = read_label(next((export / "masks").rglob(f"{first}.png")))
    mask = np.zeros((32, 32), np.uint8)
    mask[4:20, 8:30] = 1
    path = folder / "annotations.xml"
    write_cvat(path, {f"images/{first}.jpg": mask})
    (name, *_) = read_json(folder / "results/loop/dataset/classes.json")
    path.write_text(
        path.read_text(encoding="utf-8").replace('"cat"', f'"{name}"'), encoding="utf-8"
    )
    config = CONFIG | {"dataset": CONFIG["dataset"] | {"corrected": path.name}}
    assert planned(folder, config) == NAMED | {
        "list_corrected": 1, "evaluate_corrections": 1, "train_segmentation": 1,
        "predict_masks": 2, "evaluate_predictions": 1, "export_labels": 2,
    }  # fmt: skip
    score = f"results/loop/scores/corrections/{METHOD}/train.json"
    snakemake(folder, config, str(export.relative_to(folder)), score)
    assert np.array_equal(read_label(next((export / "masks").rglob(f"{first}.png"))), mask)
    assert read_json(export / "data_card.json")["corrected"]["ids"] == [first]
    found = read_json(folder / score)
    assert found["images"] == 1
    assert found["pixel_accuracy"] == (made == mask).mean() < 1
