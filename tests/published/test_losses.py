"""The published losses: affinities, and five steps of the puzzle's training in float64."""

import numpy as np
import pytest
import torch

from pipeline.refinement.affinity import affinity_loss, count_pairs
from pipeline.training.losses import classification_step
from pipeline.training.optimization import make_optimizer, rate_factor
from tests.published.data import backbone_tensors, classifier, load, normalized, settings

TERMS = ("loss", "loss_background", "loss_foreground", "loss_negative")


def published_pairs() -> str:
    pairs: str = settings()["affinity"]["pairs"]
    return pairs


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_affinity_loss_and_its_gradient(everywhere):
    data = load("b_affinity_loss")
    # The published functions see all pairs where unknown cells are put around the grid.
    pairs, suffix = ("all", "_all_pairs") if everywhere else (published_pairs(), "")
    edges = torch.from_numpy(data["edges"])[None].requires_grad_()
    labels = torch.from_numpy(data["labels"])[None]
    radius = settings()["affinity"]["radius"]
    assert radius == data["radius"]

    terms = affinity_loss(edges, labels, radius, pairs=pairs)
    terms["loss"].backward()

    assert [terms[key].item() for key in TERMS] == pytest.approx(data[f"loss{suffix}"], abs=1e-6)
    assert np.abs(edges.grad[0].numpy() - data[f"gradient{suffix}"]).max() < 5e-7


def test_as_many_pairs_are_learned_from():
    data = load("b_affinity_loss")
    labels = torch.from_numpy(data["labels"])[None]
    found = count_pairs(labels, int(data["radius"]), pairs=published_pairs())
    assert found.tolist() == data["pairs"].tolist()


def test_five_steps_of_the_puzzle(monkeypatch):
    data, recipe = load("g_puzzle_steps"), settings()["classifiers"]["puzzle"]
    # The published steps are in float64, and losses are computed in float32 here.
    monkeypatch.setattr(torch.Tensor, "float", lambda values: values)
    network = classifier().double().train()
    step = classification_step(recipe["puzzle"])
    rates = recipe["optimizer"] | {"learning_rate": float(data["learning_rate"])}
    optimizer = make_optimizer(network, network.class_layer, rates)
    start = [group["lr"] for group in optimizer.param_groups]
    images = torch.cat([normalized(image) for image in data["images"]]).double()
    targets = torch.from_numpy(data["targets"]).double()
    size, count = int(data["batch_size"]), len(data["losses"])

    for number, expected in enumerate(data["losses"]):
        for group, rate in zip(optimizer.param_groups, start, strict=True):
            group["lr"] = rate * rate_factor(number / count, **recipe["schedule"])
        part = slice(number * size, (number + 1) * size)
        optimizer.zero_grad()
        terms = step(network, (images[part], targets[part]), number / count, torch.ones(1))
        terms["loss"].backward()
        optimizer.step()
        found = [terms[key].item() for key in ("loss", "loss_cls", "loss_p_cls", "loss_re")]
        assert found == pytest.approx(expected[:4], abs=1e-9)
        assert terms["alpha"].item() == pytest.approx(expected[4], abs=1e-6)

    head = network.head.weight.detach().flatten(1).numpy()
    assert np.abs(head - data["head"]).max() < 1e-9
    norms = [tensor.detach().norm().item() for tensor in backbone_tensors(network)]
    assert norms == pytest.approx(data["norms"], rel=1e-9)
