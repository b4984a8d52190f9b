import numpy as np
import pytest
import torch
from torch import nn

from pipeline.io.images import FILTER, normalize, resize
from pipeline.models import inference
from pipeline.models.inference import class_probabilities, labeled_probabilities, winning_classes
from pipeline.models.views import Views
from pipeline.refinement.dense_crf import CrfSettings, dense_crf
from tests.helpers.photographs import photograph

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)


class Shading(nn.Module):
    """Three classes by the color of the pixel and its column, so that a flip matters."""

    mean, std, interpolation = MEAN, STD, FILTER

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, images):
        columns = torch.linspace(0, 1, images.shape[3])
        return torch.einsum("kc,nchw->nkhw", self.weight, images) * (1 + columns)


@pytest.fixture
def image():
    return photograph("coffee", 6, 9)


def views_by_hand(image, scales):
    """Logits of every view at the image's size, mirrored back, in float64."""
    for scale in scales:
        height, width = round(6 * scale), round(9 * scale)
        plain = torch.from_numpy(normalize(resize(image, (height, width)), MEAN, STD)).double()
        columns = 1 + torch.linspace(0, 1, width).double()
        for logits in (plain * columns, plain * columns.flip(0)):
            yield nn.functional.interpolate(logits[None], (6, 9), mode="bilinear")[0]


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 2.0)])
def test_summed_logits_are_those_of_all_views(image, scales):
    expected = sum(views_by_hand(image, scales)).softmax(dim=0)
    found = class_probabilities(Shading(), image, Views(scales, flip=True), fuse="logits")
    assert np.abs(found - expected.numpy()).max() < 1e-5


def test_probabilities_are_averaged_over_views(image):
    expected = sum(view.softmax(dim=0) for view in views_by_hand(image, [1.0])) / 2
    found = class_probabilities(Shading(), image, Views(flip=True))
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("fuse", ["probabilities", "logits"])
def test_probabilities_sum_to_one_and_are_mirrored_with_the_image(image, fuse):
    views = Views((0.5, 1.0), flip=True)
    found = class_probabilities(Shading(), image, views, fuse=fuse)
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)
    mirrored = class_probabilities(Shading(), image[:, ::-1].copy(), views, fuse=fuse)
    assert np.abs(mirrored[:, :, ::-1] - found).max() < 1e-5


def test_maps_exclude_absent_classes(image):
    both = torch.stack([view.softmax(dim=0) for view in views_by_hand(image, [1.0])])
    background, _, wanted = both.mean(dim=0)
    views = Views(flip=True)
    maps, agreement = labeled_probabilities(Shading(), image, np.array([2]), views, stride=1)
    assert (maps.shape, maps.dtype) == ((1, 6, 9), np.float16)
    assert np.abs(maps[0] - (wanted / (background + wanted)).numpy()).max() < 1e-3
    scaled = both[:, 2] / both[:, 2].amax(dim=(1, 2), keepdim=True)
    shared = torch.minimum(scaled, scaled.mean(dim=0)).sum(dim=(1, 2))
    either = torch.maximum(scaled, scaled.mean(dim=0)).sum(dim=(1, 2))
    assert agreement == pytest.approx([(shared / either).mean().item()], abs=1e-4)


def test_network_maps_are_mirrored_with_the_image_and_sum_below_one(image):
    views, classes = Views((0.5, 1.0), flip=True), np.array([1, 2])
    maps, agreement = labeled_probabilities(Shading(), image, classes, views, stride=2)
    assert maps.shape == (2, 3, 5) and agreement.shape == (2,)
    assert maps.min() >= 0 and maps.sum(axis=0).max() < 1
    turned = image[:, ::-1].copy()
    mirrored, _ = labeled_probabilities(Shading(), turned, classes, views, stride=2)
    assert np.abs(mirrored[:, :, ::-1] - maps).max() < 2e-3
    none, empty = labeled_probabilities(Shading(), image, classes[:0], views, stride=2)
    assert none.shape == (0, 3, 5) and empty.shape == (0,)


def test_maps_of_impossible_classes_are_zero(image):
    class Certain(Shading):
        def forward(self, images):
            logits = super().forward(images) * 0
            logits[:, 1] = 1000
            return logits

    maps, agreement = labeled_probabilities(Certain(), image, np.array([2]), Views(), stride=1)
    assert not maps.any() and agreement.tolist() == [0]


@pytest.fixture
def prediction():
    """Return an image and probabilities of four classes; the second class never wins."""
    rng = np.random.default_rng(0)
    scores = rng.random((4, 12, 10), dtype=np.float32) + 0.5
    scores[1] = 0.4 * scores[0]
    scores[3, :, 5:] += 1
    image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    return image, scores / scores.sum(axis=0)


@pytest.mark.parametrize(("classes", "count"), [("all", 4), ("winning", 3)])
def test_the_crf_decides_between_the_selected_classes(prediction, classes, count, monkeypatch):
    image, probabilities = prediction
    given = []

    def noted(image, scores, settings):
        given.append(scores)
        return dense_crf(image, scores, settings)

    monkeypatch.setattr(inference, "dense_crf", noted)
    crf = CrfSettings(iterations=2)
    winners, refined = winning_classes(image, probabilities, crf, classes)
    (unaries,) = given
    expected = probabilities if classes == "all" else probabilities[[0, 2, 3]]
    assert len(unaries) == count and np.array_equal(unaries, expected)
    posterior = dense_crf(image, expected, crf)
    numbers = np.arange(4) if classes == "all" else np.array([0, 2, 3])
    # What the CRF decides is kept, and of all classes those alone that win a pixel behind it.
    assert np.array_equal(winners[refined.argmax(axis=0)], numbers[posterior.argmax(axis=0)])
    assert np.allclose(refined.sum(axis=0), 1, atol=1e-5)
    assert 1 not in winners


def test_without_a_crf_the_probabilities_of_the_winners_are_kept(prediction):
    image, probabilities = prediction
    for classes in ("all", "winning"):
        winners, kept = winning_classes(image, probabilities, None, classes)
        assert winners.tolist() == [0, 2, 3]
        rest = probabilities[[0, 2, 3]]
        assert np.allclose(kept, rest / rest.sum(axis=0), atol=1e-6)
