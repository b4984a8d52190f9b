"""The report's gallery with many images: size of the page, time to first paint, memory of the tab.

    python benchmarks/review.py [--images N ...] [--chromium PATH] [--screenshots FOLDER]

Draws generated photographs of 160 x 120 pixels with a map and a pseudo-label, as the report draws
them, and repeats them under distinct ids. Opens the page in Chromium, and measures the first
contentful paint, the time until the first cards can be used, the time of a verdict in the viewer
until the next image is shown, the time of a filter, and the memory of the tab's process
(proportional set size). Prints a Markdown table.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.datasets.manifest import Manifest, Record
from pipeline.io.arrays import ClassMaps
from pipeline.report.data import class_colors, page_data
from pipeline.report.drawing import data_url
from pipeline.report.gallery import ROWS, Card, Layer, Split
from pipeline.report.html import render
from pipeline.report.layers import label_layer, map_layer

CLASSES = ("cat", "dog", "bird")
METHOD = "plain/cam/crf"
#: Distinct drawings; the browser decodes each card's image anyway.
DRAWINGS = 50
SIDES = 120, 160
READY = """() => document.querySelectorAll('.card').length > 0
  && !document.querySelector('.review').hidden"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
# One frame after the next one, everything is drawn.
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def photograph(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an (H, W, 3) image with the frequencies of a photograph: noise of several scales."""
    height, width = SIDES
    image = np.zeros((height, width, 3))
    for scale in (4, 8, 16, 40):
        coarse = rng.normal(0, scale, (height // scale + 1, width // scale + 1, 3))
        image += np.kron(coarse, np.ones((scale, scale, 1)))[:height, :width]
    return np.clip(128 + image, 0, 255).astype(np.uint8)


def drawing(rng: np.random.Generator) -> tuple[str, tuple[Layer, ...]]:
    """Return an image with the layers of a map and of a pseudo-label."""
    height, width = SIDES
    rows, columns = np.ogrid[:height, :width]
    y, x, radius = rng.uniform(30, 90), rng.uniform(40, 120), rng.uniform(15, 40)
    distance = np.hypot(rows - y, columns - x)
    label = np.where(distance < radius, 1 + rng.integers(len(CLASSES)), 0).astype(np.uint8)
    strength = np.exp(-((distance / radius) ** 2))[None, ::4, ::4].astype(np.float16)
    maps = ClassMaps(np.array([1]), strength, SIDES)
    layers = (
        Layer("map", "plain/cam", "plain/cam: map", map_layer(maps)),
        Layer("label", METHOD, METHOD, label_layer(label, SIDES)),
    )
    return data_url(photograph(rng)), layers


def write_page(path: Path, images: int) -> None:
    """Write a report of one split with this number of images in its gallery."""
    rng = np.random.default_rng(0)
    drawings = [drawing(rng) for _ in range(min(images, DRAWINGS))]
    records, cards, doubts = [], [], {}
    for number in range(images):
        name, labels = f"image{number:06}", (CLASSES[number % len(CLASSES)],)
        image, layers = drawings[number % len(drawings)]
        records.append(Record(name, Path(f"{name}.jpg"), SIDES[1], SIDES[0], "train", labels))
        cards.append(Card(name, labels, (), image, layers))
        doubts[name] = float(rng.uniform())
    manifest = Manifest(CLASSES, tuple(records))
    splits = {"train": Split({"plain/cam": []}, {METHOD: []}, doubts={METHOD: doubts})}
    data = page_data(manifest, [], splits, {"train": cards}, f"benchmark-{images}")
    path.write_text(page_of(manifest, cards, data), encoding="utf-8")


def page_of(manifest: Manifest, cards: Sequence[Card], data: dict[str, Any]) -> str:
    """Return the report's page with the gallery alone."""
    content = {
        "manifest": manifest, "cards": {"train": cards}, "scores": [], "boxes": [],
        "comparison": None, "class_models": {}, "units": {}, "quality": [], "findings": [],
        "times": [], "label_errors": None, "corrections": None,
        "config": {"experiment": "benchmark", "seed": 0, "dataset": {"kind": "folder"},
                   "pseudo_labels": [METHOD], "refinements": {}},
    }  # fmt: skip
    return render(
        "page.html.j2", content=content, kinds={}, listed=0, rows=ROWS, best={}, shares=[],
        charts={"sweeps": None, "boxes": None, "histories": [], "matrices": []},
        fully_supervised="", label_free=[], data=data, configuration="", versions={},
        legend=dict(zip(CLASSES, class_colors(manifest), strict=True)),
        counts={"train": len(cards), "val": 0},
    )  # fmt: skip


def memory_of(marker: str) -> float:
    """Return the largest proportional set size, in MiB, of Chromium's processes of tabs.

    ``marker`` is the folder of the browser's profile, which is on the command line of each of its
    processes.
    """
    sizes = [0]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
            if "--type=renderer" not in words or marker not in words:
                continue
            lines = (process / "smaps_rollup").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        sizes += [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    return max(sizes) / 1024


def seconds_of(page: Any, action: Any) -> float:
    """Return the seconds of an action until the page is drawn."""
    start = time.perf_counter()
    action()
    page.evaluate(FRAMES)
    return time.perf_counter() - start


def measure(browser: Any, file: Path, marker: str, screenshots: Path | None) -> list[float]:
    """Open a page, and return its figures in the order of the table's columns."""
    page = browser.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(file.as_uri(), timeout=300_000)
    page.wait_for_function(READY, timeout=300_000)
    usable = time.perf_counter() - start
    paint = page.wait_for_function(PAINT).json_value()  # it may come after the page is usable
    page.locator("#gallery").scroll_into_view_if_needed()
    page.locator("#gallery .begin").click()
    verdicts = [seconds_of(page, lambda: page.keyboard.press("g")) for _ in range(20)]
    if screenshots is not None:
        page.screenshot(path=screenshots / f"{file.stem}.png")
    page.keyboard.press("Escape")
    choose = page.locator("#gallery [name=review]")
    filtered = seconds_of(page, lambda: choose.select_option("open"))
    memory = memory_of(marker)
    page.close()
    return [
        file.stat().st_size / 1e6,
        paint / 1000,
        usable,
        float(np.median(verdicts)),
        filtered,
        memory,
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row for each number of images."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[300, 10_000])
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--screenshots", type=Path)
    options = parser.parse_args(arguments)
    print("| images | file, MB | first paint, s | usable, s | verdict, s | filter, s | tab, MiB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for images in options.images:
            file = Path(folder, f"gallery-{images}.html")
            write_page(file, images)
            profile = Path(folder, f"profile-{images}")
            with playwright.chromium.launch_persistent_context(
                profile, executable_path=options.chromium, args=["--no-sandbox"]
            ) as browser:
                figures = measure(browser, file, str(profile), options.screenshots)
            print(f"| {images} | " + " | ".join(f"{figure:.3g}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
