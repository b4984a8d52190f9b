import os

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.runtime.device import make_fabric
from pipeline.training.checkpoint import fingerprint_of
from pipeline.training.loop import train, write_history
from pipeline.training.optimization import make_optimizer, rate_factor
from pipeline.training.task import Recipe, Task

OPTIMIZER = {
    "name": "sgd",
    "learning_rate": 0.001,
    "head_multiplier": 10,
    "bias_multiplier": 2,
    "bias_decay": False,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.01,
}
SETTINGS = {
    "epochs": 4,
    "min_steps": 0,
    "batch_size": 2,
    "accumulate": 1,
    "compile": False,
    "batch_norm": "train",
    "optimizer": OPTIMIZER,
    "schedule": {"power": 0.9, "warmup": 0},
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(1, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(2, 1)

    def forward(self, images):
        return self.head(self.drop(self.norm(self.body(images))).mean(dim=(2, 3)))


def still():
    """Return a network without dropout."""
    torch.manual_seed(0)
    model = Net()
    model.drop.p = 0.0
    return model


class Noise:
    """Samples that are drawn from their seed alone."""

    def __len__(self):
        return 6

    def sample(self, index, seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(1, 2, 2, generator=generator) + index, torch.tensor([float(index)])


def regression(model, batch, share, _weights):
    images, targets = batch
    return {"loss": F.mse_loss(model(images), targets), "share": torch.tensor(share)}


def run(checkpoint, *, settings=SETTINGS, seed=1, step=regression, workers=0, **more):
    torch.manual_seed(0)
    model = more.pop("model", None) or Net()
    fabric = make_fabric("32-true", 1, gpus=0)
    recipe = Recipe(settings, seed, more.pop("select_by", None))
    fingerprint = more.pop("fingerprint", "same")
    return train(
        Task(model, model.head, more.pop("samples", Noise()), step, **more),
        recipe,
        fabric=fabric,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        workers=workers,
    )


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def losses(history):
    return [row["loss"] for row in history]


class KilledError(Exception):
    pass


def killed_after(steps):
    count = iter(range(steps))

    def step(model, batch, share, _weights):
        if next(count, None) is None:
            raise KilledError
        return regression(model, batch, share, _weights)

    return step


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_killed_training_resumes_to_the_same_result(tmp_path, optimizer):
    settings = SETTINGS | {"optimizer": OPTIMIZER | {"name": optimizer}}
    whole, history = run(tmp_path / "a", settings=settings)
    with pytest.raises(KilledError):  # in the middle of the third epoch of three steps each
        run(tmp_path / "b", settings=settings, step=killed_after(7))
    assert (tmp_path / "b").is_file()
    steps = []

    def counting(*arguments):
        steps.append(1)
        return regression(*arguments)

    resumed, resumed_history = run(tmp_path / "b", settings=settings, step=counting)
    assert_same(whole, resumed)
    assert losses(history) == losses(resumed_history)
    assert len(steps) == 6  # the two epochs that were not whole
    again, _ = run(tmp_path / "b", settings=settings, step=counting)
    assert_same(whole, again)  # killed after the last epoch, before the result was written
    assert len(steps) == 6


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path):
    whole, _ = run(tmp_path / "a")
    with pytest.raises(KilledError):
        run(tmp_path / "b", seed=5, step=killed_after(4), fingerprint="other")
    again, history = run(tmp_path / "b")
    assert_same(whole, again)
    assert len(history) == 4


def test_the_number_of_loading_processes_does_not_change_the_result(tmp_path):
    here, _ = run(tmp_path / "a", workers=0)
    there, _ = run(tmp_path / "b", workers=2)
    assert_same(here, there)


def test_results_depend_on_the_seed(tmp_path):
    one, _ = run(tmp_path / "a", seed=1)
    two, _ = run(tmp_path / "b", seed=2)
    assert not torch.equal(one["head.weight"], two["head.weight"])


def test_the_best_epoch_is_kept_also_across_a_kill(tmp_path):
    scores = {0: 0.1, 1: 0.9, 2: 0.3, 3: 0.2}
    kept = {}

    def validate_from(first):
        epochs = iter(range(first, 4))

        def validate(model):
            epoch = next(epochs)
            kept[epoch] = model.head.weight.detach().clone()
            return {"val_map": scores[epoch]}

        return validate

    select = {"select_by": "val_map"}
    state, _ = run(tmp_path / "a", validate=validate_from(0), **select)
    assert torch.equal(state["head.weight"], kept[1])
    assert not torch.equal(state["head.weight"], kept[3])
    with pytest.raises(KilledError):
        run(tmp_path / "b", step=killed_after(8), validate=validate_from(0), **select)
    resumed, _ = run(tmp_path / "b", validate=validate_from(2), **select)
    assert_same(state, resumed)


def test_epochs_are_compared_where_they_are_validated(tmp_path):
    scores = iter([0.2, 0.1])
    kept = []

    def validate(model):
        assert not model.training
        kept.append(model.head.weight.detach().clone())
        return {"val_map": next(scores)}

    select = {"select_by": "val_map", "validate": validate, "validated": {1, 3}}
    state, history = run(tmp_path / "a", **select)
    assert torch.equal(state["head.weight"], kept[0])
    assert ["val_map" in row for row in history] == [False, True, False, True]
    write_history(tmp_path / "history.csv", history)
    header, *rows = [
        line.split(",") for line in (tmp_path / "history.csv").read_text(encoding="utf-8").split()
    ]
    assert header[-2:] == ["val_map", "val_seconds"]
    assert [row[-2] for row in rows] == ["", "0.2", "", "0.1"]
    assert [bool(row[-1]) for row in rows] == [False, True, False, True]


def test_frozen_batch_norm_keeps_statistics_and_affine_parameters(tmp_path):
    torch.manual_seed(0)
    before = Net().state_dict()
    state, _ = run(tmp_path / "a", settings=SETTINGS | {"batch_norm": "frozen"})
    for name in ("running_mean", "running_var", "weight", "bias"):
        assert torch.equal(state[f"norm.{name}"], before[f"norm.{name}"])
    assert not torch.equal(state["body.weight"], before["body.weight"])


def test_with_frozen_statistics_scale_and_shift_learn_at_the_rates_of_weights_and_biases(tmp_path):
    settings = SETTINGS | {"batch_norm": "frozen_statistics", "epochs": 1, "batch_size": 6}
    plain = OPTIMIZER | {"bias_multiplier": 1, "weight_decay": 0.0, "momentum": 0.0}
    before = still().state_dict()

    def changes(**more):
        given = settings | {"optimizer": plain | more}
        state, _ = run(tmp_path / f"{more}", settings=given, model=still())
        return {name: state[f"norm.{name}"] - before[f"norm.{name}"] for name in state_names}

    state_names = ("running_mean", "running_var", "weight", "bias")
    once, twice = changes(), changes(bias_multiplier=2)
    for found in (once, twice):
        assert not found["running_mean"].any() and not found["running_var"].any()
    assert once["weight"].all() and once["bias"].all()
    # One step of plain descent: what changes is in proportion to the rate.
    torch.testing.assert_close(twice["weight"], once["weight"])
    torch.testing.assert_close(twice["bias"], 2 * once["bias"], rtol=1e-3, atol=1e-7)


def test_frozen_parts_keep_all_that_they_have(tmp_path):
    torch.manual_seed(0)
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, _ = run(tmp_path / "a", model=model, frozen=[model.body, model.norm])
    kept = [name for name in state if torch.equal(state[name], before[name])]
    assert kept == [name for name in state if not name.startswith("head.")]


def test_gradients_of_the_parts_of_a_step_add_up(tmp_path):
    settings = SETTINGS | {"batch_norm": "frozen", "batch_size": 6}
    whole, history = run(tmp_path / "a", settings=settings, model=still())
    parts, other = run(tmp_path / "b", settings=settings | {"accumulate": 3}, model=still())
    for name, tensor in whole.items():
        assert torch.allclose(tensor, parts[name], rtol=1e-4, atol=1e-6), name
    assert losses(history) == pytest.approx(losses(other), rel=1e-4)


class Uneven(Noise):
    """Samples of which the k-th has a target at k + 1 of its 6 places."""

    def sample(self, index, seed):
        image, target = super().sample(index, seed)
        places = torch.full((6,), float("nan"))
        places[: index + 1] = target
        return image, places


def uneven_regression(model, batch, _share, weights):
    images, targets = batch
    known = ~targets.isnan()
    errors = (model(images) - targets.nan_to_num()).square() * known
    return {"loss": weights[0] * errors.sum() / known.sum()}


def test_parts_with_more_known_places_weigh_more(tmp_path):
    settings = SETTINGS | {"batch_norm": "frozen", "batch_size": 6}
    given = {"step": uneven_regression, "samples": Uneven()}
    counted = given | {"counts": lambda targets: (~targets.isnan()).sum()[None]}
    whole, history = run(tmp_path / "a", settings=settings, model=still(), **given)
    settings = settings | {"accumulate": 3}
    parts, other = run(tmp_path / "b", settings=settings, model=still(), **counted)
    apart, _ = run(tmp_path / "c", settings=settings, model=still(), **given)
    for name, tensor in whole.items():
        assert torch.allclose(tensor, parts[name], rtol=1e-4, atol=1e-6), name
    assert losses(history) == pytest.approx(losses(other), rel=1e-4)
    assert not torch.allclose(whole["head.weight"], apart["head.weight"], rtol=1e-3)


@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same_weights(tmp_path):
    plain, _ = run(tmp_path / "a", model=still())
    compiled, _ = run(tmp_path / "b", model=still(), settings=SETTINGS | {"compile": True})
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        assert torch.allclose(tensor, compiled[name], rtol=1e-4, atol=1e-5), name


def test_a_batch_larger_than_the_data_is_the_data(tmp_path):
    _, history = run(tmp_path / "a", settings=SETTINGS | {"batch_size": 100, "epochs": 1})
    assert len(history) == 1


def test_a_minimum_of_steps_adds_epochs_to_the_schedule(tmp_path):
    _, history = run(tmp_path / "a", settings=SETTINGS | {"epochs": 1, "min_steps": 10})
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]  # of three steps each
    assert [row["share"] for row in history] == pytest.approx([1 / 12, 4 / 12, 7 / 12, 10 / 12])


def test_history_has_learning_rates_and_times(tmp_path):
    _, history = run(tmp_path / "a")
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [row["share"] for row in history] == pytest.approx([1 / 12, 4 / 12, 7 / 12, 10 / 12])
    last = 11 / 12
    assert history[-1]["learning_rate"] == pytest.approx(0.001 * (1 - last) ** 0.9)
    # Three steps of two images each.
    assert [row["seconds"] * row["images_per_second"] for row in history] == pytest.approx([6] * 4)
    write_history(tmp_path / "history.csv", history)
    lines = (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "epoch,loss,share,learning_rate,seconds,images_per_second"
    assert len(lines) == 5


def test_rate_factor_by_hand():
    assert rate_factor(0.0, power=0.9, warmup=0) == 1
    assert rate_factor(0.5, power=1, warmup=0) == 0.5
    assert rate_factor(0.75, power=2, warmup=0) == 0.0625
    assert rate_factor(0.05, power=1, warmup=0.1) == 0.5
    assert rate_factor(0.1, power=1, warmup=0.1) == 0.9


def test_parameter_groups_have_their_rates_and_decays():
    model = Net()
    groups = make_optimizer(model, model.head, OPTIMIZER).param_groups
    assert [group["lr"] for group in groups] == [0.001, 0.002, 0.01, 0.02]
    assert [group["weight_decay"] for group in groups] == [0.01, 0, 0.01, 0]
    assert [len(group["params"]) for group in groups] == [2, 2, 1, 1]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_fingerprint_sees_settings_and_file_contents(tmp_path):
    file = tmp_path / "file"
    file.write_text("a", encoding="utf-8")
    first = fingerprint_of({"x": 1}, file)
    assert first == fingerprint_of({"x": 1}, file)
    assert first != fingerprint_of({"x": 2}, file)
    file.write_text("b", encoding="utf-8")
    assert first != fingerprint_of({"x": 1}, file)


def test_a_diverging_training_is_an_error(tmp_path):
    settings = SETTINGS | {"optimizer": OPTIMIZER | {"learning_rate": 1e6}}
    with pytest.raises(UserError, match="lower the learning rate"):
        run(tmp_path / "a", settings=settings)


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "a").write_bytes(os.urandom(100))
    with pytest.raises(UserError, match="delete it"):
        run(tmp_path / "a")
