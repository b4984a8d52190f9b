"""Views of an image: sizes, mirror images, and settings."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.io.images import FILTER
from pipeline.models.views import Views


@pytest.fixture
def model():
    """Return the parts of a network that views use; images are only divided by 255."""
    parameters = torch.nn.Linear(1, 1).parameters
    return SimpleNamespace(
        parameters=parameters, interpolation=FILTER, mean=(0, 0, 0), std=(1, 1, 1)
    )


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_settings_fill_in_the_views_that_they_name():
    section = {"scales": [0.5, 2.0], "flip": True, "max_size": 64, "stride": 4}
    assert Views.from_settings(section) == Views((0.5, 2.0), flip=True, max_size=64)
    assert Views.from_settings({"max_size": 64}) == Views((1.0,), flip=False, max_size=64)


@pytest.mark.parametrize(
    ("views", "count"), [(Views(), 1), (Views(flip=True), 2), (Views((1.0, 2.0, 3.0), True), 6)]
)
def test_views_are_counted(views, count, model):
    outputs = views.outputs(model, picture(4, 4), lambda batch: batch)
    assert views.count == count == sum(len(part) for part in outputs)


@pytest.mark.parametrize(
    ("max_size", "expected"),
    # The long side of 200 is limited first and scaled then; the short one is rounded.
    [(None, (50, 100)), (200, (50, 100)), (60, (15, 30)), (30, (8, 15))],
)
def test_the_largest_size_holds_before_scaling(max_size, expected, model):
    views = Views(max_size=max_size)
    assert views.input_size((100, 200), 0.5) == expected
    assert views.batch(model, picture(100, 200), 0.5).shape == (1, 3, *expected)


def test_the_second_view_is_the_mirror_image(model):
    image = picture(3, 5)
    batch = Views(flip=True).batch(model, image)
    expected = torch.from_numpy(np.stack([image, image[:, ::-1]])).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(batch, expected)
    assert torch.equal(Views().batch(model, image), batch[:1])


def test_outputs_of_the_mirror_image_are_mirrored_back(model):
    image = picture(3, 5)
    ramp = torch.arange(5.0)  # of the network's own: it does not turn with the image

    (found,) = Views(flip=True).outputs(model, image, lambda batch: batch + ramp)

    plain = torch.from_numpy(image).permute(2, 0, 1) / 255
    torch.testing.assert_close(found, torch.stack([plain + ramp, plain + ramp.flip(0)]))


def test_scales_come_in_order(model):
    views = Views((1.0, 0.5, 2.0))
    sizes = [tuple(part.shape[2:]) for part in views.outputs(model, picture(8, 6), lambda b: b)]
    assert sizes == [(8, 6), (4, 3), (16, 12)]
