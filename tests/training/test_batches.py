import logging
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.runtime.device import make_fabric
from pipeline.training import batches
from pipeline.training.batches import batches_of_epoch, divide, seed_of
from tests.helpers import REPOSITORY

counts = st.integers(1, 60)
shares = st.integers(1, 4)


class Numbers:
    """Samples that are their own index and seed."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def sample(self, index, seed):
        return torch.tensor(index), torch.tensor(seed)


@given(samples=counts, batch_size=counts, accumulate=shares, processes=shares)
def test_processes_share_the_samples_of_every_step(samples, batch_size, accumulate, processes):
    assume(batch_size % (accumulate * processes) == 0 and samples >= accumulate * processes)
    division = divide(samples, batch_size, accumulate, processes)
    order = list(reversed(range(samples)))
    parts = [division.parts_of(order, process) for process in range(processes)]
    steps = samples // division.batch_size
    assert division.steps(samples) == steps > 0
    for step in range(steps):
        of_step = [
            index
            for own in parts
            for part in own[step * accumulate : (step + 1) * accumulate]
            for index in part
        ]
        whole = order[step * division.batch_size : (step + 1) * division.batch_size]
        assert sorted(of_step) == sorted(whole)
    assert all(len(own) == steps * accumulate for own in parts)
    assert {len(part) for own in parts for part in own} == {division.part}


def test_fewer_samples_than_a_batch_are_one_batch_that_can_be_shared():
    assert divide(7, 32, accumulate=1, processes=1).batch_size == 7
    assert divide(7, 32, accumulate=2, processes=1).batch_size == 6


@pytest.mark.parametrize(("samples", "batch_size"), [(100, 6), (3, 8)])
def test_a_batch_that_cannot_be_shared_is_refused(samples, batch_size):
    with pytest.raises(UserError, match="a multiple of 4"):
        divide(samples, batch_size, accumulate=2, processes=2)


def test_an_epoch_has_its_own_order_and_seeds():
    fabric = make_fabric("32-true", 1, gpus=0)
    division = divide(5, 2, 1, 1)

    def epoch(number):
        batches = batches_of_epoch(Numbers(5), division, 3, number, workers=0, fabric=fabric)
        return [[tensor.tolist() for tensor in batch] for batch in batches]

    first = epoch(0)
    assert first == epoch(0) != epoch(1)
    assert len(first) == 2  # the fifth sample does not fill a step
    for indices, seeds in first:
        assert seeds == [seed_of(3, 0, index) for index in indices]


class Crops:
    """Samples of a size that shows in shared memory: 3 MB each."""

    def __len__(self):
        return 32

    def sample(self, index, seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(3, 512, 512, generator=generator), torch.tensor([index, seed])


def loaded(samples, batch_size=16, workers=2):
    fabric = make_fabric("32-true", 1, gpus=0)
    division = divide(len(samples), batch_size, 1, 1)
    return list(batches_of_epoch(samples, division, 3, 0, workers=workers, fabric=fabric))


@pytest.mark.parametrize(
    ("free", "workers", "processes", "expected"),
    [
        (64 * 2**20, 1, 1, True),  # three batches of 96 MiB, in Docker's 64
        (576 * 2**20, 1, 1, False),  # exactly twice 288 MiB
        (576 * 2**20 - 1, 1, 1, True),
        (576 * 2**20, 2, 1, True),  # five batches
        (576 * 2**20, 1, 2, True),  # six, of two trainings
    ],
)
def test_batches_travel_through_pipes_where_shared_memory_is_too_small(
    monkeypatch, free, workers, processes, expected
):
    monkeypatch.setattr(batches, "free_shared_memory", lambda: free)
    batch = 32 * 3 * 512 * 512 * 4
    assert batches.needs_pipes(batch, workers, processes) == expected


def test_the_free_shared_memory_is_what_the_file_system_has(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "SHARED_MEMORY", tmp_path)
    assert batches.free_shared_memory() == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    monkeypatch.setattr(batches, "SHARED_MEMORY", tmp_path / "absent")
    assert batches.free_shared_memory() == 0


def test_batches_are_the_same_through_shared_memory_and_through_pipes(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    batches._announce.cache_clear()
    found = []
    for free in (2**40, 0):
        monkeypatch.setattr(batches, "free_shared_memory", lambda free=free: free)
        found.append(loaded(Numbers(7), 2))
    shared, piped = (
        [[(part.dtype, part.tolist()) for part in batch] for batch in batches] for batches in found
    )
    assert shared == piped and len(shared) == 3
    assert len(caplog.messages) == 1
    assert "has 0 MB free, too little for the batches" in caplog.messages[0]


@pytest.mark.slow
def test_workers_load_in_a_container_of_dockers_64_mb():
    """In a name space of its own, /dev/shm has 64 MB; there, shared batches end in SIGBUS."""
    script = (
        "import logging; logging.basicConfig(level='INFO')\n"
        "from tests.training.test_batches import Crops, loaded\n"
        "print(sum(len(images) for images, _ in loaded(Crops())))\n"
    )
    mount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    own = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no name space of its own for /dev/shm: needs root and CAP_SYS_ADMIN")
    done = subprocess.run(
        [*own, sys.executable, "-c", script],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout == "32\n", done.stderr
    assert done.stderr.count("sent through pipes") == 1
