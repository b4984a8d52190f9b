"""Graph cut: time of each step, OpenCV's solver and PyMaxflow's, and scaling over processes.

    python benchmarks/graph_cut.py [--images FOLDER] [--count N] [--size H W]

Images are photographs of a folder, or they are drawn: two textured objects on a textured
background. The map of each image is a blob in its center. All times are measured with one thread.
The reference solves the problem of the frozen mode, with the same mixtures and neighbor weights,
with PyMaxflow (Boykov and Kolmogorov 2004). "excess energy" is the energy of its cut minus that of
OpenCV's, relative to the latter. Prints Markdown tables.
"""

import argparse
import itertools
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import maxflow
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.io.images import read_rgb, resize
from pipeline.refinement.graph_cut import (
    ColorModel,
    GraphCutSettings,
    cut_class,
    fit_color_model,
    minimum_cut,
    refitted_cut,
    tag_pixels,
)
from pipeline.runtime.parallel import map_images

Image = NDArray[np.uint8]
MODES = ("frozen", "iterative")


def drawn(height: int, width: int, seed: int) -> Image:
    """Draw two objects and a background, each a gradient of two colors with noise."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shade = cv2.GaussianBlur(draw.normal(size=(height, width)), (0, 0), 9)
    shade = (shade - shade.min()) / np.ptp(shade)
    colors = draw.uniform(20, 235, (3, 2, 3))
    image = colors[0, 0] + shade[..., None] * (colors[0, 1] - colors[0, 0])
    for index, (cy, cx) in enumerate(((0.5, 0.5), (0.3, 0.8)), start=1):
        inside = (y / height - cy) ** 2 + (x / width - cx) ** 2 < 0.04
        texture = colors[index, 0] + shade[..., None] * (colors[index, 1] - colors[index, 0])
        image = np.where(inside[..., None], texture, image)
    noisy: Image = np.clip(image + draw.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
    return noisy


def blob(height: int, width: int) -> NDArray[np.float32]:
    """Return a map that decreases from the center of the image."""
    y, x = np.mgrid[:height, :width]
    distance = (y / height - 0.5) ** 2 + (x / width - 0.5) ** 2
    strength: NDArray[np.float32] = np.exp(-distance / 0.04).astype(np.float32)
    return strength


def reference(image: Image, background: ColorModel, foreground: ColorModel) -> NDArray[np.bool_]:
    """Solve the problem of :func:`minimum_cut` with PyMaxflow."""
    graph = maxflow.Graph[float]()
    nodes = graph.add_grid_nodes(image.shape[:2])
    for weights, structure in neighbor_weights(image):
        graph.add_grid_edges(nodes, weights, structure=structure, symmetric=True)
    outside, inside = (-model.log_likelihood(image) for model in (background, foreground))
    graph.add_grid_tedges(nodes, outside, inside)
    graph.maxflow()
    found: NDArray[np.bool_] = ~graph.get_grid_segments(nodes)
    return found


def neighbor_weights(image: Image) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Return the weight of each pixel's edge to its neighbor, for each of 4 directions."""
    pixels = image.astype(np.float64)
    height, width = image.shape[:2]
    found, total, pairs = [], 0.0, 0
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        rows, columns = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
        there = pixels[dy:, max(0, dx) : width + min(0, dx)]
        difference = np.full((height, width), np.inf)
        difference[rows, columns] = np.square(pixels[rows, columns] - there).sum(axis=2)
        structure = np.zeros((3, 3), np.int64)
        structure[1 + dy, 1 + dx] = 1
        known = np.isfinite(difference)
        total, pairs = total + difference[known].sum(), pairs + int(known.sum())
        found.append((difference, structure, np.hypot(dy, dx)))
    beta = pairs / (2 * total)
    return [(50 * np.exp(-beta * d) / length, structure) for d, structure, length in found]


