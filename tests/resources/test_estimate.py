import shutil
import subprocess
import sys

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.resources.dataset import Dataset
from pipeline.resources.estimate import estimate, gpu_hours, planned_jobs, table
from pipeline.stages import estimate as stage
from tests.helpers import REPOSITORY
from tests.resources.small import DATASET, MAPS, RATES, config, work

PRINTED = """
job             count
[Sat Nov 21 10:00:00 2026]
rule make_maps:
    input: a, b
    wildcards: classifier=plain, attribution=cam, split=train, shard=1
    resources: tmpdir=/tmp
[Sat Nov 21 10:00:00 2026]
localrule download_archive:
    output: x
    wildcards: archive=sbd
[Sat Nov 21 10:00:01 2026]
rule prepare_dataset:
    output: y
[Sat Nov 21 10:00:01 2026]
rule all:
    input: y
"""


def test_jobs_are_read_from_a_dry_run():
    maps = {"classifier": "plain", "attribution": "cam", "split": "train", "shard": "1"}
    assert list(planned_jobs(PRINTED)) == [
        ("make_maps", maps), ("download_archive", {"archive": "sbd"}), ("prepare_dataset", {}),
    ]  # fmt: skip


def test_rows_add_up_jobs_hours_and_bytes():
    jobs = [("make_maps", MAPS), ("make_maps", MAPS), ("train_classifier", {"classifier": "plain"})]
    maps, training, total = estimate(jobs, config(), DATASET, RATES)
    assert (maps["rule"], maps["jobs"], training["jobs"], total["jobs"]) == ("make_maps", 2, 1, 3)
    assert maps["hours"]["A"] == pytest.approx(maps["operations"] / 4e9 / 3600)
    assert maps["core_hours"] == pytest.approx(2 * 25 * 0.1 / 3600)
    done = work("train_classifier", {"classifier": "plain"})
    hours = (done.training / 1e9 + done.inference / 4e9) / 3600
    assert training["hours"]["A"] == pytest.approx(hours)
    for key in ("operations", "core_hours", "bytes"):
        assert total[key] == pytest.approx(maps[key] + training[key])
    lines = table([maps, training, total]).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["make_maps", "2"], ["train_classifier", "1"], ["all", "3"],
    ]  # fmt: skip


def test_gpu_hours_are_operations_over_the_rate():
    assert "10 at 10," in gpu_hours([{"operations": 3.6e17}])


def test_an_empty_plan_costs_nothing():
    (total,) = estimate([], config(), DATASET, RATES)
    assert (total["jobs"], total["operations"], total["bytes"]) == (0, 0, 0)
    assert table([total]).splitlines()[1].split() == ["all", "0"]


def test_shipped_rates_name_every_quantity():
    dataset = Dataset({"train": 1}, size=(1, 1), labels=1.0)
    (row, _) = estimate([("train_classifier", {"classifier": "plain"})], config(), dataset)
    assert all(hours > 0 for hours in row["hours"].values())
    shipped = yaml.safe_load(
        (REPOSITORY / "pipeline/resources/rates.yaml").read_text(encoding="utf-8")
    )
    assert shipped.keys() == RATES.keys()
    assert shipped["core_seconds"].keys() == RATES["core_seconds"].keys()


def snakemake(folder, *arguments):
    command = [
        sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), "--cores", "1",
        "--directory", str(folder), *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_full_plan_is_estimated_from_its_dry_run(tmp_path):
    planned = str(REPOSITORY / "experiments/voc2012.yaml")
    printed = snakemake(tmp_path, "estimate", "--configfile", planned)
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    # 32 shards of two classifiers' maps, of one walk, of three methods' labels.
    assert [rows[rule][1] for rule in ("make_maps", "propagate_maps", "make_labels")] == [
        "64", "32", "96",
    ]  # fmt: skip
    assert "10,582 train and 1,449 val" in printed


def test_a_folder_is_estimated_from_its_manifest(small_dataset, tmp_path):
    made = tmp_path / "results/mine/dataset"
    made.mkdir(parents=True)
    shutil.copy(small_dataset["manifest"], made / "manifest.csv")
    shutil.copy(small_dataset["classes"], made / "classes.json")
    (tmp_path / "labels.csv").write_text("image,labels\n0.png,cat\n", encoding="utf-8")
    written = {
        "experiment": "mine",
        "dataset": {"kind": "folder", "images": "images", "image_labels": "labels.csv"},
        # A probe with stored features, and a walk over features: no boundary network.
        "classifiers": {
            "plain": {
                "kind": "linear-probe", "backbone": "test_vit", "pretrained": False,
                "views_of": "cam",
            },
        },
        "attributions": {"cam": {}},
        "affinity": {"kind": "features"},
        "random_walks": {"rw": {}},
        "refinements": {"threshold": {}},
        "pseudo_labels": ["plain/cam+rw/threshold"],
    }  # fmt: skip
    planned = tmp_path / "mine.yaml"
    planned.write_text(yaml.safe_dump(written), encoding="utf-8")
    printed = snakemake(tmp_path, "estimate", "--configfile", str(planned))
    assert "for 4 train and 2 val images" in printed
    rules = {line.split()[0] for line in printed.splitlines() if line}
    assert {"extract_features", "fit_probe", "propagate_maps"} <= rules
    assert not {"make_affinity_labels", "train_affinity"} & rules


def test_a_dry_run_that_fails_is_reported_by_the_workflows_own_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = str(tmp_path / "manifest.csv")
    wrong = config()
    wrong["classifiers"]["plain"]["epochs"] = -1
    with pytest.raises(
        UserError, match=r"^the dry run failed: configuration: classifiers\.plain\.epochs is -1"
    ):
        stage.estimate(
            config=wrong, snakefile=str(REPOSITORY / "Snakefile"), manifest=manifest,
            classes=manifest,
        )  # fmt: skip
