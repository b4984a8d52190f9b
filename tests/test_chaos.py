"""One disturbance of every kind on a part of the tiny workflow; `tests/chaos.py` plays more."""

import sys
from pathlib import Path

import pytest

from tests.chaos import (
    CONFIG,
    Folder,
    Job,
    Reference,
    Run,
    UnavailableError,
    check_reruns,
    comparable,
    play,
)

LABELS = "pseudo_labels/plain/cam/threshold/train"
TARGETS = (f"results/chaos/{LABELS}/0", f"results/chaos/scores/{LABELS}.json")
PRINTED = """\
[Sat Nov 21 18:32:43 2026]
localrule prepare:
    input: demo
    output: manifest.csv, classes.json
    jobid: 2
[train] a stage's line
rule train:
    input: manifest.csv, classes.json
[prepare] 9 images
    output: model
    jobid: 3
    benchmark: train.tsv
[Sat Nov 21 18:32:44 2026]
Finished jobid: 2 (Rule: prepare)
localrule all:
    input: model
    jobid: 0
"""
PREPARE = Job("prepare", ("demo",), ("manifest.csv", "classes.json"), None)
TRAIN = Job("train", ("manifest.csv", "classes.json"), ("model",), "train.tsv")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return an undisturbed run to pseudo-labels and their scores."""
    if not Path("/proc/self/stat").exists():
        pytest.skip(f"there is no /proc on {sys.platform}")
    return Reference(Folder(tmp_path_factory.mktemp("chaos") / "reference", CONFIG, TARGETS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rule", "seed"),
    [
        ("kill", "train_classifier", "0"),
        ("restart", "make_maps", "0"),
        ("disk", "make_labels", "0"),
        ("corrupt", "make_labels", "0"),
        ("replace", "evaluate_labels", "0"),
    ],
)
def test_a_disturbed_run_has_the_results_of_an_undisturbed_run(
    reference, tmp_path, kind, rule, seed
):
    try:
        outcome = play(kind, reference, tmp_path / "round", seed, [rule])
    except UnavailableError as error:
        pytest.skip(str(error))
    assert outcome.faults == [], outcome.row()


def test_jobs_are_read_from_what_snakemake_prints():
    run = Run(1, PRINTED)
    assert run.jobs() == {2: PREPARE, 3: TRAIN}
    assert run.finished() == {PREPARE}


def test_unexpected_and_missing_jobs_are_reported():
    run = Run(0, PRINTED)
    assert list(check_reruns({PREPARE, TRAIN}, run)) == []
    assert list(check_reruns({TRAIN}, run)) == ["ran again: 1 prepare"]
    other = Job("report", (), ("report.html",), None)
    assert list(check_reruns({PREPARE, TRAIN, other}, run)) == ["ran not at all: 1 report"]


def test_only_times_and_memory_are_ignored(tmp_path):
    history = tmp_path / "history.csv"
    seen = set()
    for seconds, loss in ((1, 0.5), (2, 0.5), (1, 0.6)):
        history.write_text(f"epoch,loss,seconds\n1,{loss},{seconds}\n", encoding="utf-8")
        seen.add(comparable(history, [tmp_path]))
    assert len(seen) == 2
    page = tmp_path / "report.html"
    (tmp_path / "comparison.csv").write_text(
        "method,seconds_per_image\nplain/cam,0.25\n", encoding="utf-8"
    )
    row = '<td data-value="{0}">0 min {0:02d} s</td><td>0.{0} GiB</td><td>250.0</td><td>{1}</td>'
    seen = set()
    for seconds, score in ((1, 50.0), (2, 50.0), (1, 51.0)):
        page.write_text(row.format(seconds, score), encoding="utf-8")
        seen.add(comparable(page, [tmp_path]))
    assert len(seen) == 2


def test_the_folder_of_a_run_is_left_out_of_an_export(tmp_path):
    table, sums = tmp_path / "images.csv", tmp_path / "checksums.sha256"
    seen = set()
    for name in ("one", "other"):
        table.write_text(f"id,image\n0,{tmp_path / name}/results/0.png\n", encoding="utf-8")
        sums.write_text(f"{len(name)}  images.csv\nabc  classes.json\n", encoding="utf-8")
        homes = [tmp_path / "one", tmp_path / "other"]
        seen.add((comparable(table, homes), comparable(sums, homes)))
    assert seen == {(b"id,image\n0,results/0.png\n", b"abc  classes.json")}
