import logging

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pipeline.datasets.manifest import read_manifest
from pipeline.models.backbone import create_backbone
from pipeline.models.classifier import load_classifier
from pipeline.models.probe import fit_linear
from tests.helpers.training import run_probe

SETTINGS = {
    "backbone": "test_resnet", "pretrained": False, "output_stride": 16, "solver": "logistic",
    "c": 1.0, "bias": True, "size": 48, "flip": True, "precision": "32-true",
}  # fmt: skip


def data(seed=0, count=60):
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 2, (count, 2)).astype(np.float32)
    features = draw.normal(5, 1, (count, 4))
    features[:, :2] += targets
    features[:, 2] *= 100
    return features.astype(np.float32), targets


def test_the_weights_minimize_the_logistic_loss_of_scaled_features(caplog):
    features, targets = data()
    with caplog.at_level(logging.INFO):
        weights, bias = fit_linear(features, targets, solver="logistic", c=0.5)
    assert caplog.messages[-1].startswith("classes fitted: 2 of 2 classes")
    mean, deviation = features.mean(0, dtype=float), features.std(0, dtype=float)
    scaled = (features - mean) / deviation
    for k in range(2):

        def loss(p, sign=2 * targets[:, k] - 1):
            margins = sign * (scaled @ p[:4] + p[4])
            return 0.5 * p[:4] @ p[:4] + 0.5 * np.logaddexp(0, -margins).sum()

        best = minimize(loss, np.zeros(5), tol=1e-10).x
        expected = best[:4] / deviation
        np.testing.assert_allclose(weights[k], expected, atol=2e-3 * abs(expected).max())
        np.testing.assert_allclose(bias[k], best[4] - expected @ mean, rtol=5e-3)


@pytest.mark.parametrize("solver", ["logistic", "svm"])
def test_without_a_constant_scores_are_products_with_the_features_alone(solver):
    draw = np.random.default_rng(1)
    targets = draw.integers(0, 2, (60, 2)).astype(np.float32)
    targets[:, 1] = 0
    features = (draw.normal(1, 1, (60, 4)) + 3 * targets[:, :1]).astype(np.float32)
    weights, bias = fit_linear(features, targets, solver=solver, c=0.5, constant=False)
    assert not bias.any() and not weights[1].any()
    if solver == "logistic":
        scaled = features / features.std(0, dtype=float)

        def loss(p):
            margins = (2 * targets[:, 0] - 1) * (scaled @ p)
            return 0.5 * p @ p + 0.5 * np.logaddexp(0, -margins).sum()

        expected = minimize(loss, np.zeros(4), tol=1e-10).x / features.std(0, dtype=float)
        np.testing.assert_allclose(weights[0], expected, atol=2e-3 * abs(expected).max())


@pytest.mark.parametrize("solver", ["logistic", "svm"])
def test_separable_classes_are_separated(solver):
    draw = np.random.default_rng(0)
    targets = draw.integers(0, 2, (80, 3)).astype(np.float32)
    features = (targets @ draw.normal(0, 1, (3, 6)) * 5 + draw.normal(0, 0.1, (80, 6))).astype(
        np.float32
    )
    weights, bias = fit_linear(features, targets, solver=solver, c=10.0)
    assert ((features @ weights.T + bias > 0) == targets).all()


@pytest.mark.parametrize(
    ("present", "logit"), [(0.0, np.log(0.5 / 60.5)), (1.0, np.log(60.5 / 0.5))]
)
def test_a_class_of_no_image_or_of_every_image_has_its_frequency(present, logit):
    features, targets = data()
    targets[:, 1] = present
    weights, bias = fit_linear(features, targets, solver="svm", c=1.0)
    assert not weights[1].any() and weights[0].any()
    assert bias[1] == pytest.approx(logit)


@pytest.mark.parametrize("solver", ["logistic", "svm"])
def test_the_stage_writes_a_classifier_of_frozen_features(small_dataset, tmp_path, solver):
    path = tmp_path / "model.safetensors"
    run_probe(small_dataset, path, SETTINGS | {"solver": solver})
    model = load_classifier(path)
    torch.manual_seed(3)
    frozen = create_backbone("test_resnet", output_stride=16)
    for name, tensor in frozen.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name
    classes = read_manifest(small_dataset["manifest"], small_dataset["classes"]).classes
    logits, maps = model(torch.randn(1, 3, 48, 48))
    assert logits.shape == (1, len(classes))
    # The bias is in the scores and not in the maps.
    torch.testing.assert_close(logits, maps.mean(dim=(2, 3)) + model.bias)
    assert model.bias.any()


def test_features_are_in_the_precision_of_the_settings(small_dataset, tmp_path):
    heads = []
    for precision in ("32-true", "bf16-mixed"):
        path = tmp_path / f"{precision}.safetensors"
        run_probe(small_dataset, path, SETTINGS | {"precision": precision})
        heads.append(load_classifier(path).head.weight.detach())
    assert not torch.equal(*heads)
    torch.testing.assert_close(*heads, rtol=0, atol=0.1 * heads[0].abs().max().item())
