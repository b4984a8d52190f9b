"""Estimate the jobs, hours and gigabytes of a run."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.errors import UserError
from pipeline.resources import estimate as estimation
from pipeline.resources.dataset import known_dataset
from pipeline.resources.rates import RATES
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Beginning of the line in which the workflow reports a mistake of its user.
USER_ERROR = "UserError: "


def estimate(*, config: Mapping[str, Any], snakefile: str, manifest: str, classes: str) -> None:
    """Print the estimated time and memory of the remaining jobs.

    Parameters
    ----------
    config : mapping
        The resolved configuration.
    snakefile : str
        The workflow; a dry run lists the remaining jobs.
    manifest, classes : str
        Images and class names, if they exist already.

    Raises
    ------
    UserError
        If the dry run fails, or the number of images is not known.
    """
    dataset = known_dataset(config, Path(manifest), Path(classes))
    jobs = list(estimation.planned_jobs(_dry_run(config, snakefile)))
    rows = estimation.estimate(jobs, config, dataset)
    print(estimation.table(rows))
    print(estimation.gpu_hours(rows))
    train, val = (dataset.images(split) for split in ("train", "val"))
    print(f"for {train:,} train and {val:,} val images, by the rates in {RATES}")


def _dry_run(config: Mapping[str, Any], snakefile: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(dict(config), file)
        file.flush()
        command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--dry-run"]
        command += ["--nocolor", "--cores", "1", "--configfile", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UserError(f"the dry run failed: {_reason(done.stdout + done.stderr)}")
    return done.stdout + done.stderr


def _reason(printed: str) -> str:
    """Return the message of the workflow's error, or all that a dry run printed."""
    own = [line for line in printed.splitlines() if line.startswith(USER_ERROR)]
    return own[0].removeprefix(USER_ERROR) if own else printed.strip()


if __name__ == "__main__":
    run_stage(estimate, snakemake)
