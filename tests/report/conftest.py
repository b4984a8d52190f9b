"""Fixtures of the report's tests."""

import pytest

from tests.helpers.report_tree import build


@pytest.fixture
def tree(tmp_path):
    """Return the arguments of the report stage over hand-made files, and the results' folder."""
    return build(tmp_path / "results/exp", ["cat", "dog"])
