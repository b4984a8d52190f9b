"""The script that measures how well label errors are found, on data whose answer is known."""

import importlib.util

import numpy as np
import pytest

from pipeline.datasets.manifest import Record, write_classes, write_manifest
from pipeline.io.arrays import write_features
from tests.helpers import REPOSITORY

PATH = REPOSITORY / "experiments/planted_label_errors.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_as_many_labels_are_added_as_taken_out(script):
    truth = (np.arange(600).reshape(60, 10) % 3 == 0).astype(np.float32)  # 200 labels
    given = script.planted(truth, 0.05, np.random.default_rng(0))
    assert ((truth == 1) & (given == 0)).sum() == ((truth == 0) & (given == 1)).sum() == 10
    assert not np.array_equal(given, script.planted(truth, 0.05, np.random.default_rng(1)))


def test_figures_are_those_counted_by_hand(script):
    # The last of four labels and the last of four non-labels are wrong. The first pair of each
    # kind, which is right, is believed less than the wrong one of that kind.
    truth = np.array([[1], [1], [1], [0], [0], [0], [0], [1]], np.float32)
    given = np.array([[1], [1], [1], [1], [0], [0], [0], [0]], np.float32)
    p = np.array([[0.1], [0.9], [0.8], [0.3], [0.9], [0.2], [0.1], [0.7]])
    lines = [line.split() for line in script.figures(p, given, truth)]
    found = {(kind, ranking): [float(cell) for cell in cells] for kind, ranking, *cells in lines}
    # Planted, precision at a tenth of k (at least 1), at k = 1, recall at 2; then of the list.
    # Thresholds: .525 for presence (mean of .1, .9, .8, .3) and .525 for absence. Listed are the
    # labels with p <= .475 (the first and the wrong one), and others with p >= .525.
    for kind in ("wrong", "missing"):
        assert found[kind, "loss"] == [1, 0, 0, 100]
        assert found[kind, "listed"] == [1, 0, 0, 100, 50, 100]
        assert found[kind, "chance"] == [1, 25, 25, 50]


def test_planted_errors_of_separable_classes_are_found(script, tmp_path, capsys):
    rng = np.random.default_rng(0)
    features = tmp_path / "features/probe/0"
    features.mkdir(parents=True)
    records = []
    for number in range(60):
        own = number % 2
        means = np.array([8 * own, 8 * (1 - own), 0])[:, None, None]
        maps = (means + rng.normal(size=(2, 3, 2, 2))).astype(np.float16)
        write_features(features / f"i{number}.safetensors", [maps])
        label = "cat" if own else "dog"
        records.append(Record(f"i{number}", tmp_path / "x.png", 4, 4, "train", (label,), ""))
    (tmp_path / "dataset").mkdir()
    write_manifest(tmp_path / "dataset/manifest.csv", records)
    write_classes(tmp_path / "dataset/classes.json", ["cat", "dog"])
    script.main([str(tmp_path), "--scales", "1", "--seeds", "3"])
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines() if line.startswith("   3 ")]
    for kind in ("wrong", "missing"):
        assert ["3", kind, "listed", "3", *["100.0"] * 5] in rows
    assert "wrong: 0 in the table as it is" in text and "missing: 0 in the table as it is" in text
