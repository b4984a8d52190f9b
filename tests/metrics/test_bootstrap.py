import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import bootstrap
from pipeline.metrics.bootstrap import (
    BOUNDS,
    Difference,
    Estimate,
    difference,
    estimates,
    holm,
)
from pipeline.metrics.segmentation import confusion_matrix, image_counts, scores_of

NAMES = ("background", "cat", "dog")


def labels(rng, images, wrong):
    """Return ground ground_truths, and predictions with a share of random pixels."""
    ground_truths = rng.integers(0, 3, (images, 6, 6)).astype(np.uint8)
    spoiled = rng.random(ground_truths.shape) < wrong
    predictions = np.where(spoiled, rng.integers(0, 3, ground_truths.shape), ground_truths).astype(
        np.uint8
    )
    return ground_truths, predictions


def matrices(ground_truths, predictions):
    return [confusion_matrix(t, p, 3) for t, p in zip(ground_truths, predictions, strict=True)]


@pytest.fixture
def methods():
    """Confusion matrices by run and image of two methods, one with two runs, one with one."""
    rng = np.random.default_rng(0)
    ground_truths, good = labels(rng, 7, 0.3)
    spoil = [np.where(rng.random(ground_truths.shape) < share, 0, good) for share in (0.1, 0.4)]
    runs = [matrices(ground_truths, p.astype(np.uint8)) for p in (good, *spoil)]
    return runs[:2], runs[2:]


def counted(runs):
    return [image_counts(run) for run in runs]


def paired(a, b, samples, seed=0):
    return difference(*estimates([a, b], samples=samples, seed=seed))


def all_counted(methods):
    return [counted(runs) for runs in methods]


def test_single_resamples_equal_a_batch_of_them(methods):
    samples, seed = 50, 3
    drawn = np.random.default_rng(seed).integers(7, size=(samples, 7))

    def miou(runs, images):
        whole = [scores_of(sum(run[k] for k in images), NAMES)["miou"] for run in runs]
        return sum(whole) / len(whole)

    a, b = methods
    differences = [miou(a, images) - miou(b, images) for images in drawn]
    found = paired(counted(a), counted(b), samples, seed)
    assert found.difference == pytest.approx(miou(a, range(7)) - miou(b, range(7)))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, BOUNDS)))
    below, above = (sum(sign * d <= 0 for d in differences) for sign in (1, -1))
    assert found.p == min(1, 2 * (min(below, above) + 1) / (samples + 1))


def test_the_chunk_size_of_resamples_does_not_matter(methods, monkeypatch):
    whole = estimates(all_counted(methods), samples=40)
    monkeypatch.setattr(bootstrap, "CHUNK", 22)  # three resamples of seven images at a time
    for one, other in zip(whole, estimates(all_counted(methods), samples=40), strict=True):
        assert one.miou == other.miou
        assert one.resampled.tolist() == other.resampled.tolist()


def test_a_method_is_no_better_than_itself(methods):
    for runs in all_counted(methods):
        assert paired(runs, runs, 100) == Difference(0.0, 0.0, 0.0, 1.0)


def test_the_order_of_the_methods_is_the_sign(methods):
    a, b = all_counted(methods)
    one, other = paired(a, b, 200), paired(b, a, 200)
    assert one.p == other.p and one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_two_images_by_hand():
    # Image 0 has four pixels of class 0, image 1 four of class 1. Method a is all right;
    # b takes half of image 1 for class 0.
    true = [[4, 0], [0, 4]]
    a = np.array([[t, t, t] for t in true])
    b = np.array([[[4, 0], [4, 0], [4, 0]], [[0, 2], [2, 2], [0, 4]]])
    # mIoU of b: both images (4/6 + 2/4) / 2 = 7/12, image 0 twice 1, image 1 twice (0 + 1/2) / 2.
    one, two = estimates([[a], [b]], samples=400)
    assert one.miou == 1 and set(one.resampled) == {1.0}
    assert two.miou == pytest.approx(7 / 12)
    assert np.unique(two.resampled) == pytest.approx([1 / 4, 7 / 12, 1])
    found = difference(one, two)
    assert (found.difference, found.low, found.high) == pytest.approx((5 / 12, 0, 3 / 4))
    # A quarter of the resamples says 0, none says less: 2 * 1/4 but for chance.
    assert found.p == pytest.approx(0.5, abs=0.1)


def test_the_smallest_p_is_of_the_number_of_resamples():
    low, high = (Estimate(value, np.full(99, value)) for value in (0.25, 0.5))
    assert difference(low, high) == Difference(-0.25, -0.25, -0.25, 2 / 100)


def test_a_single_image_has_no_interval():
    ground_truths, predictions = labels(np.random.default_rng(1), 1, 0.5)
    a, b = (counted([matrices(ground_truths, p)]) for p in (ground_truths, predictions))
    found = paired(a, b, 10)
    assert found.difference == pytest.approx(
        1 - scores_of(matrices(ground_truths, predictions)[0], NAMES)["miou"]
    )
    assert np.isnan([found.low, found.high, found.p]).all()


def test_resamples_without_a_scored_pixel_are_left_out():
    ground_truths, predictions = labels(np.random.default_rng(2), 2, 0.5)
    ground_truths[1] = 255
    a, b = (counted([matrices(ground_truths, p)]) for p in (ground_truths, predictions))
    found = paired(a, b, 100)
    # What is left holds image 0 once or twice, and no other pixel: nothing varies.
    assert found.low == found.high == found.difference > 0


def test_other_images_are_an_error(methods):
    a, _ = all_counted(methods)
    with pytest.raises(ValueError, match="6 images are not those of the 7"):
        estimates([a, [a[0][:6]]])
    with pytest.raises(ValueError, match="expected the same images in the same order"):
        estimates([a, [a[0][::-1]]])
    with pytest.raises(ValueError, match="no run or no image"):
        estimates([a, []])
    with pytest.raises(ValueError, match="no run or no image"):
        estimates([[a[0][:0]], [a[0][:0]]])
    with pytest.raises(ValueError, match="no run or no image"):
        estimates([])


def test_the_interval_covers_the_true_difference():
    # Images are drawn from a population of 4000, whose difference is the truth.
    rng = np.random.default_rng(4)
    population = [_population(rng, share) for share in (0.8, 0.7)]
    population[1][:, 2] = population[0][:, 2]
    true = paired([population[0]], [population[1]], 1).difference
    covered = 0
    for trial in range(200):
        images = rng.integers(4000, size=60)
        found = paired(*([counts[images]] for counts in population), 200, trial)
        covered += found.low <= true <= found.high
    assert 0.89 <= covered / 200 <= 0.99  # 0.95, within four standard deviations of 200 trials


def _population(rng, share):
    """Counts of images with 100 pixels and 2 classes and varying shares of correct pixels."""
    foreground = np.random.default_rng(5).integers(20, 80, 4000)
    true = np.stack([100 - foreground, foreground], axis=1)
    right = rng.binomial(true, np.clip(rng.normal(share, 0.1, (4000, 1)), 0, 1))
    missed = true - right
    return np.stack([right, right + missed[:, ::-1], true], axis=1)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, np.nan, 0.9, 0.001]) == pytest.approx([1, np.nan, 1, 0.003], nan_ok=True)
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_between_raw_and_bonferroni_p_values_in_the_same_order(p):
    corrected = holm(p)
    assert all(a <= b <= min(1, len(p) * a) for a, b in zip(p, corrected, strict=True))
    ranked = sorted(zip(p, corrected, strict=True))
    assert [b for _, b in ranked] == sorted(corrected)
