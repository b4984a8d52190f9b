"""The published random walk of given maps and boundary maps, and the resulting labels."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.io.arrays import ClassMaps
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.labels import label_by_scores, upsampled
from pipeline.refinement.random_walk import random_walk
from tests.published.data import load, settings


def walked() -> Tensor:
    """Return the walk of the given maps with the published settings."""
    data, rw = load("d_walk"), settings()["random_walks"]["rw"]
    options = {key: rw[key] for key in ("radius", "beta", "steps", "tolerance")}
    cam, edges = torch.from_numpy(data["cam"]), torch.from_numpy(data["edges"])
    return random_walk([cam], [edges], **options)[0]


def maps_of(values: NDArray[Any], dtype: type = np.float16) -> ClassMaps:
    """Return maps of the given image."""
    data = load("d_walk")
    numbers = data["numbers"].astype(np.int64)
    return ClassMaps(numbers, values.astype(dtype), data["image"].shape[:2])


def test_walk_over_cells():
    data, found = load("d_walk"), walked().numpy()
    assert np.abs(found - data["walked"]).max() < 1e-4
    assert np.abs(found - data["walked_float64"]).max() < 5e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float16, 5e-4)])
def test_walked_maps_are_enlarged_by_four_and_cut(dtype, tolerance):
    found = walked()
    full = upsampled(maps_of((found / found.max()).numpy(), dtype))
    assert np.abs(full - load("d_walk")["full"]).max() < tolerance


def test_labels_of_walked_maps_before_and_behind_the_crf():
    data, found = load("d_walk"), walked()
    crf = settings()["refinements"]["crf"]
    rule = {key: crf["background"][key] for key in ("rule", "value")}
    labeling = label_by_scores(
        maps_of((found / found.max()).numpy()), data["image"],
        background=rule, crf=CrfSettings.from_config(crf["crf"]),
    )  # fmt: skip
    assert (labeling.numbers[labeling.initial] != data["labels"]).mean() < 1e-3
    assert (labeling.numbers[labeling.winners] != data["labels_crf"]).mean() < 1e-3
