"""Fixtures of the exports' tests."""

from types import SimpleNamespace

import pytest

from pipeline.datasets.manifest import Record
from pipeline.export.job import ExportItem, ExportOptions, Target
from pipeline.io.arrays import write_label
from tests.helpers.export_items import CLASSES, SPLITS, label_of, saved


@pytest.fixture
def case(tmp_path):
    """Return the items, their labels by id, and a function that makes a target."""
    (tmp_path / "photographs").mkdir()
    items, labels = [], {}
    for name, split in SPLITS.items():
        image = saved(tmp_path / "photographs", name)
        source = tmp_path / f"labels/{name}.png"
        labels[name] = label_of(name)
        write_label(source, labels[name])
        items.append(ExportItem(Record(name, image, 44, 30, split, ()), source))

    def target(**options):
        return Target(tmp_path / "export", CLASSES, ExportOptions.from_config(options))

    return SimpleNamespace(items=items, labels=labels, target=target, root=tmp_path / "export")
