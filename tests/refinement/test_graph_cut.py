import itertools

import maxflow
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.io.arrays import ClassMaps
from pipeline.refinement.graph_cut import (
    ColorModel,
    Cut,
    GraphCutSettings,
    combine_cuts,
    cut_class,
    fit_color_model,
    largest_component,
    minimum_cut,
    refitted_cut,
    tag_pixels,
)
from pipeline.refinement.labels import label_by_graph_cut
from tests.helpers.photographs import NAMES, photograph

NEIGHBORS = ((0, 1), (1, 0), (1, 1), (1, -1))


def single(color, variance=100.0):
    return ColorModel(np.ones(1), np.array([color], float), variance * np.eye(3)[None])


def edges(image):
    """List the neighbors of an image with their weights (Rother et al. 2004), in float64."""
    pixels = image.astype(np.float64)
    height, width = image.shape[:2]
    found = []
    for (dy, dx), y, x in itertools.product(NEIGHBORS, range(height), range(width)):
        if y + dy < height and 0 <= x + dx < width:
            difference = ((pixels[y, x] - pixels[y + dy, x + dx]) ** 2).sum()
            found.append(((y, x), (y + dy, x + dx), difference, np.hypot(dy, dx)))
    mean = np.mean([difference for *_, difference, _ in found])
    beta = 1 / (2 * mean) if mean else 0
    return [(a, b, 50 * np.exp(-beta * d) / length) for a, b, d, length in found]


def costs(image, background, foreground):
    """Return -log p of every pixel under either model, in float64."""
    terms = []
    for model in (background, foreground):
        density = np.zeros(image.shape[:2])
        for weight, mean, covariance in zip(
            model.weights, model.means, model.covariances, strict=True
        ):
            offset = image.astype(np.float64) - mean
            distance = np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(covariance), offset)
            norm = np.sqrt((2 * np.pi) ** 3 * np.linalg.det(covariance))
            density += weight * np.exp(-distance / 2) / norm
        terms.append(-np.log(density))
    return terms


def energy(mask, image, background, foreground):
    outside, inside = costs(image, background, foreground)
    unary = np.where(mask, inside, outside).sum()
    return unary + sum(weight for a, b, weight in edges(image) if mask[a] != mask[b])


def striped(difference):
    """Return 3 x 3 gray pixels: two dark columns and a brighter one."""
    row = np.array([20, 20, 20 + difference], np.uint8)
    return np.broadcast_to(row[None, :, None], (3, 3, 3)).copy()


def test_a_cut_of_nine_pixels_by_hand():
    # 7 of the 20 pairs of neighbors differ, by D = 3 d^2, so beta = 20 / (2 * 7 D) and such a
    # pair weighs 50 exp(-10 / 7) = 11.9826 (diagonal: 8.4729); to divide the columns costs
    # 3 * 11.9826 + 4 * 8.4729 = 69.839. To call the bright column background costs 3 D / (2 v)
    # = 9 d^2 / 200 for a variance v of 100: 68.445 for d = 39, and 72 for d = 40.
    for difference, expected in ((39, [0, 0, 0]), (40, [0, 0, 1])):
        image = striped(difference)
        models = single([20] * 3), single([20 + difference] * 3)
        cut = minimum_cut(image, *models)
        assert cut.foreground.tolist() == [expected] * 3
        divided = 69.839 if expected[2] else 68.445
        by_hand = 9 * 1.5 * np.log(2 * np.pi * 100) + divided
        assert energy(cut.foreground, image, *models) == pytest.approx(by_hand, abs=1e-2)
    # The posterior knows no neighbors: 1 / (1 + exp(+-D / (2 v))) with D / (2 v) = 24.
    assert cut.posterior[0].tolist() == pytest.approx([np.exp(-24.0), np.exp(-24.0), 1], rel=1e-3)


def peer_cut(image, background, foreground):
    """Solve the same problem by PyMaxflow."""
    graph = maxflow.Graph[float]()
    nodes = graph.add_grid_nodes(image.shape[:2])
    for a, b, weight in edges(image):
        graph.add_edge(nodes[a], nodes[b], weight, weight)
    outside, inside = costs(image, background, foreground)
    graph.add_grid_tedges(nodes, outside, inside)  # what a pixel costs on the other side
    return graph.maxflow(), ~graph.get_grid_segments(nodes)


@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 7), st.integers(2, 7), st.just(3)),
        elements=st.integers(60, 160),
    ),
    st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_no_partition_has_less_energy_than_the_cut(image, seed):
    draw = np.random.default_rng(seed)
    weights = draw.dirichlet(np.ones(3), 2)
    means = draw.uniform(60, 160, (2, 3, 3))
    factors = draw.normal(0, 8, (2, 3, 3, 3))
    covariances = factors @ factors.swapaxes(2, 3) + 60 * np.eye(3)
    models = [ColorModel(*parts) for parts in zip(weights, means, covariances, strict=True)]
    cut = minimum_cut(image, *models)
    least, peer = peer_cut(image, *models)
    assert energy(peer, image, *models) == pytest.approx(least, rel=1e-6)
    assert energy(cut.foreground, image, *models) == pytest.approx(least, rel=1e-5, abs=1e-3)


