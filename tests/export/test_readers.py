"""Exports as Datumaro, which CVAT reads with, and supervision see them.

Their pins conflict with this project's, so that they run in an environment of their own:
``uv venv .venv-readers`` and ``uv pip sync --python .venv-readers tests/export/readers.txt``.
"""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.export.coco import write_coco
from pipeline.export.voc import DEVKIT, write_voc
from pipeline.export.yolo import write_yolo
from tests.helpers import REPOSITORY
from tests.helpers.export_items import CLASSES, SPLITS

SCRIPT = Path(__file__).with_name("read_by_others.py")


@pytest.fixture(scope="session")
def python():
    """Find the readers' own Python: WSSS_READERS, or that of .venv-readers."""
    path = Path(os.environ.get("WSSS_READERS", REPOSITORY / ".venv-readers/bin/python"))
    if not path.is_file():
        pytest.skip(f"no environment of readers at {path}: see the docstring of {Path(__file__)}")
    return path


@pytest.fixture
def read(python, case):
    """Return a function that reads exports: names, and masks by label by SPLIT/ID, of each."""

    def run(reader, *exports):
        roots = [(kind, case.root.parent / name) for kind, name in exports]
        arguments = [part for pair in roots for part in pair]
        command = [python, SCRIPT, reader, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return [_load(root.with_name(f"{root.name}.npz")) for _, root in roots]

    return run


def _load(path):
    with np.load(path) as archive:
        keys = [key.removesuffix("/shape") for key in archive if key.endswith("/shape")]
        assert all(archive[f"{key}/shape"].tolist() == [30, 44] for key in keys)
        seen = {
            key: dict(zip(archive[f"{key}/labels"].tolist(), archive[f"{key}/masks"], strict=True))
            for key in keys
        }
        return archive["names"].tolist(), seen, archive["found"].tolist()


def written(write, case, name, **options):
    """Write an export under a name beside the others."""
    target = replace(case.target(**options), root=case.root.with_name(name))
    write(case.items, target, 1)
    return target.root


def masks_of(label, numbers):
    """Return the mask of every number that a label image shows, by its place in the list."""
    return {k: label == number for k, number in enumerate(numbers) if (label == number).any()}


def assert_equal(seen, labels, numbers):
    """Compare every mask, pixel by pixel; each label is one annotation."""
    assert seen.keys() == {f"{split}/{name}" for name, split in SPLITS.items()}
    for key, masks in seen.items():
        expected = masks_of(labels[key.partition("/")[2]], numbers)
        assert masks.keys() == expected.keys()
        for k, mask in masks.items():
            assert np.array_equal(mask, expected[k])


def test_datumaro_reads_the_voc_export_by_either_label_map(case, read):
    written(write_voc, case, "both")
    (written(write_voc, case, "cvat") / DEVKIT / "dataset_meta.json").unlink()
    by_meta, by_label_map = read("datumaro", ("voc", f"both/{DEVKIT}"), ("voc", f"cvat/{DEVKIT}"))
    assert by_meta[0] == ["background", *CLASSES, "ignored"]
    # Colons separate that file's fields.
    assert by_label_map[0] == [name.replace(":", ";") for name in by_meta[0]]
    for _, seen, found in (by_meta, by_label_map):
        assert "voc_segmentation" in found
        both = [seen.pop(key) for key in list(seen) if key.startswith("trainval/")]
        assert len(both) == len(SPLITS)
        assert_equal(seen, case.labels, [0, 1, 2, 255])


def test_datumaro_reads_the_coco_export_with_and_without_images(case, read):
    written(write_coco, case, "copied", images="copy")
    written(write_coco, case, "bare", images="none")
    for names, seen, found in read("datumaro", ("coco", "copied"), ("coco", "bare")):
        assert found == ["coco_instances"]
        assert names == list(CLASSES)
        assert_equal(seen, case.labels, [1, 2])


def test_supervision_reads_masks_and_outlines(case, read):
    written(write_coco, case, "masks", images="copy")
    written(write_coco, case, "outlines", images="copy", polygons=True)
    written(write_yolo, case, "yolo")
    exports = read("supervision", ("coco", "masks"), ("coco", "outlines"), ("yolo", "yolo"))
    assert [names for names, _, _ in exports] == [list(CLASSES)] * 3
    assert_equal(exports[0][1], case.labels, [1, 2])
    for _, seen, _ in exports[1:]:
        assert_alike(seen, case.labels)


def assert_alike(seen, labels):
    """Compare what is drawn of outlines: rounded to whole pixels, which counts on small objects."""
    assert seen.keys() == {f"{split}/{name}" for name, split in SPLITS.items()}
    for key, masks in seen.items():
        for k, true in masks_of(labels[key.partition("/")[2]], [1, 2]).items():
            assert (masks[k] & true).sum() / (masks[k] | true).sum() > 0.8