def energy(
    mask: NDArray[np.bool_], image: Image, background: ColorModel, foreground: ColorModel
) -> float:
    """Compute the energy that a cut minimizes."""
    unary = np.where(mask, -foreground.log_likelihood(image), -background.log_likelihood(image))
    total = float(unary.sum(dtype=np.float64))
    for weights, structure in neighbor_weights(image):
        dy, dx = (int(place[0]) - 1 for place in structure.nonzero())
        total += float(weights[mask != np.roll(mask, (-dy, -dx), (0, 1))].sum())
    return total


def timed(seconds: list[float], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function and append its seconds to a list."""
    started = time.perf_counter()
    result = function(*arguments)
    seconds.append(time.perf_counter() - started)
    return result


def parts(images: Sequence[Image]) -> None:
    """Print the table of the steps."""
    seconds: dict[str, list[float]] = defaultdict(list)
    excess, agreement = [], []
    settings = GraphCutSettings()
    for image in images:
        strength = blob(*image.shape[:2])
        tags = timed(seconds["tags"], tag_pixels, strength, settings)
        models = [
            timed(seconds["color models (each of 2)"], fit_color_model, image[tags == tag], 5)
            for tag in (0, 1)
        ]
        timed(seconds["likelihoods (each of 2)"], models[0].log_likelihood, image)
        cut = timed(seconds["likelihoods and cut, OpenCV"], minimum_cut, image, *models)
        timed(seconds["5 refits and cuts, OpenCV"], refitted_cut, image, cut, *models, 5)
        peer = timed(seconds["likelihoods and cut, PyMaxflow"], reference, image, *models)
        own = energy(cut.foreground, image, *models)
        excess.append((energy(peer, image, *models) - own) / own)
        agreement.append(float((peer == cut.foreground).mean()))
    print("| step | mean | largest |\n|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {1000 * np.mean(values):.0f} ms | {1000 * max(values):.0f} ms |")
    ratio = np.sum(seconds["likelihoods and cut, PyMaxflow"]) / np.sum(
        seconds["likelihoods and cut, OpenCV"]
    )
    print(f"\nPyMaxflow / OpenCV: {ratio:.2f}x the time, same label on {np.mean(agreement):.2%} of")
    print(f"pixels, excess energy {min(excess):.0e} to {max(excess):.0e}\n")


def work(settings: GraphCutSettings, image: Image) -> bool:
    """Compute the cut of one image in a worker."""
    cv2.setNumThreads(0)
    return bool(cut_class(image, blob(*image.shape[:2]), settings).foreground.any())


def scaling(images: Sequence[Image]) -> None:
    """Print images per second by mode and number of processes.

    A process starts with seconds of imports. All images are therefore processed once before the
    measurement, and then once for each process.
    """
    print("| mode | processes | images per second | per core | largest memory of one |")
    print("|---|---|---|---|---|")
    cores = os.cpu_count() or 1
    counts = [count for count in (1, 2, 4, 8, 16, 32) if count <= cores]
    for mode, count in itertools.product(MODES, counts):
        function = partial(work, GraphCutSettings(mode=mode))
        items = [*images] * (1 + count)
        found = map_images(function, items, workers=count, what=mode)
        for _ in images:
            next(found)
        started = time.perf_counter()
        rate = len(list(found)) / (time.perf_counter() - started)
        who = resource.RUSAGE_SELF if count == 1 else resource.RUSAGE_CHILDREN
        memory = resource.getrusage(who).ru_maxrss / 1024
        print(f"| {mode} | {count} | {rate:.2f} | {rate / count:.2f} | {memory:.0f} MB |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--count", type=int, default=24, help="images")
    parser.add_argument("--size", type=int, nargs=2, default=(375, 500), help="height and width")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    height, width = options.size
    if options.images:
        files = sorted(options.images.glob("*.jpg"))[: options.count]
        images = [resize(read_rgb(path), (height, width)) for path in files]
    else:
        images = [drawn(height, width, seed) for seed in range(options.count)]
    kind = "photographs" if options.images else "drawn images"
    print(f"OpenCV {cv2.__version__}, {len(images)} {kind} of {height}x{width}, one class each\n")
    parts(images)
    scaling(images)


if __name__ == "__main__":
    main()
