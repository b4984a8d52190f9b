import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as run_lengths
from skimage.measure import find_contours

from pipeline.export.polygons import polygons
from tests.helpers.photographs import NAMES, photograph

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def inside(ring, shape):
    """Test pixel centers by the even-odd rule with whole numbers: a ray to the right.

    An edge counts the same whichever way it is walked.
    """
    points = (2 * ring).astype(np.int64)
    assert (points == 2 * ring).all()
    rows, columns = np.indices(shape) * 2 + 1
    odd = np.zeros(shape, bool)
    for one, other in zip(points.tolist(), np.roll(points, -1, axis=0).tolist(), strict=True):
        (x0, y0), (x1, y1) = sorted((one, other), key=lambda point: point[1])
        between = (y0 <= rows) & (rows < y1)
        odd ^= between & ((x1 - x0) * (rows - y0) > (columns - x0) * (y1 - y0))
    return odd


def rasterized(rings, shape):
    """Draw polygons as pycocotools does."""
    encoded = run_lengths.frPyObjects([ring.ravel().tolist() for ring in rings], *shape)
    return run_lengths.decode(run_lengths.merge(encoded)).astype(bool)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def blobs(seed):
    noise = np.random.default_rng(seed).random((80, 100))
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return smooth > np.quantile(smooth, 0.6)


@given(MASKS)
def test_every_center_is_in_one_ring_exactly_where_the_mask_is(mask):
    times = sum((inside(ring, mask.shape) for ring in polygons(mask, 0)), np.zeros(mask.shape, int))
    assert np.array_equal(times, mask)


@given(MASKS, st.floats(0, 3))
def test_rings_are_polygons_inside_the_image(mask, tolerance):
    rings = polygons(mask, tolerance)
    regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    assert len(rings) == regions
    for ring in rings:
        assert len(ring) >= 3
        assert (ring >= 0).all() and (ring <= mask.shape[::-1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_outlines_in_a_photograph_are_scikit_images_contours(name):
    gray = photograph(name).mean(axis=2)
    mask = gray > gray.mean()
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5, fully_connected="low")
    # Contours are row, column from the center of the padded pixel 0.
    expected = {tuple(point[::-1] - 0.5) for contour in contours for point in contour}
    assert {tuple(point) for ring in polygons(mask, 0) for point in ring} == expected


def test_a_single_pixel_at_the_corner_is_a_diamond_around_its_center():
    mask = np.zeros((3, 4), bool)
    mask[0, 3] = True
    (ring,) = polygons(mask)
    assert sorted(ring.tolist()) == [[3, 0.5], [3.5, 0], [3.5, 1], [4, 0.5]]


def test_a_full_mask_reaches_every_edge():
    (ring,) = polygons(np.ones((4, 6), bool), 0)
    assert ring.min(axis=0).tolist() == [0, 0] and ring.max(axis=0).tolist() == [6, 4]


def test_pixels_that_touch_at_a_corner_are_two_regions():
    assert len(polygons(np.eye(2, dtype=bool))) == 2


def test_an_empty_mask_has_no_polygon():
    assert polygons(np.zeros((3, 3), bool)) == []


def test_a_hole_is_reached_over_the_shortest_bridge_and_left_over_it():
    mask = np.ones((9, 9), bool)
    mask[4, 6] = False
    (ring,) = polygons(mask, 0)
    outer = 4 * 9  # a vertex for every pixel side at the border
    assert len(ring) == outer + 4 + 2  # the hole, its first point again, and the foot again
    assert np.array_equal(inside(ring, mask.shape), mask)
    edges = np.abs(ring - np.roll(ring, 1, axis=0)).sum(axis=1)
    assert sorted(edges)[-2:] == [2, 2]  # from the hole's right tip at x = 7 to x = 9, and back


def test_two_holes_may_share_a_foot_of_their_bridges():
    mask = np.ones((3, 5), bool)
    mask[1, 1] = mask[1, 3] = False
    (ring,) = polygons(mask, 5)
    assert len(ring) >= 3 + 2 * 6 - 1
    (exact,) = polygons(mask, 0)
    assert np.array_equal(inside(exact, mask.shape), mask)


# pycocotools 2.0.11 decodes in a way that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("tolerance", "least"), [(0, 0.999), (0.5, 0.95), (1, 0.9)])
def test_pycocotools_draws_the_shapes_that_were_traced(tolerance, least):
    for seed in range(10):
        mask = blobs(seed)
        assert iou(rasterized(polygons(mask, tolerance), mask.shape), mask) >= least


def test_simplification_leaves_points_out_and_keeps_the_rest():
    mask = blobs(0)
    exact, simple = (np.concatenate(polygons(mask, tolerance)) for tolerance in (0, 0.5))
    assert len(simple) < len(exact) / 3
    assert {tuple(point) for point in simple.tolist()} <= {tuple(p) for p in exact.tolist()}
