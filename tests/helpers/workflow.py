"""The workflow on a tiny demo, run by its own command line."""

import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from tests.helpers import REPOSITORY

DRY_RUNS = Path(__file__).with_name("dry_runs.py")

TRAINING = {
    "backbone": "test_resnet",
    "pretrained": False,
    "epochs": 1,
    "batch_size": 2,
    "augmentation": {"resize": [32, 40], "crop": 32},
}
TINY: dict[str, Any] = {
    "experiment": "tiny",
    "shards": 2,
    "dataset": {"kind": "demo", "train": 6, "val": 3, "size": 32},
    "classifiers": {
        "plain": TRAINING | {"eval_size": 32},
        "puzzle": TRAINING | {"eval_size": 32, "puzzle": {}, "adl": {"points": ["layer4"]}},
        "probe": {
            "kind": "linear-probe",
            "backbone": "test_resnet",
            "pretrained": False,
            "size": 32,
        },
    },
    "attributions": {"cam": {"scales": [1.0]}, "saliency": {"crops": 1}},
    "class_models": {"size": 32, "steps": 2},
    "affinity": {key: TRAINING[key] for key in ("epochs", "batch_size", "augmentation")},
    "random_walks": {"rw": {"radius": 3, "steps": 16}},
    "regions": {"superpixels": {"kind": "slic", "segments": [20]}},
    "refinements": {
        "threshold": {"background": {"value": "mean"}},
        "crf": {"crf": {"iterations": 2}},
        "graph-cut": {"graph_cut": {}, "regions": {"source": "superpixels"}},
    },
    "pseudo_labels": [
        "plain/cam/threshold",
        "plain/saliency/graph-cut",
        "puzzle/cam/crf",
        "puzzle/cam+rw/crf",
    ],
    "segmentation": TRAINING | {"trained_on": ["puzzle/cam+rw/crf"]},
    "comparison": {
        "methods": ["plain/cam", "plain/saliency", "probe/cam"],
        "localization": {"thresholds": 4},
        "faithfulness": {"steps": 2},
    },
    "units": {"per_class": 1, "images": 2},
    "export": {"pseudo_labels": ["puzzle/cam+rw/crf"], "formats": ["voc", "soft"]},
    "evaluation": {"thresholds": 4},
    "report": {"gallery": 1},
}


def changed(*keys, value):
    """Return the tiny configuration with one value changed."""
    config = deepcopy(TINY)
    place = config
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    place[keys[-1]] = value
    return config


def command(
    folder: Path,
    config: dict[str, Any],
    *arguments: str,
    snakefile: Path = REPOSITORY / "Snakefile",
    python: Path = Path(sys.executable),
    file: str = "over.yaml",
) -> list[str]:
    """Return the command that runs a configuration in a folder."""
    (folder / file).write_text(yaml.safe_dump(config), encoding="utf-8")
    return [
        str(python), "-m", "snakemake", "-s", str(snakefile),
        "--directory", str(folder), *arguments, "--max-threads", "1",
        "--cores", "2", "--configfile", str(folder / file),
    ]  # fmt: skip


def snakemake(folder, config, *arguments, check=True, **paths) -> str:
    """Run a configuration in a folder, and return what is printed."""
    done = subprocess.run(
        command(folder, config, *arguments, **paths),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == check, done.stdout
    return done.stdout


def planned(folder, config, *arguments) -> dict[str, int]:
    """Return the jobs that would run, by rule, without the target rule."""
    return counted(snakemake(folder, config, "--dry-run", *arguments))


def planned_each(folder, configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return what `planned` does for each of several configurations, from one process."""
    commands = [
        command(folder, config, "--dry-run", file=f"over-{number}.yaml")
        for number, config in enumerate(configs.values())
    ]
    done = subprocess.run(
        [sys.executable, str(DRY_RUNS)],
        input=json.dumps([words[3:] for words in commands]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(configs, map(counted, json.loads(done.stdout)), strict=True))


def counted(printed: str) -> dict[str, int]:
    """Read the table of jobs that Snakemake prints."""
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", printed, flags=re.MULTILINE))
    return {rule: int(count) for rule, count in jobs.items() if rule not in ("total", "all")}
