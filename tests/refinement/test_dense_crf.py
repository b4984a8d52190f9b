import numpy as np
import pytest
from pydensecrf.utils import unary_from_labels

from pipeline.refinement.dense_crf import CrfSettings, DenseCrf, dense_crf, label_probabilities
from tests.helpers.photographs import NAMES, photograph

SETTINGS = CrfSettings(iterations=5)


def scene(height=12, width=16):
    """Draw an image of two halves, with noisy probabilities of two labels."""
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, width // 2 :] = 200
    ground_truth = (image[..., 0] > 100).astype(np.float32)
    foreground = np.clip(
        ground_truth * 0.4 + 0.3 + rng.uniform(-0.35, 0.35, ground_truth.shape), 0.01, 0.99
    )
    return image, np.stack([1 - foreground, foreground]).astype(np.float32), ground_truth


def mean_field(image, probabilities, settings):
    """Mean field with exact kernels in float64 (Kraehenbuehl and Koltun 2011, algorithm 1).

    Kernels are normalized symmetrically by their row sums, as the published code does.
    """
    labels, height, width = probabilities.shape
    rows, columns = np.mgrid[:height, :width]
    place = np.stack([rows.ravel(), columns.ravel()], axis=1).astype(np.float64)
    color = image.reshape(-1, 3).astype(np.float64)

    def kernel(features):
        distance = ((features[:, None] - features[None]) ** 2).sum(axis=2)
        values = np.exp(-distance / 2)
        norm = 1 / np.sqrt(values.sum(axis=1))
        return values * norm[:, None] * norm[None]

    smooth = settings.gaussian_compat * kernel(place / settings.gaussian_sxy)
    features = np.hstack([place / settings.bilateral_sxy, color / settings.bilateral_srgb])
    weights = smooth + settings.bilateral_compat * kernel(features)
    energy = np.log(probabilities.reshape(labels, -1).astype(np.float64))
    q = np.exp(energy) / np.exp(energy).sum(axis=0)
    for _ in range(settings.iterations):
        logits = energy + q @ weights
        q = np.exp(logits - logits.max(axis=0))
        q /= q.sum(axis=0)
    return q.reshape(probabilities.shape)


def test_posterior_is_that_of_exact_mean_field_within_the_lattices_error():
    image, probabilities, _ = scene()
    settings = CrfSettings(iterations=2, gaussian_compat=1, bilateral_compat=1, bilateral_sxy=8,
                           bilateral_srgb=30)  # fmt: skip
    expected = mean_field(image, probabilities, settings)
    posterior = dense_crf(image, probabilities, settings)
    # The permutohedral lattice approximates the kernels: percents, not digits.
    assert np.abs(posterior - expected).mean() < 0.05
    agree = posterior.argmax(axis=0) == expected.argmax(axis=0)
    assert agree.mean() > 0.95


def test_a_noisy_label_is_aligned_with_the_image():
    image, probabilities, ground_truth = scene(40, 40)
    before = (probabilities.argmax(axis=0) == ground_truth).mean()
    after = (dense_crf(image, probabilities, SETTINGS).argmax(axis=0) == ground_truth).mean()
    assert before < 0.9
    assert after == 1


def test_posterior_sums_to_one_and_inputs_stay():
    image, probabilities, _ = scene()
    image.flags.writeable = False
    before = probabilities.copy()
    posterior = dense_crf(image, probabilities, SETTINGS)
    np.testing.assert_allclose(posterior.sum(axis=0), 1, atol=1e-5)
    assert posterior.dtype == np.float32
    assert np.array_equal(probabilities, before)


def test_equal_input_has_bit_identical_output():
    image, probabilities, _ = scene()
    one, two = (dense_crf(image, probabilities, SETTINGS) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("labels", [1, 2])
def test_one_crf_on_an_image_serves_several_probabilities(labels):
    image, probabilities, _ = scene()
    shared = DenseCrf(image, labels, SETTINGS)
    for each in (probabilities, probabilities[::-1], probabilities):
        expected = dense_crf(image, each[:labels], SETTINGS)
        assert np.array_equal(shared.posterior(each[:labels]), expected)


def test_layout_in_memory_does_not_matter():
    image, probabilities, _ = scene()
    strided = np.asfortranarray(probabilities)
    assert np.array_equal(
        dense_crf(image, probabilities, SETTINGS),
        dense_crf(np.asfortranarray(image), strided, SETTINGS),
    )


def test_without_weight_the_unary_decides():
    image, probabilities, _ = scene()
    settings = CrfSettings(iterations=3, gaussian_compat=0, bilateral_compat=0)
    np.testing.assert_allclose(dense_crf(image, probabilities, settings), probabilities, atol=1e-5)


def test_mirroring_mirrors_the_decision():
    image, probabilities, _ = scene(24, 24)
    label = dense_crf(image, probabilities, SETTINGS).argmax(axis=0)
    mirrored = dense_crf(image[:, ::-1], probabilities[:, :, ::-1], SETTINGS).argmax(axis=0)
    assert (mirrored[:, ::-1] == label).mean() > 0.98


@pytest.mark.parametrize("labels", [1, 2, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 3)])
def test_any_size_and_number_of_labels(size, labels):
    image = np.zeros((*size, 3), np.uint8)  # a single color
    probabilities = np.full((labels, *size), 1 / labels, np.float32)
    posterior = dense_crf(image, probabilities, SETTINGS)
    np.testing.assert_allclose(posterior, probabilities, atol=1e-5)


def test_certain_probabilities_do_not_overflow():
    image, probabilities, _ = scene()
    certain = (probabilities > 0.5).astype(np.float32)
    assert np.isfinite(dense_crf(image, certain, SETTINGS)).all()


def test_label_probabilities_equal_pydensecrfs_own_unary():
    label = np.random.default_rng(0).integers(0, 4, (6, 5))
    expected = unary_from_labels(label, 4, gt_prob=0.7, zero_unsure=False)
    got = -np.log(label_probabilities(label, 4, 0.7)).reshape(4, -1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_label_probabilities_by_hand():
    values = label_probabilities(np.array([[0, 2]]), 3, 0.7)
    np.testing.assert_allclose(values[:, 0, 0], [0.7, 0.15, 0.15], rtol=1e-6)
    np.testing.assert_allclose(values[:, 0, 1], [0.15, 0.15, 0.7], rtol=1e-6)
    assert label_probabilities(np.zeros((2, 2), int), 1, 0.7).tolist() == [[[1, 1], [1, 1]]]


@pytest.mark.parametrize("name", NAMES)
def test_refinement_of_a_real_image_is_deterministic(name):
    image = photograph(name)
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    disc = ((rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2 < 0.05).astype(int)
    unary = label_probabilities(disc, 2, 0.7)
    one, two = (dense_crf(image, unary, SETTINGS) for _ in range(2))
    assert np.array_equal(one, two)
    edges = np.abs(np.diff(image.astype(int).sum(axis=2), axis=1))
    refined = np.diff(one.argmax(axis=0), axis=1) != 0
    drawn = np.diff(disc, axis=1) != 0
    # Borders of the refined label lie on stronger edges of the image than the disc's.
    assert edges[refined].mean() > 1.5 * edges[drawn].mean()
