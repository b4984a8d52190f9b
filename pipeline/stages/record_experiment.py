"""Record the configuration, versions and scores of a run for the scoreboard."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.tables import write_json
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: NVIDIA's driver lists its GPUs here. Importing torch for this would take seconds.
GPUS = Path("/proc/driver/nvidia/gpus")


def record_experiment(
    *,
    scores: list[Path],
    experiment: str,
    seed: int,
    config: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    record: Path,
) -> None:
    """Write a run's configuration, scores, versions and machine as JSON.

    Parameters
    ----------
    scores : list of Path
        Score documents of the run, as dependencies only.
    experiment : str
        The experiment's name.
    seed : int
        The run's seed.
    config : mapping
        The resolved configuration.
    results : sequence of mapping
        For every score of the run its ``file``, its ``counts``, and the ``times`` of the jobs
        that led to it: paths relative to the record's folder.
    record : Path
        Output.
    """
    del scores
    listed = [{key: item[key] for key in ("file", "counts", "times")} for item in results]
    write_json(
        record,
        {
            "experiment": experiment,
            "seed": seed,
            "config": config,
            "scores": listed,
            "versions": _versions(),
        },
    )


def _versions() -> dict[str, Any]:
    """Return the versions of Python and all installed packages, and the machine of this job."""
    # Of two packages with one name, Python imports the first. Broken installations have no name.
    installed = [item for item in distributions() if {"Name", "Version"} <= {*item.metadata}]
    packages = {item.name: item.version for item in reversed(installed)}
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpus": [_model(path) for path in sorted(GPUS.glob("*/information"))],
    }
    packages = dict(sorted(packages.items(), key=lambda pair: pair[0].lower()))
    return {"python": platform.python_version(), **packages, "machine": machine}


def _model(information: Path) -> str:
    lines = dict(
        line.partition(":")[::2] for line in information.read_text(encoding="utf-8").splitlines()
    )
    return lines.get("Model", "unknown").strip()


if __name__ == "__main__":
    run_stage(record_experiment, snakemake)
