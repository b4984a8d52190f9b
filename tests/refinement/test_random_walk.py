from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.polynomial import chebyshev

from pipeline.refinement.random_walk import (
    TransitionMatrix,
    chebyshev_coefficients,
    class_probabilities,
    confident_markers,
    random_walk,
)
from tests.helpers.grids import dense_walk, transition_matrix

WALK = {"radius": 5, "beta": 10.0, "steps": 256, "tolerance": 1e-4}


def walk(maps, edges, **changes):
    maps = torch.tensor(np.asarray(maps), dtype=torch.float32)
    edges = torch.tensor(np.asarray(edges), dtype=torch.float32)
    return random_walk([maps], [edges], **(WALK | changes))[0].numpy()


def random_case(seed, height, width, classes=2):
    rng = np.random.default_rng(seed)
    return rng.random((classes, height, width)), rng.random((height, width)) ** 3


def weighted(values, degrees):
    return np.sqrt((degrees * np.asarray(values, np.float64) ** 2).sum(axis=(-2, -1)))


ADVERSARIAL = {
    "no edges": lambda h, w: np.zeros((h, w)),
    "edges everywhere": lambda h, w: np.ones((h, w)),
    "a wall of one column": lambda h, w: np.tile(np.arange(w) == w // 2, (h, 1)).astype(float),
    "a wall of one row": lambda h, w: np.tile((np.arange(h) == h // 2)[:, None], (1, w)) * 1.0,
    "a chessboard": lambda h, w: np.indices((h, w)).sum(axis=0) % 2 * 1.0,
    "random": lambda h, w: np.random.default_rng(0).random((h, w)),
    "steep": lambda h, w: np.random.default_rng(1).random((h, w)) ** 8,
}


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7, 16, 255, 256])
def test_all_terms_of_the_series_equal_the_power(steps):
    x = np.linspace(-1, 1, 1001)
    series = chebyshev.chebval(x, chebyshev_coefficients(steps, 0))
    np.testing.assert_allclose(series, x**steps, atol=1e-13)


@pytest.mark.parametrize("steps", [64, 256, 257, 4096])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_the_polynomial_is_as_near_as_asked_for(steps, tolerance):
    coefficients = chebyshev_coefficients(steps, tolerance)
    x = np.cos(np.linspace(0, np.pi, 20001))
    error = np.abs(chebyshev.chebval(x, coefficients) - x**steps).max()
    assert error <= tolerance
    # Hoeffding's bound on the tail, doubled for the scaling, is enough terms.
    degree = next(k for k in range(steps + 2) if 4 * exp(-(k**2) / (2 * steps)) < tolerance / 1.1)
    assert len(coefficients) - 1 <= degree + 1
    assert sum(coefficients) == pytest.approx(1, abs=1e-15)


def test_the_published_setting_takes_64_products():
    assert len(chebyshev_coefficients(256, 1e-4)) - 1 == 64


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("beta", [1.0, 4.0, 10.0, 0.5])
@pytest.mark.parametrize("tolerance", [0, 1e-6])
def test_it_equals_dense_matrices_in_double_precision(radius, beta, tolerance):
    maps, edges = random_case(0, 7, 9)
    expected = dense_walk(maps, edges, radius, beta, 256)
    result = walk(maps, edges, radius=radius, beta=beta, tolerance=tolerance)
    np.testing.assert_allclose(result, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 4), (13, 7)])
@pytest.mark.parametrize("steps", [1, 3, 64])
def test_any_grid_and_number_of_steps(shape, steps):
    maps, edges = random_case(1, *shape)
    expected = dense_walk(maps, edges, 5, 3, steps)
    for tolerance in (0, 1e-6):
        result = walk(maps, edges, beta=3, steps=steps, tolerance=tolerance)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
def test_the_error_is_under_its_bound(name, tolerance):
    edges = ADVERSARIAL[name](11, 10)
    maps, _ = random_case(2, 11, 10)
    maps[1] = 0
    maps[1, 3, 4] = 1  # a single cell has all frequencies
    start = maps * (1 - edges)
    exact = dense_walk(maps, edges, 5, 10, 256)
    degrees = TransitionMatrix.of_boundaries(
        torch.tensor(edges).float(), radius=5, beta=10
    ).degrees.numpy()
    error = weighted(walk(maps, edges, tolerance=tolerance) - exact, degrees)
    assert (error <= tolerance * weighted(start, degrees) + 1e-5).all()


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=7),
        elements=st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]),
    ),
    st.integers(1, 6),
    st.sampled_from([1.0, 10.0]),
)
def test_columns_sum_to_one(edges, radius, beta):
    # Row vectors of single cells give the rows of T: all of them together make its column sums.
    transition = TransitionMatrix.of_boundaries(torch.tensor(edges), radius=radius, beta=beta)
    cells = torch.eye(edges.size).reshape(-1, *edges.shape)
    dense = transition.walk(cells, 1).reshape(edges.size, -1).numpy()
    np.testing.assert_allclose(dense.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(dense, transition_matrix(edges, radius, beta), atol=1e-5)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_constants_stay_and_weighted_mass_is_kept(name):
    edges = torch.tensor(ADVERSARIAL[name](12, 9)).float()
    transition = TransitionMatrix.of_boundaries(edges, radius=5, beta=10)
    coefficients = chebyshev_coefficients(256, 1e-3)
    constant = torch.full((1, 12, 9), 0.7)
    maps = torch.tensor(random_case(3, 12, 9)[0]).float()
    for give in (lambda x: transition.spread(x, coefficients), lambda x: transition.walk(x, 256)):
        torch.testing.assert_close(give(constant), constant, rtol=1e-4, atol=0)
        before = (maps * transition.degrees).sum(dim=(1, 2))
        after = (give(maps) * transition.degrees).sum(dim=(1, 2))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=0)


