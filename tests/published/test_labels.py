"""Labels to learn affinities from, and scores, of the published code."""

import numpy as np
import pytest

from pipeline.io.arrays import ClassMaps
from pipeline.metrics.segmentation import confusion_matrix, scores_of
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.labels import confident_label
from tests.published.data import CLASSES, load, settings

SHARES = ("false_positive_share", "false_negative_share")


def test_affinity_labels_of_given_maps():
    data, rule = load("e_affinity_labels"), settings()["affinity"]["confident_labels"]
    numbers, size = data["numbers"].astype(np.int64), data["image"].shape[:2]
    maps = ClassMaps(numbers, data["hr_cam"].astype(np.float32), size)
    found = confident_label(
        maps, data["image"], foreground=rule["foreground"], background=rule["background"],
        crf=CrfSettings.from_config(rule["crf"]),
    )  # fmt: skip
    assert set(np.unique(data["labels"])) > {0, 255}
    assert (found != data["labels"]).mean() < 1e-4


def test_scores_of_pairs_of_masks():
    data = load("h_scores")
    names = ["background", *(f"class {number}" for number in range(1, CLASSES + 1))]
    pairs = zip(data["truths"], data["predictions"], strict=True)
    found = scores_of(sum(confusion_matrix(*pair, CLASSES + 1) for pair in pairs), names)
    assert found["miou"] == pytest.approx(data["miou"], abs=1e-9)
    rows = found["classes"]
    assert [row["iou"] for row in rows] == pytest.approx(data["iou"], abs=1e-9)
    for share in SHARES:
        assert found[share] == pytest.approx(data[share], abs=1e-9)
        foreground = np.mean([row[share] for row in rows[1:]])
        assert foreground == pytest.approx(data[f"{share}_foreground"], abs=1e-9)
