"""The script that scores class maps during a training, on a tiny demo."""

import csv
import json
import subprocess
import sys

import pytest
import yaml

from tests.helpers import REPOSITORY
from tests.helpers.workflow import TINY, snakemake

SCRIPT = REPOSITORY / "experiments" / "score_epochs.py"


@pytest.mark.slow
def test_the_last_score_is_that_of_the_workflow(tmp_path):
    plain = TINY["classifiers"]["plain"] | {"epochs": 3}
    keys = ("experiment", "dataset", "attributions", "regions", "refinements")
    config = {key: TINY[key] for key in keys}
    config |= {
        "classifiers": {"plain": plain, "probe": TINY["classifiers"]["probe"]},
        "pseudo_labels": ["plain/cam/threshold"],
        "evaluation": {"thresholds": 19},
    }
    snakemake(tmp_path, config, "results/tiny/scores/maps/plain/cam/train.json")
    expected = json.loads(
        (tmp_path / "results/tiny/scores/maps/plain/cam/train.json").read_text(encoding="utf-8")
    )
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "tiny.yaml", "--every", "2", "--threads", "1"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert not (tmp_path / "results/tiny/epochs/probe").exists()
    with (tmp_path / "results/tiny/epochs/plain/history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["miou"]) for row in rows] == [False, True, True]
    assert float(rows[2]["miou"]) == pytest.approx(expected["miou"])
    assert float(rows[2]["threshold"]) == pytest.approx(expected["threshold"]["value"])
