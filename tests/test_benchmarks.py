"""The benchmarks' own code gives right results; how fast is not for tests to say."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import (
    attribution,
    crf_labels,
    evaluation,
    full_size,
    inference,
    loading,
    machine,
    probe,
    random_walk,
    region_votes,
    training,
)
from benchmarks.published import PublishedImages, manifest_of, our_images
from benchmarks.turns import Measured, image_files, peak_memory, print_table
from pipeline.training.augmentation import training_transform
from pipeline.training.losses import classification_step
from pipeline.training.samples import LabeledImages
from tests.conftest import BROWSERS
from tests.helpers import REPOSITORY

TINY = ["--count", "2", "--seconds", "0", "--threads", "1"]
NETWORK = ["--backbone", "test_resnet", "--side", "64"]
STEPS = ["--crop", "32", "--batch", "2", "--steps", "1", "--loaders", "0"]


class Alone:
    """Stands in for the processes of one way: the same work in this one."""

    def __init__(self, way, options):
        self.works = [way.make(options) for _ in range(way.processes)]

    def work(self, items):
        started = time.perf_counter()
        counted = [work(items[k :: len(self.works)]) for k, work in enumerate(self.works)]
        return counted[0] or time.perf_counter() - started

    def dismiss(self):
        return 1.0


@pytest.fixture
def alone(monkeypatch):
    """Let all ways work here, on small images."""
    monkeypatch.setattr("benchmarks.turns.Team", Alone)
    monkeypatch.setattr("benchmarks.turns.HEIGHT", 48)
    monkeypatch.setattr("benchmarks.turns.WIDTH", 64)


@pytest.fixture
def photograph(tmp_path):
    """A small image of a file format without loss."""
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def rates(text):
    """Return the second column of every row of a printed table."""
    rows = re.findall(r"^\| (?!way|-)(.+?) \| ([0-9.e+-]+) \|", text, re.MULTILINE)
    return {name: float(rate) for name, rate in rows}


@pytest.mark.parametrize("method", ["dense", "products", "polynomial"])
def test_all_implementations_of_the_walk_agree(method, monkeypatch, capsys):
    case = json.dumps([method, 13, 17, 1])
    monkeypatch.setattr("sys.argv", ["random_walk.py", "--case", case])
    random_walk.main()
    assert json.loads(capsys.readouterr().out)["error"] < 1e-4


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
def test_all_tools_compute_the_same_maps(tool, method, monkeypatch, capsys):
    case = json.dumps([tool, method, 2, 3])
    small = ["--backbone", "test_resnet", "--size", "64", "48", "--device", "cpu", "--seconds", "0"]
    monkeypatch.setattr("sys.argv", ["attribution.py", *small, "--case", case])
    attribution.main()
    assert json.loads(capsys.readouterr().out)["difference"] < 1e-3


def test_the_published_puzzle_step_has_our_loss_and_gradients():
    settings = training.settings_of(
        SimpleNamespace(backbone="test_resnet", device="cpu", batch=2, precision="32-true", crop=64)
    )
    model = inference.make_network("test_resnet").train()
    images, targets = torch.randn(2, 3, 64, 96), torch.zeros(2, 20)
    targets[0, 3] = targets[1, [3, 7]] = 1

    def gradients(loss):
        return torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)

    ours = classification_step(settings["puzzle"])(model, (images, targets), 0.25, torch.ones(1))[
        "loss"
    ]
    published = training.published_loss(model, images, targets, 2.0)  # half of the ramp to 4
    torch.testing.assert_close(published, ours)
    torch.testing.assert_close(gradients(published), gradients(ours), rtol=1e-3, atol=1e-5)


def test_published_maps_are_ours():
    model = inference.make_network("test_resnet")
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    published = inference.published_maps(model, image, [0.5, 1.0, 1.5])
    ours = inference.our_maps(model, image, [0.5, 1.0, 1.5])
    assert published.shape == ours.shape == (2, 13, 18)
    np.testing.assert_allclose(ours.astype(np.float32), published, atol=1e-3)
    assert published.max() == 1


def test_published_labels_are_ours(photograph):
    published = crf_labels.published_label(photograph)
    np.testing.assert_array_equal(crf_labels.our_label(photograph), published)
    assert set(np.unique(published)) <= {0, *crf_labels.NUMBERS}


def test_published_confident_labels_are_ours(photograph):
    published = crf_labels.published_confident(photograph)
    np.testing.assert_array_equal(crf_labels.our_confident(photograph), published)
    assert set(np.unique(published)) == {0, 255, *crf_labels.NUMBERS}


def test_published_scores_are_ours():
    pairs = [evaluation.masks(number) for number in range(3)]
    assert evaluation.our_miou(pairs) == pytest.approx(evaluation.published_miou(pairs), abs=1e-12)
    # Background: one of two; class 1: one of two; the last pixel is not scored.
    by_hand = [(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8))]
    assert evaluation.our_miou(by_hand) == evaluation.published_miou(by_hand) == 0.5


def without_frame(image):
    """Leave out rows of padding, which is exactly zero."""
    return image[:, image.abs().sum(dim=(0, 2)) > 0]


def test_a_published_training_image_equals_ours_up_to_mirroring(photograph):
    published = PublishedImages([photograph], 64)
    published.low = published.high = 64
    settings = {"resize": [64, 64], "crop": 64, "flip": False}
    settings |= {"color_jitter": 0, "hide_and_seek": None}
    manifest = manifest_of([photograph])
    transform = training_transform(settings, published.mean, published.std)
    framed, labels = LabeledImages(manifest, manifest.records, transform).sample(0, 0)
    expected = without_frame(framed)
    assert expected.shape == (3, 40, 64)
    for _ in range(4):
        image, targets = published[0]
        seen = without_frame(image)
        assert any(torch.allclose(seen, e, atol=1e-5) for e in (expected, expected.flip(2)))
        assert torch.equal(targets, labels)
    assert our_images([photograph], 32).sample(0, 0)[0].shape == (3, 32, 32)


@given(st.integers(1, 90), st.integers(1, 60))
def test_a_published_crop_lies_within_image_and_frame(side, crop):
    loader = PublishedImages([], crop)
    source, target = loader._span(side)
    for span, whole in ((source, side), (target, crop)):
        assert 0 <= span.start < span.stop <= whole
        assert span.stop - span.start == min(side, crop)


def test_operations_are_those_counted_by_hand():
    layer = torch.nn.Conv2d(3, 4, 3, padding=1)
    assert machine.operations(lambda: layer(torch.randn(2, 3, 5, 6))) == 2 * 2 * 4 * 30 * 3 * 9
    # Twice a forward pass each: the image and, as four tiles, the image again.
    layers = inference.make_network("test_resnet")
    forward = machine.operations(lambda: layers(torch.zeros(1, 3, 64, 64)))
    assert training.operations_of("test_resnet", 64) == 3 * 2 * forward
    assert inference.operations_of("test_resnet", (64, 64), [1.0, 1.0]) == 2 * 2 * forward


def test_the_table_compares_medians_with_the_first_implementation(capsys):
    found = {"rival": Measured([2, 4, 90], 8, 10), "ours": Measured([1, 1, 2], 8, 20)}
    print_table(found, floor=16)
    _, _, rival, ours = capsys.readouterr().out.splitlines()
    assert rival == "| rival | 2 | 1.00x | 12% | 10 MB |"
    assert ours == "| ours | 8 | 4.00x | 50% | 20 MB |"


def test_a_folder_with_too_few_images_is_refused(tmp_path):
    with (
        pytest.raises(SystemExit, match=r"0 files end in \.jpg, expected 3"),
        image_files(SimpleNamespace(images=tmp_path, count=3)),
    ):
        pass


def test_on_a_gpu_memory_and_time_are_those_of_the_gpu(monkeypatch):
    waits = []
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 3 * 2**20)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: waits.append(1))
    assert peak_memory("cuda") == 3
    # The warm-up is the shortest call, and does not count.
    calls = [1, *range(2 + machine.REPEATS, 2, -1)]
    clock = np.cumsum([step for seconds in calls for step in (10, seconds)])
    monkeypatch.setattr("time.perf_counter", iter(clock.tolist()).__next__)
    assert machine.best_seconds(lambda: torch.zeros(()), "cuda") == 3
    assert len(waits) == 2 * (1 + machine.REPEATS)


def test_two_implementations_take_turns_in_separate_processes(capsys):
    evaluation.main(TINY)
    found = capsys.readouterr().out
    assert rates(found).keys() == {"loops over classes", "ours"}
    assert all(float(mb) > 10 for mb in re.findall(r"(\d+) MB", found))


@pytest.mark.parametrize(
    ("script", "arguments", "ways"),
    [
        (
            inference,
            [*NETWORK, "--scales", "0.2", "--threads", "2"],
            ["published order", "ours, 2 job(s)"],
        ),
        (training, [*NETWORK, *STEPS], ["published order", "ours"]),
        (region_votes, ["--masks", "3"], ["loop over masks", "ours"]),
        (crf_labels, [], ["published loop", "ours, 1 process(es)"]),
        (crf_labels, ["--confident"], ["published loop", "ours, 1 process(es)"]),
        (
            probe,
            ["--backbone", "test_resnet", "--stride", "16"],
            ["two passes", "one pass, stored features"],
        ),
        (
            loading,
            ["--backbone", "test_resnet", *STEPS, "--workers", "0"],
            ["published, 0 worker(s)", "ours, 0 worker(s)"],
        ),
    ],
)
def test_a_script_prints_the_rates_of_both_implementations(script, arguments, ways, alone, capsys):
    script.main([*TINY, *arguments])
    found = rates(capsys.readouterr().out)
    assert list(found) == ways
    assert min(found.values()) > 0


def test_the_entry_of_a_machine_fits_the_shipped_rates(alone, capsys):
    small = ["--scales", "0.2", "--megabytes", "1", "--backbones", "test_resnet"]
    full_size.main([*TINY, *NETWORK, *STEPS, *small])
    printed = capsys.readouterr().out
    assert f"| test_resnet | classifier with puzzle | {15 * 10582} |" in printed
    (machine_found,) = yaml.safe_load(printed[printed.index("- name:") :])
    shipped = yaml.safe_load(
        (REPOSITORY / "pipeline/resources/rates.yaml").read_text(encoding="utf-8")
    )["machines"][0]
    assert machine_found.keys() == shipped.keys()
    for kind in ("training", "inference"):
        assert machine_found[kind]["test_resnet"] == machine_found[kind]["other"] > 0


def test_the_machines_rates_are_printed(capsys):
    machine.main(["--side", "32", "--megabytes", "1"])
    printed = capsys.readouterr().out
    assert re.search(r"\| memory \| [0-9.]+ GB/s \|", printed)
    assert "| matrix product, float32 |" in printed and "bfloat16" in printed


def test_the_size_and_the_times_of_a_gallery_are_printed():
    named = os.environ.get("WSSS_CHROMIUM")
    chromium = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip(f"no {', '.join(BROWSERS)} on the path: set WSSS_CHROMIUM to a Chromium")
    # Playwright allows one loop in a process, which the other tests' browser may have.
    script = REPOSITORY / "benchmarks/review.py"
    command = [sys.executable, str(script), "--images", "3", "30", "--chromium", chromium]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    few, many = (
        dict(
            zip(
                ("images", "size", "paint", "usable", "verdict", "filter", "memory"),
                row,
                strict=True,
            )
        )
        for row in (
            [float(cell) for cell in line.strip("| ").split(" | ")]
            for line in done.stdout.splitlines()[2:]
        )
    )
    assert (few["images"], many["images"]) == (3, 30)
    assert 0 < few["size"] < many["size"]
    for row in (few, many):
        assert min(row[key] for key in ("paint", "usable", "verdict", "filter")) > 0
        assert row["memory"] > 10
