import os
import signal
import time

import pytest

from pipeline.errors import UserError
from pipeline.runtime.parallel import map_images


@pytest.fixture(autouse=True)
def _shared(processes):
    """Share also these few items among processes."""


def square(value: int) -> int:
    return value * value


def complains(value: int) -> int:
    if value == 3:
        raise UserError("3.png: got three, expected another number")
    return value


def dies(value: int) -> int:
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    results = map_images(square, range(25), workers=workers, what="squares")
    assert list(results) == [value * value for value in range(25)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_user_error_in_a_worker_is_raised_unchanged(workers):
    with pytest.raises(UserError, match=r"3.png: got three"):
        list(map_images(complains, range(8), workers=workers, what="x"))


def test_a_killed_worker_is_named():
    with pytest.raises(UserError, match="was killed, most likely for memory"):
        list(map_images(dies, range(8), workers=2, what="x"))


def test_an_empty_list_of_work_has_no_results():
    assert list(map_images(square, [], workers=2, what="x")) == []


def work(value: int) -> int:
    """Return the id of the working process."""
    time.sleep(value / 100)
    return os.getpid()


def test_only_large_work_is_distributed(monkeypatch):
    monkeypatch.setattr("pipeline.runtime.parallel.START", 0.5)
    assert set(map_images(work, [1] * 6, workers=2, what="x")) == {os.getpid()}
    first, *_, last = map_images(work, [20] * 6, workers=2, what="x")
    assert first == os.getpid() != last
