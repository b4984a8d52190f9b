import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import UserError
from pipeline.io.regions import (
    Regions,
    RegionShard,
    joined,
    regions_of_masks,
    regions_of_partition,
    write_regions,
)
from pipeline.io.tensors import write_arrays
from tests.helpers.region_masks import masks_of

PARTITIONS = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
                        elements=st.integers(-3, 5))  # fmt: skip


@given(PARTITIONS)
def test_a_partition_has_one_region_for_each_number(partition):
    regions = regions_of_partition(partition)
    numbers = np.unique(partition)
    assert len(regions) == len(numbers)
    for number, mask in zip(numbers, masks_of(regions), strict=True):
        assert np.array_equal(mask, partition == number)
    assert regions.areas.tolist() == [(partition == number).sum() for number in numbers]


def test_empty_masks_are_left_out():
    empty = np.zeros(0, np.int64)
    regions = regions_of_masks((2, 2), [(empty, empty), (np.array([1]), np.array([2]))])
    assert regions.areas.tolist() == [2]
    assert len(regions_of_masks((2, 2), [])) == 0
    assert regions_of_masks((2, 2), []).areas.tolist() == []


def test_a_shard_is_read_as_it_was_written(tmp_path):
    left = regions_of_partition(np.array([[0, 1, 1], [0, 0, 1]]))
    both = joined([left, regions_of_partition(np.zeros((2, 3), int))])
    nothing = regions_of_masks((4, 5), [])
    write_regions(tmp_path / "0.safetensors", [("a", both), ("b", nothing)])
    shard = RegionShard(tmp_path / "0.safetensors")
    for found, item in ((shard.of_size("a", (2, 3)), both), (shard.of_size("b", (4, 5)), nothing)):
        for name in ("starts", "lengths", "counts"):
            assert np.array_equal(getattr(found, name), getattr(item, name))
    assert [mask.sum() for mask in masks_of(both)] == [3, 3, 6]
    with pytest.raises(UserError, match=r"0.safetensors: no regions of c, expected"):
        shard.of_size("c", (2, 3))
    with pytest.raises(UserError, match=r"regions of a are of an image of \(2, 3\), expected"):
        shard.of_size("a", (3, 2))


@pytest.mark.parametrize(
    ("starts", "lengths", "counts"),
    [
        ([5], [2], [1]), ([-1], [2], [1]), ([0], [0], [1]), ([0], [1], [2]),
        ([0, 1], [1], [2]), ([0], [1], [1, 0]),
    ],
)  # fmt: skip
def test_runs_that_do_not_fit_are_damage(tmp_path, starts, lengths, counts):
    found = Regions((2, 3), *(np.array(part, np.int64) for part in (starts, lengths, counts)))
    write_regions(tmp_path / "0.safetensors", [("a", found)])
    with pytest.raises(UserError, match="runs of a do not fit its size"):
        RegionShard(tmp_path / "0.safetensors").of_size("a", (2, 3))


def test_another_file_is_refused(tmp_path):
    (tmp_path / "0.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="safetensors file of regions"):
        RegionShard(tmp_path / "0.safetensors")
    write_arrays(tmp_path / "1.safetensors", {"a/size": np.array([2, 3])})
    with pytest.raises(UserError, match="safetensors file of regions"):
        RegionShard(tmp_path / "1.safetensors").of_size("a", (2, 3))
