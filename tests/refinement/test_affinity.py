import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.refinement.affinity import (
    FlatGrid,
    affinity_loss,
    count_pairs,
    path_maxima,
    path_rows,
)
from tests.helpers.grids import affinity_matrix, pairs, path


def test_neighbors_of_radius_five_are_the_34_of_the_published_code():
    assert len(FlatGrid(3, 3, 5).directions) == 34


@given(st.integers(0, 9), st.integers(-9, 9))
def test_runs_are_the_cells_near_the_line(dy, dx):
    if dy == 0 and dx <= 0:
        return
    cells = [
        (y, x)
        for y, (column, length) in enumerate(path_rows(dy, dx))
        for x in range(column, column + length)
    ]
    assert cells == sorted(path((0, 0), (dy, dx)))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5))
def test_flattening_can_be_undone(height, width, radius):
    grid = FlatGrid(height, width, radius)
    values = torch.rand(2, height, width)
    flat = grid.flatten(values, wall=9.0)
    assert flat.shape == (2, grid.cells + 2 * grid.margin)
    inside = flat[:, grid.margin : grid.margin + grid.cells]
    assert torch.equal(grid.unflatten(inside), values)
    assert (flat == 9).sum() == flat.numel() - values.numel()


@pytest.mark.parametrize("radius", [2, 3, 5])
def test_path_maxima_against_brute_force(radius):
    edges = np.random.default_rng(radius).random((2, 5, 6)).astype(np.float32)
    grid = FlatGrid(5, 6, radius)
    maxima = path_maxima(grid.flatten(torch.tensor(edges), wall=1.0), grid)
    for image, edge in enumerate(edges):
        expected = 1 - affinity_matrix(edge, radius)
        for (i, a), (j, b) in pairs(5, 6, radius):
            direction = grid.directions.index((b[0] - a[0], b[1] - a[1]))
            assert maxima[direction, image, grid.shift(*a)] == pytest.approx(expected[i, j])


def test_gradients_go_to_the_largest_edge_of_a_path():
    grid = FlatGrid(4, 4, 4)
    edges = torch.rand(2, 4, 4, dtype=torch.float64, requires_grad=True)

    def maxima(values):
        return path_maxima(grid.flatten(values, wall=1.0), grid)

    assert torch.autograd.gradcheck(maxima, edges, eps=1e-7)


def has_all_neighbors(cell, shape, radius):
    """Return whether all neighbors after a cell in reading order are inside the grid."""
    reach = radius - 1
    return cell[0] + reach < shape[0] and reach <= cell[1] < shape[1] - reach


def brute_force_loss(edges, labels, radius, kind_of_pairs="all"):
    sums = {"background": [], "foreground": [], "negative": []}
    for edge, label in zip(edges, labels, strict=True):
        affinity = affinity_matrix(edge, radius)
        for (i, a), (j, b) in pairs(*edge.shape, radius):
            if 255 in (label[a], label[b]):
                continue
            if kind_of_pairs == "inner" and not has_all_neighbors(a, edge.shape, radius):
                continue
            if label[a] != label[b]:
                sums["negative"].append(-np.log(1 + 1e-5 - affinity[i, j]))
            else:
                kind = "foreground" if label[a] else "background"
                sums[kind].append(-np.log(affinity[i, j] + 1e-5))
    return {kind: np.mean(values) if values else 0.0 for kind, values in sums.items()}


@pytest.mark.parametrize("kind_of_pairs", ["all", "inner"])
@pytest.mark.parametrize("kinds", [(0, 1, 255), (0, 1, 2), (0,), (3,), (255,), (1, 2), (0, 255)])
def test_the_loss_against_brute_force(kinds, kind_of_pairs):
    rng = np.random.default_rng(0)
    edges = rng.random((2, 5, 6)).astype(np.float32)
    labels = rng.choice(kinds, (2, 5, 6))
    expected = brute_force_loss(edges, labels, 3, kind_of_pairs)
    given_edges = torch.tensor(edges, requires_grad=True)
    losses = affinity_loss(given_edges, torch.tensor(labels), 3, pairs=kind_of_pairs)
    for kind, value in expected.items():
        assert losses[f"loss_{kind}"].item() == pytest.approx(value, rel=1e-4)
    whole = ((expected["background"] + expected["foreground"]) / 2 + expected["negative"]) / 2
    assert losses["loss"].item() == pytest.approx(whole, rel=1e-4)
    losses["loss"].backward()
    assert torch.isfinite(given_edges.grad).all()


def test_inner_pairs_are_those_of_cells_with_all_their_neighbors():
    # Of 6 x 7 cells and radius 3: 4 rows, 3 columns, each with the 12 neighbors that follow.
    labels = torch.zeros(1, 6, 7, dtype=torch.int64)
    assert len(FlatGrid(6, 7, 3).directions) == 12
    assert count_pairs(labels, 3, pairs="inner").tolist() == [4 * 3 * 12, 0, 0]
    assert count_pairs(labels, 3, pairs="all").sum() > 4 * 3 * 12
    # Too small for any: the loss is 0, with a gradient.
    edges = torch.rand(1, 2, 4, requires_grad=True)
    losses = affinity_loss(edges, torch.zeros(1, 2, 4, dtype=torch.int64), 3, pairs="inner")
    losses["loss"].backward()
    assert losses["loss"].item() == 0 and not edges.grad.any()


@pytest.mark.parametrize("kind", ["all", "inner"])
def test_weighted_parts_have_the_loss_of_the_whole(kind):
    rng = np.random.default_rng(1)
    edges = torch.tensor(rng.random((4, 8, 7)), dtype=torch.float32)
    labels = torch.tensor(rng.choice([0, 1, 255], (4, 8, 7), p=[0.7, 0.2, 0.1]))
    labels[0][labels[0] == 1] = 0  # an image without foreground pairs
    counts = torch.stack([count_pairs(label[None], 3, pairs=kind) for label in labels]).double()
    assert counts[0].tolist()[1:] == [0, 0]
    assert count_pairs(labels, 3, pairs=kind).tolist() == counts.sum(dim=0).tolist()
    weights = (counts / counts.mean(dim=0)).float()
    parts = [
        affinity_loss(edges[k, None], labels[k, None], 3, weights[k], pairs=kind) for k in range(4)
    ]
    whole = affinity_loss(edges, labels, 3, pairs=kind)
    for name, value in whole.items():
        assert np.mean([part[name].item() for part in parts]) == pytest.approx(value.item())


def test_a_pair_by_hand():
    # Two cells of one object and an edge of .5 on one of them: a = .5, -log(.5 + 1e-5) = .69313.
    losses = affinity_loss(torch.tensor([[[0.0, 0.5]]]), torch.tensor([[[4, 4]]]), 2, pairs="all")
    assert losses["loss_foreground"].item() == pytest.approx(0.69313, abs=1e-5)
    assert losses["loss"].item() == pytest.approx(0.69313 / 4, abs=1e-5)
