import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.refinement.affinity import FlatGrid
from pipeline.refinement.feature_affinity import cosine_affinities
from pipeline.refinement.random_walk import TransitionMatrix, affinity_walk, random_walk
from tests.helpers.grids import cosine_matrix, pairs, power_walk

WALK = {"radius": 3, "beta": 4.0, "steps": 16, "tolerance": 1e-6}


def random_layers(seed, height, width, channels=(3, 5)):
    """Features around a common vector, so that most cosines are positive."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(count, height, width)) + 0.7).astype(np.float32) for count in channels
    ]


def affinities(layers, radius):
    """Pass each layer on in parts of two channels."""
    grid = FlatGrid(*layers[0].shape[1:], radius)
    return cosine_affinities((torch.tensor(layer).split(2) for layer in layers), grid)


def as_matrix(found, radius):
    """Return the dense matrix of affinities in slices of directions; 1 on the diagonal."""
    height, width = found.shape[1:]
    directions = FlatGrid(height, width, radius).directions
    matrix = np.eye(height * width)
    for (i, a), (j, b) in pairs(height, width, radius):
        matrix[i, j] = matrix[j, i] = found[directions.index((b[0] - a[0], b[1] - a[1]))][a]
    return matrix


def test_cosines_of_four_cells_by_hand():
    # Cells a, b above c, d: a and b at 60 degrees, c along a, d opposite to a.
    features = np.zeros((2, 2, 2), np.float32)
    features[:, 0, 0], features[:, 0, 1] = (1, 0), (0.5, np.sqrt(3) / 2)
    features[:, 1, 0], features[:, 1, 1] = (7, 0), (-2, 0)
    found = affinities([features], 2)
    assert FlatGrid(2, 2, 2).directions == ((0, 1), (1, -1), (1, 0), (1, 1))
    # a-b, and c-d negative; b-c; a-c, and b-d negative; a-d negative.
    expected = [[[0.5, 0], [0, 0]], [[0, 0.5], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_layers_count_alike_whatever_their_channels_and_range():
    # Cosines of 1 in one channel, and of 0 in a thousand channels of large values.
    one, many = np.ones((1, 1, 2), np.float32), np.zeros((1000, 1, 2), np.float32)
    many[:500, 0, 0] = many[500:, 0, 1] = 1000
    assert affinities([one, many], 2)[0, 0, 0] == pytest.approx(0.5)
    # Opposite in one of three layers: 1 / 3; in both of two: 0, not -1.
    opposite = np.array([[[1, -1]]], np.float32)
    assert affinities([one, one, opposite], 2)[0, 0, 0] == pytest.approx(1 / 3)
    assert affinities([opposite, opposite], 2)[0, 0, 0] == 0


@pytest.mark.parametrize("radius", [2, 3, 5])
def test_affinities_against_brute_force(radius):
    layers = random_layers(radius, 5, 6)
    found = affinities(layers, radius)
    np.testing.assert_allclose(as_matrix(found, radius), cosine_matrix(layers, radius), atol=1e-6)
    # Beyond the border there is nothing.
    grid = FlatGrid(5, 6, radius)
    for slice_, (dy, dx) in zip(found, grid.directions, strict=True):
        outside = [
            slice_[y, x] for y in range(5) for x in range(6) if not (y + dy < 5 and 0 <= x + dx < 6)
        ]
        assert not any(outside)


@pytest.mark.parametrize(("beta", "tolerance"), [(1.0, 0), (4.0, 1e-6), (20.0, 1e-6)])
def test_a_walk_equals_the_dense_matrix_product(beta, tolerance):
    layers, maps = random_layers(1, 5, 7), np.random.default_rng(2).random((2, 5, 7))
    expected = power_walk(maps, cosine_matrix(layers, 3), beta, 16)
    settings = WALK | {"beta": beta, "tolerance": tolerance}
    (found,) = affinity_walk([torch.tensor(maps)], [affinities(layers, 3)], **settings)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(2, 5))
def test_columns_of_the_transition_matrix_sum_to_one(seed, height, width, radius):
    grid = FlatGrid(height, width, radius)
    found = affinities(random_layers(seed, height, width), radius)
    assert ((found >= 0) & (found <= 1)).all()
    weights = torch.nn.functional.pad(found, (0, radius - 1)).flatten(1)
    cells = torch.eye(height * width).reshape(-1, height, width)
    dense = TransitionMatrix(weights, grid, beta=5).walk(cells, 1).reshape(len(cells), -1)
    np.testing.assert_allclose(dense.sum(dim=0), 1, atol=1e-5)


def test_equal_features_make_the_walk_without_boundaries():
    maps = torch.tensor(np.random.default_rng(3).random((2, 6, 8)), dtype=torch.float32)
    same = np.tile(np.array([0.3, -2.0, 1.0], np.float32)[:, None, None], (1, 6, 8))
    (found,) = affinity_walk([maps], [affinities([same], 3)], **WALK)
    (expected,) = random_walk([maps], [torch.zeros(6, 8)], **WALK)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_cells_without_features_stay_alone():
    features = np.ones((2, 3, 3), np.float32)
    features[:, 1, 1] = 0
    maps = np.zeros((1, 3, 3), np.float32)
    maps[0, 1, 1] = 1
    (found,) = affinity_walk([torch.tensor(maps)], [affinities([features], 3)], **WALK)
    np.testing.assert_allclose(found, maps, atol=1e-6)


@given(st.integers(0, 10**6), st.booleans())
def test_mirrored_features_give_mirrored_maps(seed, vertical):
    axis = -2 if vertical else -1
    layers, maps = random_layers(seed, 5, 7), np.random.default_rng(seed).random((1, 5, 7))
    (plain,) = affinity_walk([torch.tensor(maps)], [affinities(layers, 3)], **WALK)
    turned = [np.flip(layer, axis).copy() for layer in layers]
    start = torch.tensor(np.flip(maps, axis).copy())
    (mirrored,) = affinity_walk([start], [affinities(turned, 3)], **WALK)
    torch.testing.assert_close(mirrored.flip(axis), plain, rtol=1e-3, atol=1e-5)


def test_a_batch_equals_single_images_and_changes_no_input():
    rng = np.random.default_rng(4)
    shapes = [(7, 9, 2), (4, 12, 1), (9, 3, 0)]
    maps = [torch.tensor(rng.random((k, h, w)), dtype=torch.float32) for h, w, k in shapes]
    weights = [affinities(random_layers(k, h, w), 3) for h, w, k in shapes]
    before = [item.clone() for item in weights]
    walked = affinity_walk(maps, weights, **WALK)
    for result, one, weight, old in zip(walked, maps, weights, before, strict=True):
        assert result.shape == one.shape
        torch.testing.assert_close(result, affinity_walk([one], [weight], **WALK)[0])
        assert torch.equal(weight, old)
