import argparse

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.config.resolve import resolve
from pipeline.errors import UserError
from pipeline.planning import network_problems as building
from pipeline.planning.network_check import check_networks
from pipeline.planning.plan import Plan


@pytest.fixture
def plan_of(demo_config):
    """Return the plan of the demo with one value changed."""

    def plan(*keys, value):
        place = demo_config
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return Plan(resolve(demo_config))

    return plan


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (
            ["classifiers", "plain", "backbone"],
            "resnet5",
            "classifiers.plain: backbone is 'resnet5'",
        ),
        (
            ["classifiers", "plain", "frozen"],
            ["layr1"],
            "classifiers.plain.frozen: layer is 'layr1'",
        ),
        (
            ["segmentation", "architecture_options"],
            {"decoder_chanels": 8},
            "segmentation: architecture_options has decoder_chanels, expected none",
        ),
        (
            ["classifiers", "puzzle", "augmentation", "crop"],
            120,
            "classifiers.puzzle.augmentation.crop is 120, expected a multiple of 32",
        ),
        (["segmentation", "frozen"], ["layer1", "layr2"], "segmentation.frozen: layer is 'layr2'"),
        (
            ["affinity"],
            {"kind": "features", "layers": ["layer2", "layr3"]},
            "affinity.layers of puzzle: layer is 'layr3', expected a module of the backbone",
        ),
        (
            ["attributions", "cam"],
            {"method": "grad-cam", "layer": "all"},
            "attributions.cam of plain: layer is 'all'",
        ),
        (
            ["attributions", "cam"],
            {"method": "grad-cam", "layer": "layre3"},
            "attributions.cam of plain: layer is 'layre3'",
        ),
        (
            ["classifiers", "plain", "last_layer"],
            ["layer4", "layer3"],
            "classifiers.plain: last_layer is ['layer4', 'layer3'], expected the order",
        ),
        (
            ["attributions", "cam"],
            {"method": "grad-cam", "layer": "global_pool", "align": True},
            "attributions.cam of plain: align: the output of global_pool is not an",
        ),
    ],
)
def test_a_network_that_cannot_be_built_is_reported_with_its_key(
    plan_of, tmp_path, keys, value, problem
):
    plan = plan_of(*keys, value=value)
    with pytest.raises(UserError, match=r"^configuration: ") as caught:
        check_networks(plan, tmp_path / "notes")
    assert problem in str(caught.value)
    assert not (tmp_path / "notes").exists()


def test_all_problems_are_reported_together(plan_of):
    plan_of("segmentation", "frozen", value=["a", "b"])
    problems = list(building.network_problems(plan_of("segmentation", "backbone", value="resnet5")))
    assert len(problems) == 1  # without the network nothing can be said of its layers
    problems = list(
        building.network_problems(plan_of("segmentation", "backbone", value="resnet18"))
    )
    assert [problem.split(",")[0] for problem in problems] == [
        "segmentation.frozen: layer is 'a'", "segmentation.frozen: layer is 'b'",
    ]  # fmt: skip


def test_networks_that_passed_are_not_checked_again(plan_of, tmp_path, monkeypatch):
    plan = plan_of("seed", value=0)
    built = []
    create = building.create_classifier
    monkeypatch.setattr(
        building, "create_classifier", lambda *given: built.append(1) or create(*given)
    )
    check_networks(plan, tmp_path / "notes")
    assert len(built) == len(plan.config["classifiers"])
    check_networks(plan_of("seed", value=1), tmp_path / "notes")
    assert len(built) == len(plan.config["classifiers"])
    check_networks(plan_of("segmentation", "output_stride", value=8), tmp_path / "notes")
    assert len(built) == 2 * len(plan.config["classifiers"])


@pytest.fixture
def with_weights(demo_config):
    """Return the plan of the demo whose networks start from a file."""

    def plan(weights):
        for settings in [*demo_config["classifiers"].values(), demo_config["segmentation"]]:
            settings["pretrained"] = True
        given = {name: str(path) for name, path in weights.items()}
        return Plan(resolve(demo_config | {"weights": given}))

    return plan


def saved(path, backbone):
    save_file(timm.create_model(backbone, pretrained=False).state_dict(), path)
    return path


def test_weights_that_fit_pass_and_those_of_another_network_do_not(with_weights, tmp_path):
    plan = with_weights({"test_resnet": saved(tmp_path / "w.safetensors", "test_resnet")})
    notes = tmp_path / "notes"
    check_networks(plan, notes)
    check_networks(plan, notes)
    assert len(list(notes.iterdir())) == 1
    saved(tmp_path / "w.safetensors", "test_vit")
    with pytest.raises(UserError, match=r"^configuration: weights.test_resnet: ") as caught:
        check_networks(plan, notes)
    assert str(caught.value).count("lacks") == 1  # though three networks start from the file


def test_a_state_dict_of_pytorch_passes_and_other_pickles_do_not(with_weights, tmp_path):
    path = tmp_path / "w.pth"
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    torch.save(state, path)
    assert list(building.network_problems(with_weights({"test_resnet": path}))) == []
    torch.save({"state_dict": state, "arguments": argparse.Namespace()}, path)
    (problem,) = building.network_problems(with_weights({"test_resnet": path}))
    assert problem.startswith(f"weights.test_resnet: {path}: not a file of tensors only (")


def test_weights_that_are_not_finite_are_found_before_anything_runs(with_weights, tmp_path):
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    state["conv1.0.weight"][0, 0, 0, 0] = torch.inf
    save_file(state, tmp_path / "w.safetensors")
    plan = with_weights({"test_resnet": tmp_path / "w.safetensors"})
    with pytest.raises(
        UserError, match=r"conv1\.0\.weight has 1 of \d+ values that are NaN or inf"
    ):
        check_networks(plan, tmp_path / "notes")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("test_resnett", "weights.test_resnett: no network has that backbone, and the weights of "
         "test_resnet would be downloaded: did you mean weights.test_resnet?"),
        ("test_resnet.r160_in1k", "did you mean weights.test_resnet?"),
        ("my-file", "weights.my-file: expected the timm name of a backbone"),
    ],
)  # fmt: skip
def test_weights_for_a_network_that_starts_from_others_are_named(with_weights, name, hint):
    (problem,) = building.network_problems(with_weights({name: "anywhere"}))
    assert hint in problem


def test_a_file_of_paths_may_be_shared_by_experiments(with_weights, tmp_path):
    own = saved(tmp_path / "w.safetensors", "test_resnet")
    others = dict.fromkeys(["resnet50", "resnet50.tv_in1k", "vgg16"], tmp_path / "elsewhere")
    assert list(building.network_problems(with_weights({"test_resnet": own} | others))) == []
    assert list(building.network_problems(with_weights(others))) == []
