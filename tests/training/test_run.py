"""The run of a training stage: its checkpoint, its outputs, and what both depend on."""

import csv

import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.io.arrays import read_weights, write_weights
from pipeline.training.run import TrainingRun
from pipeline.training.task import Task

SETTINGS = {
    "precision": "32-true", "epochs": 2, "min_steps": 0, "batch_size": 2, "accumulate": 1,
    "compile": False,
    "optimizer": {
        "name": "sgd", "learning_rate": 0.1, "head_multiplier": 1, "bias_multiplier": 1,
        "bias_decay": False, "momentum": 0, "nesterov": False, "weight_decay": 0,
    },
    "schedule": {"power": 0, "warmup": 0},
}  # fmt: skip


class Points:
    """Four constant samples."""

    def __len__(self):
        return 4

    def sample(self, index, _seed):
        return torch.full((1, 1, 1), float(index)), torch.tensor([2.0 * index])


class Run:
    """Runs a training in a folder, and counts its steps."""

    def __init__(self, folder):
        self.folder, self.steps = folder, 0
        self.input = folder / "input.csv"
        self.input.write_text("a", encoding="utf-8")

    def __call__(self, *, save=None, settings=SETTINGS, seed=0, code="code"):
        run = TrainingRun.start(
            settings, seed, code, threads=1, gpu=0,
            weights=self.folder / "model.safetensors", history=self.folder / "history.csv",
        )  # fmt: skip
        model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1))
        self.drawn = model[1].weight.item()
        task = Task(model, model[1], Points(), self._step)
        self.steps = 0
        run.train(task, inputs=[self.input], save=save or self._save)

    def _step(self, model, batch, _share, _weights):
        self.steps += 1
        return {"loss": nn.functional.mse_loss(model(batch[0]), batch[1])}

    def _save(self, path, state):
        write_weights(path, state, {"by": "the stage"})

    @property
    def files(self):
        return {path.name for path in self.folder.iterdir()} - {"input.csv"}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_the_stage_saves_the_weights_and_the_checkpoint_goes(run):
    run()
    assert run.steps == 4
    assert run.files == {"model.safetensors", "history.csv"}
    state, description = read_weights(run.folder / "model.safetensors")
    assert description == {"by": "the stage"} and state.keys() == {"1.weight", "1.bias"}
    with (run.folder / "history.csv").open(encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_the_seed_decides_the_random_weights(run):
    drawn = []
    for seed in (0, 1, 0):
        torch.rand(3)  # other code may have drawn before
        run(seed=seed)
        drawn.append(run.drawn)
    assert drawn[0] == drawn[2] != drawn[1]


def killed(_path, _state):
    raise KeyboardInterrupt


def test_a_run_that_is_killed_before_it_saves_keeps_its_checkpoint(run):
    with pytest.raises(KeyboardInterrupt):
        run(save=killed)
    assert run.files == {"checkpoint.safetensors"}
    run()
    assert run.steps == 0
    assert run.files == {"model.safetensors", "history.csv"}


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"code": "other"}, {"settings": SETTINGS | {"batch_size": 4}}, "input"],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_not_used(run, changes):
    with pytest.raises(KeyboardInterrupt):
        run(save=killed)
    if changes == "input":
        run.input.write_text("b", encoding="utf-8")
        changes = {}
    run(**changes)
    assert run.steps == (2 if "settings" in changes else 4)


def test_a_precision_that_the_device_lacks_is_refused_before_training(run):
    with pytest.raises(UserError, match="precision is 16-mixed on a CPU"):
        run(settings=SETTINGS | {"precision": "16-mixed"})
    assert run.files == set()
