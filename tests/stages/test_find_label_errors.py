"""The list of labels that contradict a classifier, from features, images or scores."""

import logging

import numpy as np
import pytest

from pipeline.datasets.manifest import Record, write_classes, write_manifest
from pipeline.errors import UserError
from pipeline.io.arrays import write_features
from pipeline.io.tables import write_class_scores
from pipeline.metrics.label_error_table import read_label_errors
from pipeline.stages.find_label_errors import find_label_errors

PROBE = {
    "kind": "linear-probe", "backbone": "test_resnet", "pretrained": False, "output_stride": 16,
    "last_layer": None, "interpolation": "bicubic", "precision": "32-true", "size": 40,
    "flip": True, "bias": False, "solver": "svm", "c": 0.1, "views_of": "cam",
}  # fmt: skip


def write_dataset(folder, labels, classes=("cat", "dog"), val=()):
    records = [
        Record(f"{letter}{number}", folder / f"{letter}{number}.png", 8, 8, split, tuple(names))
        for split, letter, rows in (("train", "i", labels), ("val", "v", val))
        for number, names in enumerate(rows)
    ]
    write_manifest(folder / "manifest.csv", records)
    write_classes(folder / "classes.json", classes)
    return {"manifest": folder / "manifest.csv", "classes": folder / "classes.json"}


def found(folder, dataset, **changes):
    arguments = {
        "pretrained": [], "features": [], "class_scores": [], "held_out_scores": [],
        "settings": PROBE, "scales": [1.0],
        "folds": 2, "seed": 3, "errors": folder / "errors.csv", "threads": 1,
    } | dataset | changes  # fmt: skip
    find_label_errors(**arguments)
    return read_label_errors(folder / "errors.csv")


def test_a_wrong_and_a_missing_label_are_found_in_stored_features(tmp_path):
    labels = [["cat"] if number % 2 else ["dog"] for number in range(20)]
    true = np.array([[number % 2, 1 - number % 2] for number in range(20)])
    labels[4] = ["cat"]  # a dog
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    for number, row in enumerate(true):
        means = np.concatenate([6 * row, [0]])[:, None, None]
        maps = (means + rng.normal(size=(2, 3, 2, 2)) / 2).astype(np.float16)
        write_features(tmp_path / f"features/i{number}.safetensors", [maps])
    errors = found(tmp_path, write_dataset(tmp_path, labels), features=[tmp_path / "features"])
    assert [(e.image, e.label, e.kind) for e in errors if e.rank == 1] == [
        ("i4", "cat", "wrong"),
        ("i4", "dog", "missing"),
    ]


def test_a_probe_without_stored_features_computes_its_own(small_dataset, tmp_path):
    dataset = {key: small_dataset[key] for key in ("manifest", "classes")}
    errors = found(tmp_path, dataset, settings=PROBE | {"views_of": None})
    assert {error.image for error in errors} <= {"0", "1", "2", "3"}


def test_the_scores_of_a_network_are_logits(tmp_path):
    dataset = write_dataset(tmp_path, [["cat"], ["cat"], ["dog"], ["dog"]])
    logits = np.log([[9, 9], [1 / 9, 1 / 4], [3 / 7, 4], [1 / 9, 3 / 2]])  # as in the metric's test
    for shard in (0, 1):
        rows = [(f"i{number}", logits[number]) for number in range(shard, 4, 2)]
        write_class_scores(tmp_path / f"{shard}.csv", ["cat", "dog"], rows)
    tables = [tmp_path / "0.csv", tmp_path / "1.csv"]
    errors = found(tmp_path, dataset, class_scores=tables, settings={"kind": "network"})
    assert [(e.image, e.label, e.kind) for e in errors] == [
        ("i1", "cat", "wrong"), ("i0", "dog", "missing"),
    ]  # fmt: skip
    np.testing.assert_allclose([e.threshold for e in errors], [0.8, 0.7], rtol=1e-4)
    with pytest.raises(UserError, match="no 2 scores of image i1"):
        found(tmp_path, dataset, class_scores=tables[:1], settings={"kind": "network"})


def test_val_has_the_classifier_s_own_scores_thresholds_and_ranks(tmp_path):
    # Labels and probabilities are those of the test above, with i1 and i0 in val.
    labels = [["cat"], ["cat"], ["dog"], ["dog"]]
    dataset = write_dataset(tmp_path, labels, val=labels)
    logits = np.log([[9, 9], [1 / 9, 1 / 4], [3 / 7, 4], [1 / 9, 3 / 2]])
    clear = np.where([[1, 0], [1, 0], [0, 1], [0, 1]], 9.0, -9.0)
    tables = [tmp_path / "train.csv", tmp_path / "val.csv"]
    for path, letter, rows in zip(tables, "iv", (clear, logits), strict=True):
        scores = [(f"{letter}{number}", row) for number, row in enumerate(rows)]
        write_class_scores(path, ["cat", "dog"], scores)
    scored = {"class_scores": tables[:1], "held_out_scores": tables[1:]}
    errors = found(tmp_path, dataset, **scored)
    assert [(e.image, e.label, e.kind, e.rank, e.split) for e in errors] == [
        ("v1", "cat", "wrong", 1, "val"), ("v0", "dog", "missing", 1, "val"),
    ]  # fmt: skip
    np.testing.assert_allclose([e.threshold for e in errors], [0.8, 0.7], rtol=1e-4)
    with pytest.raises(UserError, match="no 2 scores of image v0"):
        found(tmp_path, dataset, **scored | {"held_out_scores": tables[:1]})


def test_val_images_that_are_too_few_are_not_checked(tmp_path):
    dataset = write_dataset(tmp_path, [["cat"], ["cat"], ["dog"], ["dog"]], val=[["cat"], []])
    path = tmp_path / "train.csv"
    write_class_scores(path, ["cat", "dog"], [(f"i{n}", np.zeros(2)) for n in range(4)])
    errors = found(tmp_path, dataset, settings={"kind": "network"}, class_scores=[path])
    assert all(error.split == "train" for error in errors)


def test_a_class_with_too_few_images_is_named_and_left_out(tmp_path, caplog):
    labels = [["cat", "dog"], ["cat"], ["bird"], [], []]
    dataset = write_dataset(tmp_path, labels, ("cat", "dog", "bird"))
    rows = [(f"i{number}", np.array([0.0, 9.0, 9.0])) for number in range(5)]
    write_class_scores(tmp_path / "0.csv", ["cat", "dog", "bird"], rows)
    with caplog.at_level(logging.WARNING):
        errors = found(
            tmp_path, dataset, class_scores=[tmp_path / "0.csv"], settings={"kind": "network"}
        )
    assert {error.label for error in errors} <= {"cat"}
    assert "fewer than 2 of 5 training images" in caplog.text
    assert "these classes: dog (in 1), bird (in 1);" in caplog.text


@pytest.mark.parametrize("labels", [[["cat"]] * 4, [[]] * 4, [["cat"], [], [], []]])
def test_labels_that_no_fold_can_judge_are_one_line(tmp_path, labels):
    with pytest.raises(UserError, match=r"fewer than 2 of 4 training images .* lower") as error:
        found(tmp_path, write_dataset(tmp_path, labels))
    assert "\n" not in str(error.value)