#: Parts of the photographs at 60 x 80 pixels: a suit, a face, a cup, a fire.
PARTS = {
    "astronaut": np.s_[25:, :], "chelsea": np.s_[15:45, 20:60], "coffee": np.s_[15:45, 20:60],
    "rocket": np.s_[40:, 20:60],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_cut_of_real_images_has_minimal_energy(name):
    image = photograph(name, 60, 80)
    inside = np.zeros((60, 80), bool)
    inside[PARTS[name]] = True
    models = [fit_color_model(image[chosen], 5) for chosen in (~inside, inside)]
    cut = minimum_cut(image, *models)
    least, _ = peer_cut(image, *models)
    assert energy(cut.foreground, image, *models) == pytest.approx(least, rel=1e-5)
    assert 0.02 < cut.foreground.mean() < 0.98


def test_log_likelihoods_are_those_of_the_definition():
    draw = np.random.default_rng(0)
    model = fit_color_model(draw.integers(0, 256, (500, 3), dtype=np.uint8), 5)
    image = draw.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    expected, _ = costs(image, model, model)
    np.testing.assert_allclose(-model.log_likelihood(image), expected, rtol=1e-4)
    assert len(model.weights) == 5 and model.weights.sum() == pytest.approx(1)


def test_opencvs_layout_is_read_as_it_was_written_with_the_floor_added():
    colors = np.random.default_rng(0).integers(0, 256, (30, 3), dtype=np.uint8)
    model = fit_color_model(colors, 5)
    assert len(model.weights) == 3 and model.to_opencv().shape == (1, 65)
    again = ColorModel.from_opencv(model.to_opencv())
    np.testing.assert_array_equal(again.weights, model.weights)
    np.testing.assert_array_equal(again.means, model.means)
    np.testing.assert_allclose(again.covariances, model.covariances + 10 * np.eye(3))


def two_colors():
    """Return a blue disc on orange, a map that is strong at 4 of its pixels, and the disc."""
    y, x = np.mgrid[:40, :50]
    disc = (y - 18) ** 2 + (x - 30) ** 2 < 12**2
    image = np.where(disc[..., None], [30, 60, 200], [230, 140, 40]).astype(np.uint8)
    strength = np.exp(-((y - 18) ** 2 + (x - 30) ** 2) / 40).astype(np.float32)
    return image, strength, disc


@pytest.mark.parametrize("mode", ["frozen", "iterative"])
def test_two_colors_are_parted_perfectly_from_few_seeds(mode):
    image, strength, disc = two_colors()
    seeds = GraphCutSettings(foreground_quantile=0.998, background_quantile=0.002, mode=mode)
    tags = tag_pixels(strength, seeds)
    assert 0 < (tags == 1).sum() <= 5 and 0 < (tags == 0).sum() <= 5
    assert (cut_class(image, strength, seeds).foreground == disc).all()


def test_tags_are_quantiles_and_other_pixels_are_uncertain():
    strength = np.arange(100, dtype=np.float32).reshape(10, 10)
    tags = tag_pixels(strength, GraphCutSettings())
    assert (tags == 1).sum() == 5 and (tags == 0).sum() == 30
    assert tags[9, 5:].tolist() == [1] * 5 and tags[:3].max() == 0
    assert set(tags[3:9].ravel().tolist()) == {255}


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
def test_a_map_of_one_value_has_no_foreground(value):
    image, strength, _ = two_colors()
    cut = cut_class(image, np.full_like(strength, value), GraphCutSettings())
    assert not cut.foreground.any() and not cut.posterior.any()


@pytest.mark.parametrize("mode", ["frozen", "iterative"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 9), (3, 2), (12, 10)])
def test_an_image_of_one_color_or_few_pixels_is_all_background(shape, mode):
    image = np.full((*shape, 3), 90, np.uint8)
    strength = np.linspace(0, 1, image.shape[0] * image.shape[1], dtype=np.float32).reshape(shape)
    cut = cut_class(image, strength, GraphCutSettings(mode=mode))
    assert cut.foreground.shape == shape
    assert not cut.foreground.any()


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))),
    st.sampled_from(["frozen", "iterative"]),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_masks_have_the_images_size_and_repeat(image, mode, seed):
    # Black beside white and no third color: densities that underflow in OpenCV.
    strength = np.random.default_rng(seed).random(image.shape[:2], np.float32)
    before = image.copy(), strength.copy()
    first, second = (cut_class(image, strength, GraphCutSettings(mode=mode)) for _ in range(2))
    assert first.foreground.shape == image.shape[:2]
    assert (first.foreground == second.foreground).all()
    assert np.isfinite(first.posterior).all()
    assert (first.posterior >= 0).all() and (first.posterior <= 1).all()
    assert (image == before[0]).all() and (strength == before[1]).all()


