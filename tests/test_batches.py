import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.batches import batches_of_epoch, divide, seed_of
from pipeline.device import make_fabric
from pipeline.errors import UserError

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
