"""The workflow on a real SLURM of one machine: jobs that die there, and what the next run makes."""

import importlib.util
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.resources.rules import REQUESTED
from tests.helpers import REPOSITORY
from tests.helpers.workflow import TINY, command

SCRIPTS = REPOSITORY / "tests/slurm"
#: Exit code of tests/slurm/up where a machine cannot have a SLURM of ours.
REFUSED = 2
CLASSIFIERS = ("plain", "puzzle", "probe")
KEYS = ("experiment", "dataset", "classifiers", "refinements", "evaluation", "report")
CONFIG = {key: TINY[key] for key in KEYS} | {
    "gpus": 0,
    "shards": 1,
    "attributions": {"cam": {"scales": [1.0]}},
    "pseudo_labels": [f"{name}/cam/threshold" for name in CLASSIFIERS],
}
WEIGHTS = [f"results/tiny/classifiers/{name}/model.safetensors" for name in CLASSIFIERS]
TARGETS = [*WEIGHTS, "results/tiny/maps/probe/cam/train/0.safetensors"]
PROFILE = REPOSITORY / "profiles/slurm"
ON_SLURM = [
    "--workflow-profile", str(PROFILE), "--retries", "1", "--latency-wait", "10",
    "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "2",
    "--default-resources", "slurm_partition=main", "mem_mb=2000", "runtime=10",
    # One minute is SLURM's shortest limit. The memory is too little for torch, then enough.
    "--set-resources", "train_classifier:runtime=1",
    "fit_probe:mem_mb=400 * 5 ** (attempt - 1)", "fit_probe:gpu=1",
]  # fmt: skip
PLAIN, PUZZLE, PROBE = (
    f"rule_{rule}_wildcards_{name}"
    for rule, name in zip(
        ("train_classifier", "train_classifier", "fit_probe"), CLASSIFIERS, strict=True
    )
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[None]:
    """Start a SLURM of this machine, and stop it."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("no SLURM executor: pip install snakemake-executor-plugin-slurm==2.8.0")
    folder = tmp_path_factory.mktemp("slurm")
    # Daemons keep what they inherit open: pipes to them would never end.
    with (folder / "up.log").open("w", encoding="utf-8") as log:
        started = subprocess.run([SCRIPTS / "up", folder], stdout=log, stderr=log, check=False)
    said = (folder / "up.log").read_text(encoding="utf-8").strip()
    if started.returncode == REFUSED:
        pytest.skip(said)
    assert started.returncode == 0, said
    try:
        yield
    finally:
        subprocess.run([SCRIPTS / "down", folder], check=True)


@dataclass
class Job:
    """What SLURM says of a job; ``name`` is the rule with its wildcards."""

    number: str
    state: str
    name: str
    memory: str
    gpus: str


@dataclass
class Killer:
    """Has the plain classifier cancelled at every attempt, and the puzzle's first one stopped."""

    cancelled: set[str] = field(default_factory=set)
    stopped: str | None = None

    def __call__(self, jobs: list[Job]) -> None:
        for job in jobs:
            if job.state != "RUNNING":
                continue
            if job.name == PLAIN and job.number not in self.cancelled:
                slurm_says("scancel", job.number)
                self.cancelled.add(job.number)
            elif job.name == PUZZLE and self.stopped is None and has_step(job):
                # A job that SLURM suspends is not charged for the time; a stopped one is.
                slurm_says("scancel", "--signal=STOP", job.number)
                self.stopped = job.number


def has_step(job: Job) -> bool:
    """Return whether there is a process to stop, besides the batch script."""
    steps = slurm_says("squeue", "--steps", "--noheader", "--format=%i", "--jobs", job.number)
    return f"{job.number}.0" in steps.split()


def slurm_says(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def queue() -> list[Job]:
    """Return all jobs that SLURM remembers, in the order of their submission."""
    columns = ("JobID", "State", "Comment", "MinMemory", "tres-per-job")
    form = ",".join(f"{column}:|" for column in columns)
    text = slurm_says("squeue", "--states=all", "--noheader", f"--Format={form}")
    jobs = [Job(*line.split("|")[: len(columns)]) for line in text.splitlines()]
    return sorted(jobs, key=lambda job: int(job.number))


def run_on_slurm(
    folder: Path, watch: Callable[[list[Job]], None] = lambda _: None
) -> tuple[int, dict[str, list[Job]], str]:
    """Run the workflow; give its exit code, its jobs by name and what it said."""
    before = {job.number for job in queue()}

    def jobs() -> list[Job]:
        return [job for job in queue() if job.number not in before]

    log = folder / "run.log"
    with log.open("w", encoding="utf-8") as file:
        words = command(folder, CONFIG, *TARGETS, *ON_SLURM)
        run = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
        try:
            while run.poll() is None:
                watch(jobs())
                time.sleep(0.2)
        finally:
            run.kill()
    by_name = defaultdict(list)
    for job in jobs():
        by_name[job.name].append(job)
    return run.returncode, dict(by_name), log.read_text(encoding="utf-8")


def states(jobs: list[Job]) -> list[str]:
    return [job.state for job in jobs]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Start the same workflow without SLURM; give its folder and its process."""
    folder = tmp_path_factory.mktemp("alone")
    words = command(folder, CONFIG, *TARGETS)
    with (
        (folder / "run.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT) as run,
    ):
        yield folder, run


@pytest.mark.slow
def test_failed_slurm_jobs_are_repeated_to_the_same_bytes(slurm, alone, tmp_path):
    code, jobs, text = run_on_slurm(tmp_path, Killer())
    # Cancelled at both attempts, which ends what needs it and nothing else.
    assert code == 1, text
    assert states(jobs[PLAIN]) == ["CANCELLED", "CANCELLED"], text
    assert [(tmp_path / path).exists() for path in TARGETS] == [False, True, True, True]
    # Past its time limit, then done.
    assert states(jobs[PUZZLE]) == ["TIMEOUT", "COMPLETED"], text
    assert "SLURM status is: 'TIMEOUT'" in text
    # Killed for memory, which is SLURM's word for the step alone; then given more, and done.
    assert states(jobs[PROBE]) == ["FAILED", "COMPLETED"], text
    assert [job.memory for job in jobs[PROBE]] == ["400M", "2000M"]
    assert [job.gpus for job in jobs[PROBE]] == ["gres:gpu:1", "gres:gpu:1"]
    logs = [
        path.read_text(encoding="utf-8")
        for path in (tmp_path / ".snakemake/slurm_logs").rglob("*.log")
    ]
    assert any("exceeded memory limit" in log for log in logs)

    code, jobs, text = run_on_slurm(tmp_path)
    assert code == 0, text
    assert {name: states(group) for name, group in jobs.items()} == {PLAIN: ["COMPLETED"]}
    folder, local = alone
    assert local.wait() == 0, (folder / "run.log").read_text(encoding="utf-8")
    for path in TARGETS:
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes(), path


@pytest.mark.slow
def test_the_machines_own_slurm_is_not_touched(slurm, tmp_path):
    config = Path("/etc/slurm/slurm.conf")
    ours = config.read_text(encoding="utf-8")
    with subprocess.Popen([SCRIPTS / "up", tmp_path], stderr=subprocess.PIPE, text=True) as run:
        assert "a SLURM of ours runs" in run.communicate()[1]
    assert run.returncode == 1
    # Of another folder, and so not this one's to take away.
    subprocess.run([SCRIPTS / "down", tmp_path], check=True)
    assert config.read_text(encoding="utf-8") == ours
    try:
        config.write_text("ClusterName=theirs\n", encoding="utf-8")
        done = subprocess.run(
            [SCRIPTS / "up", tmp_path], stderr=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == REFUSED
        assert "/etc/slurm/slurm.conf is not ours, expected none" in done.stderr
        subprocess.run([SCRIPTS / "down", tmp_path], check=True)
        assert config.read_text(encoding="utf-8") == "ClusterName=theirs\n"
    finally:
        config.write_text(ours, encoding="utf-8")


def profile(path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    return settings


def test_the_profile_keeps_what_the_default_one_sets():
    default = profile(REPOSITORY / "profiles/default")
    assert default.items() <= profile(PROFILE).items()


def test_the_profile_groups_rules_that_there_are(workflow):
    settings = profile(PROFILE)
    assert settings["groups"].keys() <= workflow["rules"].keys()
    assert settings["group-components"].keys() <= set(settings["groups"].values())
    # What has needs of its own is no small job.
    assert not settings["groups"].keys() & REQUESTED.keys()
