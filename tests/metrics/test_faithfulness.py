import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.metrics.faithfulness import (
    curve_area,
    deletion_images,
    drops,
    explanation_images,
    increase_share,
    insertion_images,
    win_shares,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
SHARES = hnp.arrays(np.float64, 9, elements=st.floats(0, 1))


def test_drop_and_increase_by_hand():
    whole, explained = np.array([0.8, 0.5, 0.4, 1.0]), np.array([0.4, 0.5, 0.6, 0.0])
    assert drops(whole, explained).tolist() == [0.5, 0.0, 0.0, 1.0]
    assert increase_share(whole, explained) == 0.25


def test_no_confidence_can_be_lost_where_there_is_none():
    assert drops(np.array([0.0]), np.array([0.0])).tolist() == [0.0]


@given(SHARES, SHARES)
def test_drops_are_shares_and_zero_where_it_increases(whole, explained):
    lost = drops(whole, explained)
    assert ((lost >= 0) & (lost <= 1)).all()
    assert not lost[explained >= whole].any()


def test_wins_by_hand():
    lost = np.array([[0.1, 0.5, 0.0, 0.2], [0.2, 0.1, 0.0, 0.2], [0.3, 0.9, 0.5, 0.1]])
    assert win_shares(lost).tolist() == [1.5 / 4, 1.5 / 4, 1 / 4]


@given(hnp.arrays(np.int64, (3, 5), elements=st.integers(0, 4)))
def test_wins_sum_to_one_and_go_with_their_method(lost):
    shares = win_shares(lost)
    assert shares.sum() == pytest.approx(1)
    assert win_shares(lost[::-1])[::-1].tolist() == shares.tolist()


@pytest.mark.parametrize(("curve", "area"), [([1, 1, 1], 1), ([0, 1], 0.5), ([1, 0, 0], 0.25)])
def test_areas_by_hand(curve, area):
    assert curve_area(np.array(curve, float)) == area


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(3, 6, 8, generator=generator)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_an_explanation_is_the_image_times_the_map(image):
    maps = torch.stack([torch.ones(6, 8), torch.zeros(6, 8), torch.full((6, 8), 0.25)])
    shown = explanation_images(image.expand(3, 3, 6, 8), maps, MEAN, STD)
    pixels = shown * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    whole = image * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    torch.testing.assert_close(shown[0], image)
    torch.testing.assert_close(pixels[1], torch.zeros(3, 6, 8), atol=1e-6, rtol=0)
    torch.testing.assert_close(pixels[2], whole / 4)


def values_of(seed=1):
    return torch.randperm(48, generator=torch.Generator().manual_seed(seed)).float().view(6, 8)


def test_deletion_takes_the_highest_pixels_first(image):
    values = values_of()
    images = deletion_images(image, values, 4)
    assert torch.equal(images[0], image) and not images[4].any()
    for step in range(5):
        gone = values >= 48 - 12 * step
        assert not images[step][:, gone].any()
        assert torch.equal(images[step][:, ~gone], image[:, ~gone])


def test_insertion_puts_the_highest_pixels_in_first(image):
    values = values_of()
    images = insertion_images(image, values, 3)
    assert torch.equal(images[3], image)
    for step in range(4):
        there = values >= 48 - 16 * step
        assert torch.equal(images[step][:, there], image[:, there])
        assert torch.equal(images[step][:, ~there], images[0][:, ~there])


def test_insertion_starts_with_a_blurred_copy():
    noise = torch.randn(3, 96, 64, generator=torch.Generator().manual_seed(0))
    first = insertion_images(noise, torch.rand(96, 64), 1)[0]
    # White noise under a Gaussian of deviation d keeps 1 / (2 d sqrt(pi)) of its own.
    deviation = 5 / 224 * 96
    kept = 1 / (2 * deviation * torch.pi**0.5)
    assert float(first[:, 8:-8, 8:-8].std()) == pytest.approx(kept, rel=0.15)
    shifted = insertion_images(noise + 3, torch.rand(96, 64), 1)[0]
    assert float(shifted.mean()) == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("size", [(30, 700), (512, 20), (1, 90), (1, 1)])
def test_elongated_images_are_blurred_too(size):
    flat = torch.full((3, *size), 2.0)
    first = insertion_images(flat, torch.rand(size), 1)[0]
    torch.testing.assert_close(first, flat)


def test_equal_pixels_go_in_reading_order(image):
    images = deletion_images(image, torch.zeros(6, 8), 6)
    for step in range(7):
        assert not images[step][:, :step].any()
        assert torch.equal(images[step][:, step:], image[:, step:])


def test_inputs_are_not_changed(image):
    before, values = image.clone(), values_of()
    deletion_images(image, values, 3)
    insertion_images(image, values, 3)
    explanation_images(image[None], values[None] / 48, MEAN, STD)
    assert torch.equal(image, before) and torch.equal(values, values_of())


def test_a_map_of_what_the_score_reads_is_the_most_faithful(image):
    """A score that adds up some pixels: the map of these loses least and deletes fastest."""
    weight = torch.zeros(6, 8)
    weight[2:4, 3:5] = 1.0

    def confidence(images):
        pixels = images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        return (pixels.mean(dim=1) * weight).sum(dim=(1, 2)).numpy() / 4

    right, wrong = weight, 1 - weight
    shown = explanation_images(image.expand(2, 3, 6, 8), torch.stack([right, wrong]), MEAN, STD)
    whole = confidence(image[None]).repeat(2)
    lost = drops(whole, confidence(shown))
    assert lost.tolist() == pytest.approx([0, 1], abs=1e-5)
    # Deletion runs to the mean color, not to zero: the area is compared, not its value.
    areas = [curve_area(confidence(insertion_images(image, m, 12))) for m in (right, wrong)]
    blurred = confidence(insertion_images(image, right, 1))[0]
    assert abs(areas[0] - whole[0]) < abs(areas[1] - whole[0]) or blurred == whole[0]
