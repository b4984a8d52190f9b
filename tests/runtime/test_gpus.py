"""Sharing of GPUs among jobs; the GPUs are pretended, the locks and processes are real."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.errors import UserError
from pipeline.runtime import device, gpus
from tests.helpers import REPOSITORY

JOB = """
import sys, time
from pathlib import Path
sys.path.insert(0, {repository!r})
import torch
torch.cuda.device_count = lambda: {count}
from pipeline.runtime import gpus
gpus.PAUSE = 0.05
print(",".join(gpus.claim_gpus(int(sys.argv[1]), Path(sys.argv[2]))), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def unclaimed(monkeypatch):
    monkeypatch.setattr(gpus, "_held", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    yield
    for file in gpus._held:
        file.close()


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)


@pytest.fixture
def job(tmp_path):
    """Start jobs that claim GPUs of three and keep them until they are ended."""
    jobs = []

    def start(count):
        script = JOB.format(repository=str(REPOSITORY), count=3)
        command = [sys.executable, "-c", script, str(count), str(tmp_path)]
        jobs.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        return jobs[-1]

    yield start
    for process in jobs:
        process.kill()
        process.communicate()


def test_jobs_take_free_gpus(job, tmp_path, three, monkeypatch):
    assert job(2).stdout.readline() == "0,1\n"
    assert gpus.claim_gpus(1, tmp_path) == ["2"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    assert gpus.visible_gpus() == ["2"]


def test_a_job_waits_for_gpus_and_takes_those_of_a_killed_one(job, tmp_path):
    first = job(2)
    assert first.stdout.readline() == "0,1\n"
    second = job(2)  # one is free, which it leaves to others
    third = job(1)
    assert third.stdout.readline() == "2\n"
    time.sleep(0.3)
    os.set_blocking(second.stdout.fileno(), False)
    assert second.stdout.readline() == ""
    os.set_blocking(second.stdout.fileno(), True)
    first.send_signal(signal.SIGKILL)
    assert second.stdout.readline() == "0,1\n"


def test_hidden_gpus_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert gpus.claim_gpus(1, tmp_path) == ["5"]


def test_a_process_of_a_training_has_what_the_first_one_claimed(tmp_path, monkeypatch, three):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert gpus.claim_gpus(2, tmp_path) == ["0", "2"]
    assert not list(tmp_path.iterdir())


def test_jobs_of_a_clusters_allocation_share_its_gpus_and_no_others(
    job, tmp_path, monkeypatch, three
):
    assert job(1).stdout.readline() == "0\n"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert job(1).stdout.readline() == "0\n"  # of this allocation, whatever its real number
    assert gpus.claim_gpus(1, tmp_path) == ["1"]


def test_a_lock_that_cannot_be_read_is_named(tmp_path, monkeypatch, three):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(UserError, match=r"gpu-0\.lock: this lock file of a GPU cannot be opened"):
        gpus.claim_gpus(1, tmp_path)


def test_locks_are_readable_by_all_users(tmp_path, three):
    before = os.umask(0o077)
    try:
        gpus.claim_gpus(1, tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "wsss-gpu-0.lock").stat().st_mode & 0o777 == 0o644


def test_more_gpus_than_there_are_is_an_error(three):
    with pytest.raises(UserError, match="3 GPUs are visible, expected 4"):
        device.make_fabric("32-true", 1, gpus=4)


@pytest.mark.parametrize("wanted", [0, 1])
def test_the_cpu_is_used_without_a_gpu(wanted, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert device.make_fabric("32-true", 1, gpus=wanted).device.type == "cpu"


def test_a_precision_that_cpus_lack_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError, match="bf16-mixed"):
        device.make_fabric("16-mixed", 1)