def test_colors_far_from_both_models_go_to_the_nearer_one():
    # Both densities of the white pixels are below 1e-308: OpenCV alone cannot tell them apart.
    image = np.zeros((6, 6, 3), np.uint8)
    image[:, 3:] = 255
    cut = minimum_cut(image, single([0, 0, 0], 10), single([60, 60, 60], 10))
    assert (cut.foreground == (image[..., 0] == 255)).all()


def test_refitting_starts_from_the_cut_and_follows_the_colors():
    image, _, disc = two_colors()
    image += np.random.default_rng(0).integers(0, 12, image.shape, dtype=np.uint8)
    start = np.zeros_like(disc)
    start[12:24, 24:36] = True  # the inner part of the disc
    given = Cut(start, start.astype(np.float32))
    models = single([230, 140, 40], 4000), single([30, 60, 200], 4000)
    cut = refitted_cut(image, given, *models, iterations=3)
    assert (cut.foreground == disc).all()
    assert cut.posterior[disc].min() > 0.99 and cut.posterior[~disc].max() < 0.01
    assert (models[0].means == [[230, 140, 40]]).all()


def test_a_collapsed_refit_returns_the_cut():
    image, _, disc = two_colors()
    given = Cut(disc, disc.astype(np.float32))
    models = single([230, 140, 40], 4000), single([30, 60, 200], 4000)
    cut = refitted_cut(np.full_like(image, 80), given, *models, iterations=3)
    assert (cut.foreground == disc).all()


def test_few_pixels_and_few_colors_have_fewer_components():
    colors = np.random.default_rng(0).integers(0, 256, (200, 3), dtype=np.uint8)
    assert [len(fit_color_model(colors[:n], 5).weights) for n in (1, 9, 25, 200)] == [1, 1, 2, 5]
    two = np.array([[0, 0, 0], [200, 0, 0]] * 50, np.uint8)
    assert len(fit_color_model(two, 5).weights) == 2
    assert fit_color_model(two[:1], 5).covariances.tolist() == (10 * np.eye(3))[None].tolist()


def test_the_largest_component_is_kept():
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]], bool)
    assert largest_component(mask).tolist() == [[0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]]
    assert not largest_component(np.zeros((2, 2), bool)).any()
    image, strength, disc = two_colors()
    image[2:5, 2:5] = image[18, 30]  # a second, small blue thing
    kept, every = (
        cut_class(image, strength, GraphCutSettings(keep=keep)).foreground
        for keep in ("largest", "all")
    )
    assert (kept == disc).all()
    assert every[3, 3] and (every & disc).sum() == disc.sum()


def test_overlaps_go_to_the_higher_posterior_times_strength():
    masks = np.array([[[1, 1, 0, 0]], [[1, 1, 1, 0]]], bool)
    posteriors = np.array([[[0.9, 0.9, 0.9, 0.3]], [[0.6, 0.6, 0.6, 0.2]]], np.float32)
    strengths = np.array([[[0.5, 0.2, 1.0, 1.0]], [[0.5, 0.8, 0.0, 1.0]]], np.float32)
    cuts = [Cut(mask, posterior) for mask, posterior in zip(masks, posteriors, strict=True)]
    winners, probabilities = combine_cuts(cuts, strengths)
    # .45 > .30; .18 < .48; the first class's cut lacks the third pixel; none has the last.
    assert winners.tolist() == [[1, 2, 2, 0]]
    np.testing.assert_allclose(probabilities, [[0.9, 0.6, 0.6, 0.7]])


def cut_label(maps, image, uncertain_below):
    background = {"rule": "threshold", "value": 0.3}
    labeling = label_by_graph_cut(maps, image, background=background, settings=GraphCutSettings())
    return labeling.label_image(uncertain_below)


def test_labels_have_class_numbers_and_uncertain_pixels():
    image, strength, disc = two_colors()
    values = np.stack([strength, strength[::-1, ::-1]]).astype(np.float16)
    maps = ClassMaps(np.array([3, 9]), values, image.shape[:2])
    first = ClassMaps(maps.classes[:1], values[:1], maps.size)
    label = cut_label(first, image, uncertain_below=None)
    assert label.dtype == np.uint8 and (label == np.where(disc, 3, 0)).all()
    both = cut_label(maps, image, uncertain_below=None)
    assert both[18, 30] == 3 and set(np.unique(both).tolist()) <= {0, 3, 9}
    uncertain = cut_label(first, image, uncertain_below=1.0)
    assert set(np.unique(uncertain).tolist()) <= {0, 3, 255}


def test_an_image_without_labels_is_all_background():
    maps = ClassMaps(np.zeros(0, np.int64), np.zeros((0, 2, 2), np.float16), (5, 7))
    image = np.zeros((5, 7, 3), np.uint8)
    label = cut_label(maps, image, uncertain_below=0.9)
    assert label.shape == (5, 7) and not label.any()
