"""The benchmarks' own code gives right results; how fast is not for tests to say."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.parametrize("method", ["dense", "products", "polynomial"])
def test_every_way_to_walk_gives_the_same(method):
    case = json.dumps([method, 13, 17, 1])
    script = REPOSITORY / "benchmarks/random_walk.py"
    done = subprocess.run(
        [sys.executable, script, "--case", case], stdout=subprocess.PIPE, check=True
    )
    assert json.loads(done.stdout)["error"] < 1e-4