def test_a_wall_of_edges_stops_the_walk():
    edges = ADVERSARIAL["a wall of one column"](9, 11)
    maps = np.zeros((1, 9, 11))
    maps[0, 4, 2] = 1
    result = walk(maps, edges)[0]
    assert not result[:, 5:].any()
    assert (result[:, :5] > 1e-3).all()


def test_nothing_passes_from_one_border_to_the_other():
    maps = np.zeros((1, 3, 20))
    maps[0, 1, 19] = 1
    result = walk(maps, np.zeros((3, 20)), steps=1)[0]
    assert (result[:, 16:] > 0).all()
    assert not result[:, :15].any()


@given(st.integers(0, 10**6), st.booleans())
def test_a_mirrored_image_has_mirrored_maps(seed, vertical):
    maps, edges = random_case(seed, 6, 8)
    flip = (lambda x: x[..., ::-1, :].copy()) if vertical else (lambda x: x[..., ::-1].copy())
    # A path has the cells on both sides of its line, so mirroring changes nothing.
    np.testing.assert_allclose(walk(flip(maps), flip(edges)), flip(walk(maps, edges)), atol=1e-5)


def test_a_batch_equals_single_images():
    cases = [random_case(4, 7, 9, 2), random_case(5, 4, 12, 1), random_case(6, 9, 3, 0)]
    maps = [torch.tensor(item).float() for item, _ in cases]
    edges = [torch.tensor(item).float() for _, item in cases]
    for result, one, edge in zip(random_walk(maps, edges, **WALK), maps, edges, strict=True):
        assert result.shape == one.shape
        torch.testing.assert_close(result, random_walk([one], [edge], **WALK)[0])


def test_inputs_are_not_changed():
    maps, edges = (torch.tensor(item).float() for item in random_case(7, 5, 6))
    before = maps.clone(), edges.clone()
    random_walk([maps], [edges], **WALK)
    assert torch.equal(maps, before[0]) and torch.equal(edges, before[1])


def test_seeds_by_hand():
    maps = torch.tensor([[[1.0, 0.6, 0.1, 0.4]], [[0.0, 0.7, 0.1, 0.3]]])
    seeds = confident_markers(maps, foreground=0.5, background=0.2)
    # The second class is weaker in the last cell, the first in the second one.
    assert seeds.tolist() == [[[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 1, 0]]]


def test_a_faint_class_has_seeds_of_its_own():
    maps = torch.tensor([[[1.0, 0.0, 0.1]], [[0.0, 0.2, 0.05]]])
    assert confident_markers(maps, foreground=0.5, background=0.01)[1].tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("classes", [0, 2])
def test_what_has_no_signal_is_background(classes):
    seeds = confident_markers(torch.zeros(classes, 2, 3), foreground=0.5, background=0.3)
    assert seeds.shape == (classes + 1, 2, 3)
    assert not seeds[:-1].any() and seeds[-1].all()


def test_shares_by_hand():
    walked = torch.tensor([[[2.0, 0.0, 0.0]], [[1.0, 0.5, 0.0]], [[1.0, 1.5, 0.0]]])
    assert class_probabilities(walked).tolist() == [[[0.5, 0.0, 0.0]], [[0.25, 0.25, 0.0]]]


def test_negative_rounding_errors_count_as_zero():
    walked = torch.tensor([[[1e-6, -1e-6, -1e-6]], [[-1e-6, 1e-6, -1e-6]]])
    assert class_probabilities(walked).tolist() == [[[1.0, 0.0, 0.0]]]


@given(st.integers(0, 10**6))
def test_shares_of_a_walk_are_those_of_the_dense_matrix(seed):
    maps, edges = random_case(seed, 5, 7)
    seeds = confident_markers(torch.tensor(maps), foreground=0.6, background=0.3)
    walked = dense_walk(seeds.double().numpy(), edges, radius=5, beta=10.0, steps=256)
    total = walked.sum(axis=0)
    shares = class_probabilities(random_walk([seeds], [torch.tensor(edges).float()], **WALK)[0])
    arrived = total > 1e-3
    expected = walked[:-1] / np.where(arrived, total, 1)
    np.testing.assert_allclose(shares.numpy()[:, arrived], expected[:, arrived], atol=0.02)


def test_probabilities_spread_until_a_boundary():
    # Two rooms and a wall that lets little through; only the left one has a seed of the class.
    seeds, edges = torch.zeros(2, 9, 20), torch.zeros(9, 20)
    seeds[0, 4, 2] = seeds[1, 4, 17] = 1
    edges[:, 8:11] = 0.99
    shares = class_probabilities(random_walk([seeds], [edges], **WALK)[0])[0]
    assert shares[:, :8].min() > 0.9
    assert shares[:, 11:].max() < 0.1
