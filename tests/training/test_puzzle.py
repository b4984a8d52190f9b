import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.puzzle import alpha_at, merge, reconstruction_loss, tile


def test_tiles_come_in_reading_order_with_all_images_of_a_tile_together():
    images = torch.arange(2 * 1 * 4 * 4).reshape(2, 1, 4, 4)
    tiles = tile(images, 4)
    assert tiles.shape == (8, 1, 2, 2)
    assert tiles[0, 0].tolist() == [[0, 1], [4, 5]]
    assert tiles[1, 0].tolist() == [[16, 17], [20, 21]]
    assert tiles[2, 0].tolist() == [[2, 3], [6, 7]]
    assert tiles[6, 0].tolist() == [[10, 11], [14, 15]]


@given(
    side=st.integers(1, 4),
    n=st.integers(1, 3),
    channels=st.integers(1, 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
)
def test_merging_undoes_tiling(side, n, channels, height, width):
    images = torch.randn(n, channels, side * height, side * width)
    assert torch.equal(merge(tile(images, side**2), side**2), images)


@pytest.mark.parametrize(("shape", "pieces"), [((1, 3, 5, 4), 4), ((1, 3, 4, 4), 3)])
def test_sizes_that_do_not_divide_are_refused(shape, pieces):
    with pytest.raises(ValueError, match="expected multiples"):
        tile(torch.zeros(shape), pieces)


FULL = torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])  # one image, two classes, 1x2 cells
MERGED = torch.tensor([[[[0.0, 0.0]], [[1.0, 1.0]]]])
TARGETS = torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize(
    ("reduction", "norm", "expected"),
    [
        ("masked_mean", "l1", (1 + 3) / 4),
        ("present_mean", "l1", (1 + 3) / 2),
        ("all_mean", "l1", (1 + 3 + 4 + 4) / 4),
        ("none", "l1", 0.0),
        ("masked_mean", "l2", (1 + 9) / 4),
        ("present_mean", "l2", (1 + 9) / 2),
        ("all_mean", "l2", (1 + 9 + 16 + 16) / 4),
    ],
)
def test_reconstruction_loss_by_hand(reduction, norm, expected):
    loss = reconstruction_loss(FULL, MERGED, TARGETS, reduction=reduction, norm=norm)
    assert loss.item() == pytest.approx(expected)


def test_an_image_without_labels_has_no_reconstruction_loss_and_no_nan():
    for reduction in ("masked_mean", "present_mean"):
        loss = reconstruction_loss(FULL, MERGED, torch.zeros(1, 2), reduction=reduction, norm="l1")
        assert loss.item() == 0


def test_both_maps_receive_a_gradient():
    full, merged = FULL.clone().requires_grad_(), MERGED.clone().requires_grad_()
    reconstruction_loss(full, merged, TARGETS, reduction="masked_mean", norm="l1").backward()
    assert full.grad[0, 0].tolist() == [[0.25, 0.25]]
    assert torch.equal(full.grad, -merged.grad)


def test_alpha_rises_linearly_and_then_stays():
    values = [alpha_at(share, 4.0, 0.5) for share in (0, 0.125, 0.25, 0.5, 0.75, 1)]
    assert values == [0, 1, 2, 4, 4, 4]


def test_alpha_without_a_ramp_is_constant():
    assert alpha_at(0.0, 4.0, 0.0) == 4.0
    assert not math.isnan(alpha_at(1.0, 0.0, 0.0))
