import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.config.resolve import resolve
from pipeline.planning import preflight
from pipeline.planning.plan import Plan
from tests.helpers import REPOSITORY


def test_a_path_with_a_brace_is_refused():
    fine = ["/a b[1]/x", "/it's/é", Path("/$HOME/*")]
    (problem,) = preflight.path_problems([*fine, "/br{a}ce/bin/python"])
    assert problem.startswith("/br{a}ce/bin/python: a path with a brace")


def test_paths_of_the_configuration_with_a_brace_are_refused_in_one_line(demo_config):
    dataset = {"kind": "folder", "images": "/p", "image_labels": "/d/{s}/labels.csv", "boxes": None}
    config = demo_config | {
        "dataset": dataset, "weights": {"resnet18": "w}.pt"}, "folders": {"new": {"images": "{n}"}},
        "downloads": demo_config["downloads"] | {"folder": "d{}"},
    }  # fmt: skip
    (problem,) = preflight.problems(Plan(config), ["/fine"])
    assert problem.startswith(
        "/d/{s}/labels.csv (dataset.image_labels), {n} (folders.new.images), "
        "w}.pt (weights.resnet18), d{} (downloads.folder): "
        "a path in the configuration with a brace, which Snakemake takes for a wildcard"
    )
    assert preflight.problems(Plan(demo_config), ["/fine"]) == []


@pytest.mark.parametrize(
    ("config", "paths", "named"),
    [
        ({"dataset": {"classes": ["cat", "chât"]}}, [], r"'ch\xe2t'"),
        ({"folders": {"é": {}}}, [], r"'\xe9'"),
        ({}, ["/home/josé"], r"'/home/jos\xe9'"),
    ],
)
def test_names_that_the_locale_lacks_are_refused(monkeypatch, config, paths, named):
    assert list(preflight.locale_problems(config, paths)) == []
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    (problem,) = preflight.locale_problems(config, paths)
    assert problem.isascii() and problem.startswith(named)
    assert "LC_ALL=C.UTF-8" in problem
    assert list(preflight.locale_problems({"dataset": {"classes": ["cat"]}}, ["/home"])) == []


def test_files_dated_in_the_future_are_refused(tmp_path):
    paths = [str(tmp_path / name) for name in ("past.csv", "skewed.csv", "fut ure.csv")]
    for path, ahead in zip(paths, (-5, 0.5, 3600), strict=True):
        Path(path).touch()
        os.utime(path, (time.time() + ahead,) * 2)
    (problem,) = preflight.future_problems(paths)
    assert problem.startswith(f"{paths[2]}: dated 3") and f"`touch '{paths[2]}'`" in problem


def test_every_file_of_the_users_that_is_an_input_is_checked(tmp_path, demo_config, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("labels.csv", "boxes.csv", "w.safetensors"):
        Path(name).touch()
    Path("images").mkdir()
    dataset = {
        "kind": "folder",
        "images": "images",
        "image_labels": "labels.csv",
        "boxes": "boxes.csv",
    }
    classifier = {"backbone": "test_resnet", "pretrained": True}
    plan = Plan(resolve({
        "dataset": dataset, "classifiers": {"plain": classifier},
        "weights": {"test_resnet": "w.safetensors"}, "pseudo_labels": ["plain/cam/crf"],
        "attributions": {"cam": {}}, "refinements": {"crf": {"crf": {}}}, "random_walks": {},
        "experiment": "mine",
    }))  # fmt: skip
    assert preflight.problems(plan, []) == []
    for name in ("labels.csv", "boxes.csv", "w.safetensors"):
        os.utime(name, (4e9, 4e9))
    found = preflight.problems(plan, [])
    assert [problem.split(":")[0] for problem in found] == [
        "labels.csv", "boxes.csv", "w.safetensors",
    ]  # fmt: skip
    Path("labels.csv").unlink()
    (problem,) = preflight.problems(plan, [])
    assert problem.startswith("labels.csv: no such file")


def dated(path, ahead=3600):
    """Make a file that is dated in the future."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()
    os.utime(path, (time.time() + ahead,) * 2)


def test_downloads_that_are_dated_in_the_future_are_refused(tmp_path, demo_config, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = demo_config | {
        "downloads": demo_config["downloads"] | {"folder": "d ata", "sbd": True}
    }
    plan = Plan(config)
    backbone = next(iter(config["classifiers"].values()))["backbone"]
    weights = f"d ata/weights/{backbone}.safetensors"
    voc = ["d ata/archives/voc2012", "d ata/archives/sbd"]
    voc.append("d ata/VOCdevkit/VOC2012/.snakemake_timestamp")
    for path in [weights, "d ata/weights/other.safetensors", *voc]:
        dated(path)
    (problem,) = preflight.problems(plan, [])
    assert problem.startswith(f"{weights}: dated 3") and f"`touch '{weights}'`" in problem
    downloaded = Plan(config | {"dataset": {"kind": "voc", "root": None}})
    found = preflight.problems(downloaded, [])
    assert [problem.split(":")[0] for problem in found] == [weights, *voc]


@pytest.mark.parametrize(
    "name",
    [
        "dataset/manifest.csv",
        "seed-1/maps/plain/cam/train/0.safetensors",
        "labels/plain/cam/crf/train/0/.snakemake_timestamp",
    ],
)
def test_results_that_are_dated_in_the_future_are_one_problem(
    tmp_path, demo_config, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    plan = Plan(demo_config)
    Path("results").mkdir()
    assert list(preflight.future_results(plan)) == []
    stamped = Path(plan.home, "labels/plain/cam/crf/train/0/.snakemake_timestamp")
    stamped.parent.mkdir(parents=True)
    stamped.touch()
    # None of these is an input: nothing that is made of one could be older.
    for other in (
        "logs/a.csv",
        "report.html",
        ".a.csv.partial",
        "labels/plain/cam/crf/train/0/a.png",
    ):
        dated(f"{plan.home}/{other}")
    assert list(preflight.future_results(plan)) == []
    dated(f"{plan.home}/{name}")
    dated(f"{plan.home}/zzz/z.csv")
    (problem,) = preflight.future_results(plan)
    assert problem.startswith(f"{plan.home}/{name}: dated 3")
    command = problem.split("`")[1]
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert list(preflight.future_results(plan)) == []


def test_the_interpreter_is_quoted_once(tmp_path, monkeypatch):
    python = tmp_path / "a b[1]/python"
    python.parent.mkdir()
    python.touch()
    monkeypatch.setattr(sys, "executable", str(python))
    preflight.quote_interpreter()
    preflight.quote_interpreter()
    assert sys.executable == f"'{python}'"
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    preflight.quote_interpreter()
    assert sys.executable == "/bin/sh"


def test_a_lock_message_tells_a_running_from_a_killed_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    code = (
        "from pipeline.planning import preflight; preflight.announce_run('results/a');"
        "print('held', flush=True); input()"
    )
    # In the other run, as in this one, the lock is kept until the process ends.
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    try:
        assert other.stdout and other.stdout.readline() == "held\n"
        (locks / "0.output.lock").write_text("results/a/manifest.csv\n", encoding="utf-8")
        assert preflight.announce_run("results/b") is None
        line = preflight.announce_run("results/a")
        assert line and f"in use by another run (process {other.pid} on " in line
    finally:
        other.kill()
        other.communicate()
    line = preflight.announce_run("results/a")
    assert line and "locked by a run that was killed" in line and "--unlock" in line
