"""Fixtures that many tests share."""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from PIL import Image

from pipeline.config.resolve import resolve
from pipeline.datasets.manifest import Record, write_classes, write_manifest, write_masks
from tests.helpers import REPOSITORY
from tests.helpers.workflow import TINY
from tests.helpers.workflow_api import read_workflow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# The same examples on every run, and no deadline: machines are shared.
settings.register_profile("wsss", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("wsss")

# Threads do not speed up arrays this small; and on some processors, sums of several threads
# depend on where memory lies.
torch.set_num_threads(1)
#: Workers at most: each imports torch, and the workflow tests take longer than all others.
MAX_WORKERS = 6


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Distribute the tests over the cores; run named files, and a debugger, in this process."""
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    return min(len(os.sched_getaffinity(0)), MAX_WORKERS) if whole else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files of slow tests, so that the workers end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def voc_subset() -> Path:
    """Folder of real images in VOC layout, named by WSSS_REAL_DATA or beside the checkout."""
    beside = REPOSITORY.parent / "shared/data/voc2012-subset"
    root = Path(os.environ.get("WSSS_REAL_DATA", beside))
    if not (root / "JPEGImages").is_dir():
        pytest.skip(f"no photographs at {root}: set WSSS_REAL_DATA to a VOC-like folder")
    return root


@pytest.fixture(scope="session")
def browser():
    """Launch a headless Chromium: WSSS_CHROMIUM, or one on the path."""
    named = os.environ.get("WSSS_CHROMIUM")
    executable = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no {', '.join(BROWSERS)} on the path: set WSSS_CHROMIUM to a Chromium")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            yield opened
            opened.close()


@pytest.fixture(scope="session")
def workflow(tmp_path_factory) -> dict[str, Any]:
    """Read the rules, and the jobs of a configuration with every kind of score."""
    return read_workflow(tmp_path_factory.mktemp("rules"), TINY | {"seeds": [0, 1]})


@pytest.fixture
def processes(monkeypatch):
    """Let work be shared among processes however small it is."""
    monkeypatch.setattr("pipeline.runtime.parallel.START", 0)


@pytest.fixture
def demo_config() -> dict[str, Any]:
    """Return the resolved default configuration."""
    return resolve(yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def classifier_settings(demo_config) -> dict[str, Any]:
    """Return the settings of a tiny plain classifier."""
    section: dict[str, Any] = demo_config["classifiers"]["plain"]
    section |= {"epochs": 3, "batch_size": 2, "eval_size": 32}
    section["augmentation"] |= {"resize": [32, 40], "crop": 32}
    return section


@pytest.fixture
def small_dataset(tmp_path) -> dict[str, Path]:
    """Six noisy images, red with cats and green with dogs, and their masks (noise alone)."""
    rng = np.random.default_rng(0)
    records, masks = [], {}
    labels = [("cat",), ("dog",), ("cat", "dog"), (), ("dog",), ("cat",)]
    for index, names in enumerate(labels):
        image = tmp_path / f"images/{index}.png"
        mask = tmp_path / f"masks/{index}.png"
        image.parent.mkdir(exist_ok=True)
        mask.parent.mkdir(exist_ok=True)
        height, width = 36 + index, 40
        color = [180 * ("cat" in names), 180 * ("dog" in names), 90]
        noise = rng.integers(0, 76, (height, width, 3))
        Image.fromarray((color + noise).astype(np.uint8)).save(image)
        Image.fromarray(rng.integers(0, 3, (height, width), dtype=np.uint8)).save(mask)
        split = "train" if index < 4 else "val"
        records.append(Record(str(index), image, width, height, split, names))
        masks[str(index)] = mask
    paths = {name: tmp_path / f"dataset/{name}" for name in ("manifest", "classes", "masks")}
    write_manifest(paths["manifest"], records)
    write_classes(paths["classes"], ["cat", "dog"])
    write_masks(paths["masks"], masks)
    return paths
