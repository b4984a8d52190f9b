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


@pytest.mark.parametrize(
    ("tool", "method"),
    [
        ("torchcam, documented", "cam"),
        ("torchcam, documented", "grad-cam"),
        ("torchcam, best", "grad-cam"),
        ("pytorch-grad-cam, documented", "grad-cam-pp"),
        ("pytorch-grad-cam, best", "grad-cam-pp"),
    ],
)
def test_every_tool_gives_the_same_maps(tool, method):
    case = json.dumps([tool, method, 2, 3])
    script = REPOSITORY / "benchmarks/attribution.py"
    small = ["--backbone", "test_resnet", "--size", "64", "48", "--device", "cpu", "--seconds", "0"]
    command = [sys.executable, script, *small, "--case", case]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout)["difference"] < 1e-3
