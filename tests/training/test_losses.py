import logging
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.datasets.manifest import read_manifest
from pipeline.io.images import normalize, read_rgb, resize
from pipeline.models.classifier import create_classifier
from pipeline.runtime.device import make_fabric
from pipeline.training.losses import (
    classification_step,
    label_validation,
    mean_average_precision,
)
from tests.helpers.training import NETWORK

ONE = torch.ones(1)
PUZZLE = {"pieces": 4, "alpha": 4.0, "ramp": 0.5, "reconstruction": "masked_mean", "norm": "l1"}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_classifier(NETWORK, 2).eval()


def test_plain_loss_is_multi_label_soft_margin_by_hand():
    class Fixed(nn.Module):
        def forward(self, images):
            return type("Scores", (), {"logits": torch.tensor([[0.0, 2.0]])})()

    losses = classification_step(None)(
        Fixed(), (torch.zeros(1), torch.tensor([[1.0, 0.0]])), 0.0, ONE
    )
    expected = (math.log(2) + math.log(1 + math.exp(2.0))) / 2
    assert losses["loss"].item() == pytest.approx(expected)


def test_puzzle_losses_from_their_definition(model):
    images, targets = torch.randn(2, 3, 64, 64), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    losses = classification_step(PUZZLE)(model, (images, targets), 0.25, ONE)
    # The independent way: cut with slices, forward each tile alone, put together by hand.
    full = model(images).maps
    rows = []
    for top in (0, 32):
        parts = [model(images[:, :, top : top + 32, left : left + 32]).maps for left in (0, 32)]
        rows.append(torch.cat(parts, dim=3))
    merged = torch.cat(rows, dim=2)
    assert merged.shape == full.shape
    distance = (full - merged).abs() * targets[:, :, None, None]
    p_cls = F.multilabel_soft_margin_loss(merged.mean(dim=(2, 3)), targets)
    cls = F.multilabel_soft_margin_loss(full.mean(dim=(2, 3)), targets)
    tolerance = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(losses["loss_re"], distance.mean(), **tolerance)
    torch.testing.assert_close(losses["loss_p_cls"], p_cls, **tolerance)
    torch.testing.assert_close(losses["loss_cls"], cls, **tolerance)
    assert losses["alpha"].item() == 2.0
    torch.testing.assert_close(losses["loss"], cls + p_cls + 2 * distance.mean(), **tolerance)


def test_mean_average_precision_by_hand():
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], np.float32)
    scores = np.array([[3, 9, 1], [2, 1, 1], [1, 2, 1]], np.float32)
    # Class 0 ranks its images first and third: (1 + 2/3) / 2; class 1 ranks its own third.
    assert mean_average_precision(targets, scores) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 3) / 2)
    assert math.isnan(mean_average_precision(np.zeros((2, 2), np.float32), scores[:2, :2]))


def test_validation_scores_all_images_by_their_labels(model, small_dataset, caplog, monkeypatch):
    monkeypatch.setattr("pipeline.training.losses.VALIDATION_BATCH", 4)
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    records = data.records  # a batch of four, and one of two
    with caplog.at_level(logging.INFO):
        validate = label_validation(data, records, 32, make_fabric("32-true", 1, gpus=0))
        found = validate(model)["val_map"]
    images = [resize(read_rgb(record.image), (32, 32)) for record in records]
    batch = np.stack([normalize(image, model.mean, model.std) for image in images])
    with torch.no_grad():
        scores = model(torch.from_numpy(batch)).logits.numpy()
    expected = mean_average_precision(data.targets(records), scores)
    assert found == pytest.approx(expected)
    assert caplog.messages[-1].startswith("validation: 2 of 2 batches of 4")
