"""Votes in regions by hand, against loops over masks, and their properties."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from pipeline.io.regions import joined, regions_of_masks, regions_of_partition
from pipeline.refinement.region_votes import RegionSettings, pixels_of, vote
from pipeline.refinement.superpixels import superpixels

MAJORITY, MEAN = RegionSettings(rule="majority"), RegionSettings(rule="mean")
OVERLAP = RegionSettings(rule="overlap")
RULES = (MAJORITY, MEAN, OVERLAP, replace(OVERLAP, unclaimed="background"))


def runs_of(mask):
    """Return the runs of an (H, W) mask, one for each pixel."""
    starts = np.flatnonzero(mask.ravel(order="F"))
    return starts, np.ones(len(starts), np.int64)


def regions_of(masks, size):
    return regions_of_masks(size, [runs_of(np.asarray(mask, bool)) for mask in masks])


def certain(winners, labels):
    """Return the labels of an image, and a probability of 1 for each."""
    winners = np.asarray(winners)
    return winners, (winners[None] == np.arange(labels)[:, None, None]).astype(np.float32)


@st.composite
def votes(draw):
    """Draw probabilities in eighths, and masks that overlap and leave pixels out."""
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    labels, masks = draw(st.integers(1, 4)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = rng.multinomial(8, np.ones(labels) / labels, size=(height, width))
    probabilities = (counts / 8).transpose(2, 0, 1).astype(np.float32)
    found = [rng.random((height, width)) < rng.random() for _ in range(masks)]
    return probabilities.argmax(axis=0), probabilities, found


def by_loop_over_masks(winners, probabilities, masks, settings):
    """Compute the rules one mask and one pixel at a time."""
    masks = [mask for mask in masks if mask.any()]
    labels = range(len(probabilities))
    if settings.rule == "overlap":
        return assigned_by_loop(winners, labels, masks, settings)
    values = probabilities.astype(np.float64)
    if settings.rule == "majority":
        values = np.stack([winners == label for label in labels]).astype(np.float64)
    means = [values[:, mask].mean(axis=1) for mask in masks]
    label = winners.copy()
    for place in np.ndindex(winners.shape):
        own = [mean for mask, mean in zip(masks, means, strict=True) if mask[place]]
        if own:
            scores = np.mean(own, axis=0)
            label[place] = np.flatnonzero(scores > scores.max() - 1e-6)[0]
    return label


def assigned_by_loop(winners, labels, masks, settings):
    label, covered = winners.copy(), np.zeros(winners.shape, bool)
    smallest = np.full(winners.shape, np.inf)
    for mask in masks:
        covered |= mask
    for mask in masks:
        overlaps = [(mask & (winners == one)).sum() for one in labels[1:]]
        most = max(overlaps, default=0)
        if not most:
            continue
        best = 1 + overlaps.index(most)
        share, coverage = most / mask.sum(), most / (winners == best).sum()
        if share > settings.min_share or coverage >= settings.min_coverage:
            here = mask & (mask.sum() < smallest)
            label[here], smallest[here] = best, mask.sum()
    if settings.unclaimed == "background":
        label[covered & np.isinf(smallest)] = 0
    return label


@given(votes(), st.sampled_from(RULES))
def test_a_vote_is_what_a_loop_over_masks_finds(drawn, settings):
    winners, probabilities, masks = drawn
    before = winners.copy(), probabilities.copy()
    label, voted = vote(winners, probabilities, regions_of(masks, winners.shape), settings)
    expected = winners
    if len(probabilities) > 1:
        expected = by_loop_over_masks(winners, probabilities, masks, settings)
    assert np.array_equal(label, expected)
    assert np.abs(voted.sum(axis=0) - 1).max() < 1e-6
    chosen = np.take_along_axis(voted, label[None], axis=0)[0]
    assert np.array_equal(chosen, voted.max(axis=0))
    assert np.array_equal(winners, before[0]) and np.array_equal(probabilities, before[1])


@given(votes(), st.sampled_from(RULES))
def test_a_mirrored_image_has_mirrored_labels(drawn, settings):
    winners, probabilities, masks = drawn
    for flip in (np.flipud, np.fliplr):
        mirrored = np.stack([flip(one) for one in probabilities])
        one = vote(winners, probabilities, regions_of(masks, winners.shape), settings)
        regions = regions_of([flip(mask) for mask in masks], winners.shape)
        other = vote(flip(winners), mirrored, regions, settings)
        assert np.array_equal(flip(one[0]), other[0])
        assert np.array_equal(np.stack([flip(part) for part in one[1]]), other[1])


@given(votes())
def test_regions_of_one_pixel_change_no_label(drawn):
    winners, probabilities, _ = drawn
    regions = regions_of_partition(np.arange(winners.size).reshape(winners.shape))
    for settings in (MAJORITY, MEAN, OVERLAP):
        assert np.array_equal(vote(winners, probabilities, regions, settings)[0], winners)


@pytest.mark.parametrize("settings", [MAJORITY, MEAN])
def test_a_superpixel_of_a_photograph_has_one_label(settings):
    image = data.chelsea()[:120, :160]
    partition = regions_of_partition(np.arange(120)[:, None] // 7 * 40 + np.arange(160) // 9)
    blurred = image[..., 0].astype(np.float32) / 255
    probabilities = np.stack([1 - blurred, blurred])
    label, _ = vote(probabilities.argmax(axis=0), probabilities, partition, settings)
    for number in range(len(partition)):
        own = label.ravel(order="F")[pixels_of(partition, np.array([number]))]
        assert len(set(own.tolist())) == 1
    assert 0 < label.mean() < 1


def test_the_majority_and_the_mean_by_hand():
    # Three pixels of one region: two for the background by a little, one for the class by far.
    winners = np.array([[0, 0, 1]])
    probabilities = np.array([[[0.6, 0.6, 0.1]], [[0.4, 0.4, 0.9]]], np.float32)
    regions = regions_of([[[1, 1, 1]]], (1, 3))
    label, voted = vote(winners, probabilities, regions, MAJORITY)
    assert label.tolist() == [[0, 0, 0]] and voted[0, 0] == pytest.approx(2 / 3)
    label, voted = vote(winners, probabilities, regions, MEAN)
    assert label.tolist() == [[1, 1, 1]] and voted[1, 0] == pytest.approx(1.7 / 3)


def test_ties_go_to_the_background_and_then_to_the_lower_class():
    regions = regions_of_partition(np.zeros((1, 4), int))
    assert vote(*certain([[1, 1, 0, 0]], 3), regions, MAJORITY)[0].tolist() == [[0] * 4]
    assert vote(*certain([[2, 2, 1, 1]], 3), regions, MAJORITY)[0].tolist() == [[1] * 4]


def test_scales_are_averaged():
    # Columns 0 and 1 by themselves are half and whole class 1; all four are 3 / 8.
    winners = [[0, 1, 0, 0], [1, 1, 0, 0]]
    fine = regions_of_partition(np.array([[0, 1, 2, 2]] * 2))
    whole = regions_of_partition(np.zeros((2, 4), int))
    label, voted = vote(*certain(winners, 2), joined([fine, whole]), MAJORITY)
    assert voted[1, 0].tolist() == [0.4375, 0.6875, 0.1875, 0.1875]
    assert label.tolist() == [[0, 1, 0, 0]] * 2


def test_the_paper_assigns_by_either_threshold():
    winners, probabilities = certain([[1, 1, 1, 0, 0, 0, 0]], 2)
    half = regions_of([[[0, 1, 1, 1, 1, 0, 0]]], (1, 7))  # exactly half of it is class 1
    assert vote(winners, probabilities, half, OVERLAP)[0].tolist() == winners.tolist()
    more = regions_of([[[0, 1, 1, 1, 0, 0, 0]]], (1, 7))
    assert vote(winners, probabilities, more, OVERLAP)[0].tolist() == [[1, 1, 1, 1, 0, 0, 0]]
    every = regions_of([[[1] * 7]], (1, 7))  # all of class 1 is in it
    assert vote(winners, probabilities, every, OVERLAP)[0].tolist() == [[1] * 7]
    strict = replace(OVERLAP, min_share=0.7, min_coverage=1.0)
    assert vote(winners, probabilities, more, strict)[0].tolist() == winners.tolist()


def test_unclaimed_pixels_keep_their_label_or_become_background():
    winners, probabilities = certain([[1, 1, 1, 1, 0, 0, 0]], 2)
    regions = regions_of([[[0, 0, 0, 1, 1, 1, 0]]], (1, 7))
    keep = vote(winners, probabilities, regions, OVERLAP)[0]
    assert keep.tolist() == winners.tolist()
    published = replace(OVERLAP, unclaimed="background")
    label = vote(winners, probabilities, regions, published)[0]
    assert label.tolist() == [[1, 1, 1, 0, 0, 0, 0]]


def test_of_nested_masks_the_inner_one_decides():
    winners, probabilities = certain([[2, 2, 2, 1, 1, 2, 2]], 3)
    nested = [[[1, 1, 1, 1, 1, 1, 1]], [[0, 0, 0, 1, 1, 0, 0]]]
    for masks in (nested, nested[::-1]):
        label, _ = vote(winners, probabilities, regions_of(masks, (1, 7)), OVERLAP)
        assert label.tolist() == winners.tolist()
    twice = regions_of([[[0, 0, 1, 1, 1, 0, 0]], [[0, 1, 1, 1, 0, 0, 0]]], (1, 7))
    label, _ = vote(winners, probabilities, twice, OVERLAP)  # of equal masks, the first
    assert label.tolist() == [[2, 2, 1, 1, 1, 2, 2]]


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "felzenszwalb", "scales": [50.0, 200.0], "sigma": 0.8, "min_size": 20},
        {"kind": "slic", "segments": [30, 60], "compactness": 10.0},
    ],
)
def test_superpixels_cover_a_photograph_at_each_scale(settings):
    image = data.coffee()[:80, :100]
    regions = superpixels(image, settings)
    pixels = pixels_of(regions, np.arange(len(regions)))
    assert (np.bincount(pixels, minlength=8000) == 2).all()
    assert len(regions) > 10
    again = superpixels(image.copy(), settings)
    assert all(np.array_equal(getattr(regions, n), getattr(again, n)) for n in vars(regions))
    tiny = superpixels(image[:1, :1], settings)
    assert tiny.size == (1, 1) and tiny.areas.tolist() == [1, 1]
