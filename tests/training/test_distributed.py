"""Trainings of two processes over gloo, each in a script as Snakemake runs one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.helpers import REPOSITORY

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
from pathlib import Path
import torch

sys.path.insert(0, {repository!r})
from pipeline.io.arrays import write_weights
from pipeline.runtime.device import launch
from pipeline.training.losses import classification_step
from pipeline.models.classifier import create_classifier
from pipeline.training.loop import train
from pipeline.training.task import Recipe, Task
from tests.helpers.training import NETWORK, PUZZLE, SETTINGS, Noise

def positives(model, batch, _share, weights):
    # A mean over the labels that are there, of which parts have different numbers.
    images, targets = batch
    errors = torch.nn.functional.softplus(-model(images).logits) * targets
    loss = weights[0] * errors.sum() / targets.sum().clamp(min=1)
    return dict(loss=loss, loss_re=loss)

def main(processes, trainings):
    fabric = launch("cpu", processes, "32-true", processes)
    for training in trainings:
        run(fabric, **training)

def run(fabric, out, batch_norm="synchronized", accumulate=1, epochs=2, uneven=False):
    torch.manual_seed(0)
    model = create_classifier(NETWORK, 3)
    settings = SETTINGS | dict(epochs=epochs, accumulate=accumulate, batch_norm=batch_norm)
    step = positives if uneven else classification_step(PUZZLE)
    counts = (lambda targets: targets.sum()[None]) if uneven else None
    state, history = train(
        Task(model, model.head, Noise(), step, counts=counts), Recipe(settings, 1), fabric=fabric,
        checkpoint=Path(out + ".checkpoint"), fingerprint="same", workers=0,
    )
    if fabric.is_global_zero:
        losses = torch.tensor([[row["loss"], row["loss_re"]] for row in history])
        write_weights(Path(out), state | dict(losses=losses), {{}})

if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
"""

VALIDATION = """
import json, sys
from pathlib import Path
import torch

sys.path.insert(0, {repository!r})
from pipeline.training import losses
from pipeline.datasets.manifest import read_manifest
from pipeline.runtime.device import launch
from pipeline.models.classifier import create_classifier
from pipeline.training.loop import _validate
from tests.helpers.training import NETWORK

def main(processes, folder):
    fabric = launch("cpu", processes, "32-true", processes)
    data = read_manifest(folder / "manifest", folder / "classes")
    torch.manual_seed(0)
    model = create_classifier(NETWORK, 2)
    if fabric.global_rank:  # the other processes' statistics are not those that are kept
        for statistic in model.buffers():
            statistic.fill_(7)
    losses.VALIDATION_BATCH = 2  # of three and two images: as many batches in no two processes
    validate = losses.label_validation(data, data.records[:5], 32, fabric)
    found = _validate(validate, model, fabric)
    (folder / f"found-{{processes}}-{{fabric.global_rank}}.json").write_text(json.dumps(found))

if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("distributed") / "script.py"
    path.write_text(SCRIPT.format(repository=str(REPOSITORY)), encoding="utf-8")
    return path


def start(script, processes, *trainings):
    # Nothing of a launcher that these tests run under.
    clean = {key: value for key, value in os.environ.items() if key not in {"LOCAL_RANK"}}
    return subprocess.Popen(
        [sys.executable, str(script), str(processes), json.dumps(trainings)],
        env=clean, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def trained(script, processes, *trainings):
    """Run trainings one after another, and return the weights and losses of each."""
    process = start(script, processes, *trainings)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return [load_file(training["out"]) for training in trainings]


def assert_close(one, other, tolerance):
    assert one.keys() == other.keys()
    for name in one:
        difference = (one[name].double() - other[name].double()).abs().max().item()
        assert difference <= tolerance * max(1, one[name].abs().max().item()), name


#: Trainings of the whole batch in one process, and what two processes make of each.
WHOLE = {
    "synchronized": {},
    "frozen": {"batch_norm": "frozen"},
    "uneven": {"batch_norm": "frozen", "uneven": True},
}
SHARED = {
    "synchronized": {},
    "apart": {"batch_norm": "train"},
    "frozen": WHOLE["frozen"] | {"accumulate": 2},
    "uneven": WHOLE["uneven"] | {"accumulate": 2},
    "long": {"epochs": 6},
}


def trained_each(script, processes, trainings, folder):
    named = [{"out": str(folder / name)} | options for name, options in trainings.items()]
    return dict(zip(trainings, trained(script, processes, *named), strict=True))


@pytest.fixture(scope="module")
def whole(script, tmp_path_factory):
    return trained_each(script, 1, WHOLE, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def shared(script, tmp_path_factory):
    return trained_each(script, 2, SHARED, tmp_path_factory.mktemp("shared"))


def test_two_processes_equal_one_with_the_doubled_batch(whole, shared):
    assert_close(whole["synchronized"], shared["synchronized"], tolerance=5e-5)


def test_batch_norm_statistics_of_each_process_alone_differ(whole, shared):
    with pytest.raises(AssertionError):
        assert_close(whole["synchronized"], shared["apart"], tolerance=1e-4)


@pytest.mark.parametrize("counts", ["frozen", "uneven"])
def test_parts_of_a_step_on_two_processes_add_up_to_the_whole_step(whole, shared, counts):
    """Also where the parts of a batch have different numbers of labels."""
    assert_close(whole[counts], shared[counts], tolerance=1e-5)


def children_of(pid):
    stats = Path("/proc").glob("[0-9]*/stat")
    return [int(path.parent.name) for path in stats if parent_in(path) == pid]


def parent_in(path):
    try:
        return int(path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
    except (OSError, ProcessLookupError):
        return None


def alive(pid):
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            != "Z"
        )
    except (OSError, ProcessLookupError):
        return False


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_killed_training_leaves_no_process_and_resumes(script, shared, tmp_path):
    out = tmp_path / "model"
    training = {"out": str(out)} | SHARED["long"]
    process = start(script, 2, training)
    wait_until(Path(f"{out}.checkpoint").is_file)
    children = children_of(process.pid)
    assert len(children) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(map(alive, children)), seconds=10)
    assert not out.exists()
    (resumed,) = trained(script, 2, training)
    assert_close(shared["long"], resumed, tolerance=0)


def test_validation_by_two_processes_equals_that_by_one(small_dataset, tmp_path):
    script, folder = tmp_path / "script.py", small_dataset["manifest"].parent
    script.write_text(VALIDATION.format(repository=str(REPOSITORY)), encoding="utf-8")
    clean = {key: value for key, value in os.environ.items() if key not in {"LOCAL_RANK"}}
    for processes in ("1", "2"):
        command = [sys.executable, str(script), processes, str(folder)]
        done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    alone, first, second = (
        json.loads((folder / f"found-{name}.json").read_text(encoding="utf-8"))
        for name in ("1-0", "2-0", "2-1")
    )
    assert 0 < alone["val_map"] == first["val_map"] == second["val_map"]
    assert first["val_seconds"] > 0
