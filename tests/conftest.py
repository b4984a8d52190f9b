"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def voc_subset() -> Path:
    """Folder of real photographs in VOC layout, named by WSSS_REAL_DATA or beside the checkout."""
    beside = REPOSITORY.parent / "shared/data/voc2012-subset"
    root = Path(os.environ.get("WSSS_REAL_DATA", beside))
    if not (root / "JPEGImages").is_dir():
        pytest.skip(f"no photographs at {root}: set WSSS_REAL_DATA to a VOC-like folder")
    return root
