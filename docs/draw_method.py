"""Draw the README's figure of the method from the results of the demo.

    snakemake --cores all
    python docs/draw_method.py results/demo docs/_static/method.png

Each row shows a train image whose pseudo-labels have the median mIoU of images with two classes.
The last columns show val images that are selected in the same way.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.datasets.manifest import (
    Manifest,
    Record,
    files_by_id,
    read_manifest,
    read_masks,
)
from pipeline.io.arrays import ClassMaps, maps_by_id, read_label
from pipeline.io.images import read_rgb
from pipeline.io.tables import read_table
from pipeline.refinement.labels import upsampled

METHOD = "puzzle/cam+rw/crf"
TITLES = (
    "image with its\nimage-level labels", "1. class activation\nmap (Puzzle-CAM)",
    "2. random walk\nover affinities",
    "3. dense CRF:\npseudo-label", "ground truth\n(scoring only)",
    "unseen image,\nno labels", "4. segmentation\nnetwork", "ground truth\n(scoring only)",
)  # fmt: skip
#: Colors of the demo's classes in labels and maps.
COLORS = {
    "redcap": "#d1495b", "goldcap": "#e0a100", "greencap": "#2e9e5b", "bluecap": "#2d7dd2",
    "violetcap": "#8e5bd6",
}  # fmt: skip
Image = NDArray[np.uint8]


def color_of(name: str) -> NDArray[np.float64]:
    """Return the color of a class as three values in [0, 1]."""
    return np.array(matplotlib.colors.to_rgb(COLORS[name]))


def colored_label(label: Image, classes: Sequence[str]) -> NDArray[np.float64]:
    """Return a label image as an (H, W, 3) color image with a light gray background."""
    colors = np.full((256, 3), 0.93)
    colors[1 : len(classes) + 1] = [color_of(name) for name in classes]
    return colors[label]


def colored_maps(maps: ClassMaps, image: Image, classes: Sequence[str]) -> NDArray[np.float64]:
    """Return a gray (H, W, 3) image with the strongest class's map over it."""
    gray = np.repeat(image.mean(axis=2, keepdims=True) / 255, 3, axis=2) * 0.35 + 0.6
    values = upsampled(maps)
    colors = np.array([color_of(classes[number - 1]) for number in maps.classes])
    strength = values.max(axis=0)[..., None]
    shown: NDArray[np.float64] = gray * (1 - strength) + colors[values.argmax(axis=0)] * strength
    return shown


def of_median_score(path: Path, records: Sequence[Record], count: int) -> list[Record]:
    """Select the images with two classes whose mIoU is nearest to the median of these.

    Parameters
    ----------
    path : Path
        Table with the scores of each image.
    records : sequence of Record
        The images.
    count : int
        Number of images.
    """
    scores = {row["id"]: float(row["miou"]) for row in read_table(path)}
    two = [record for record in records if len(record.labels) == 2]
    median = np.median([scores[record.id] for record in two])
    return sorted(two, key=lambda record: abs(scores[record.id] - median))[:count]


def draw(results: Path, rows: int = 2) -> Figure:
    """Draw one row for each image and one column for each step.

    Parameters
    ----------
    results : Path
        Folder of the demo's results.
    rows : int
        Number of images of each split.
    """
    data = read_manifest(results / "dataset/manifest.csv", results / "dataset/classes.json")
    figure, axes = plt.subplots(
        rows, len(TITLES) + 1, figsize=(12, 1.35 * rows + 0.75),
        width_ratios=[1, 1, 1, 1, 1, 0.35, 1, 1, 1], squeeze=False,
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_axis_off()
    for title, axis in zip(TITLES, [*axes[0][:5], *axes[0][6:]], strict=True):
        axis.set_title(title, fontsize=9)
    for row, panels in zip(axes, _panels(results, data, rows), strict=True):
        for axis, panel in zip([*row[:5], *row[6:]], panels, strict=True):
            axis.imshow(panel, interpolation="nearest")
    figure.subplots_adjust(0.005, 0.02, 0.995, 1 - 0.5 / figure.get_figheight(), 0.06, 0.06)
    return figure


def _panels(results: Path, data: Manifest, rows: int) -> list[list[Any]]:
    scores = results / "scores"
    train = of_median_score(
        scores / f"pseudo_labels/{METHOD}/train.csv", data.of_split("train"), rows
    )
    val = of_median_score(scores / f"predictions/{METHOD}/val.csv", data.of_split("val"), rows)
    root = results.parents[1]
    masks = read_masks(results / "dataset/masks.csv")
    return [
        [
            *_train_panels(results, root, data.classes, one),
            _label(root / masks[one.id].path, data.classes),
            *_val_panels(results, root, data.classes, other),
            _label(root / masks[other.id].path, data.classes),
        ]
        for one, other in zip(train, val, strict=True)
    ]


def _label(path: Path, classes: Sequence[str]) -> NDArray[np.float64]:
    return colored_label(read_label(path), classes)


def _train_panels(results: Path, root: Path, classes: Sequence[str], record: Record) -> list[Any]:
    image = read_rgb(root / record.image)
    classifier, walked, _ = METHOD.split("/")
    panels: list[Any] = [image]
    for maps in (walked.partition("+")[0], walked):
        shards = sorted((results / f"maps/{classifier}/{maps}/train").glob("*.safetensors"))
        panels.append(colored_maps(maps_by_id(shards)[record.id][record.id], image, classes))
    labels = _file(results / f"pseudo_labels/{METHOD}/train", record)
    return [*panels, _label(labels, classes)]


def _val_panels(results: Path, root: Path, classes: Sequence[str], record: Record) -> list[Any]:
    predicted = _file(results / f"predictions/{METHOD}/val", record)
    return [read_rgb(root / record.image), _label(predicted, classes)]


def _file(shards: Path, record: Record) -> Path:
    folders = [path for path in shards.iterdir() if path.is_dir()]
    return files_by_id([record.id], folders)[record.id]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder of the demo's results")
    parser.add_argument("figure", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    matplotlib.use("agg")
    draw(arguments.results.resolve()).savefig(arguments.figure, dpi=110)
    # A palette of 256 colors makes the file a third as large.
    image = PIL.Image.fromarray(read_rgb(arguments.figure)).quantize(256)
    image.save(arguments.figure, optimize=True)
