"""Comparison of class maps: a table of figures, and images with the boxes from each map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.datasets.manifest import Box, Manifest, Record
from pipeline.datasets.masks import Mask
from pipeline.io import tables
from pipeline.io.arrays import ClassMaps, maps_by_id
from pipeline.io.images import read_rgb
from pipeline.metrics.ground_truth_boxes import true_boxes
from pipeline.metrics.localization import Boxes, map_boxes
from pipeline.refinement.labels import upsampled
from pipeline.report.drawing import RgbImage, data_url, thumbnail, with_boxes, with_map

#: Columns of the table: name in the file, heading, factor (100 for shares), higher is better.
COLUMNS = (
    ("miou", "mIoU", 100, True),
    ("pxap", "PxAP", 100, True),
    ("gt_known_loc", "GT-known Loc", 100, True),
    ("max_box_acc", "MaxBoxAcc", 100, True),
    ("max_box_acc_v2", "MaxBoxAccV2", 100, True),
    ("top1_cls_error", "Top-1 Cls error", 100, False),
    ("top1_loc_error", "Top-1 Loc error", 100, False),
    ("top5_loc_error", "Top-5 Loc error", 100, False),
    ("average_drop", "Average Drop", 100, False),
    ("increase", "Increase", 100, True),
    ("win", "Win", 100, True),
    ("deletion", "Deletion area", 100, False),
    ("insertion", "Insertion area", 100, True),
    ("seconds_per_image", "ms per image", 1000, False),
)
TRUE, PREDICTED = (60, 200, 90), (90, 190, 255)


@dataclass(frozen=True)
class Cell:
    """One image of a row: caption and data URL."""

    caption: str
    url: str


@dataclass(frozen=True)
class Row:
    """The drawings of one class of one image."""

    name: str
    image_id: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Figure:
    """One cell of the table: its text, and whether no other method has a better value."""

    text: str
    best: bool


@dataclass(frozen=True)
class Comparison:
    """The table (headings, and figures by method) and the image rows below it."""

    headings: tuple[str, ...]
    figures: Mapping[str, Sequence[Figure]]
    rows: Sequence[Row]


def read_table(path: Path) -> tuple[tuple[str, ...], dict[str, list[Figure]]]:
    """Read the table of the rule ``compare_attributions`` without its empty columns.

    Returns
    -------
    headings : tuple of str
    figures : dict of str to list of Figure
        Figures by method. Win is a share among the maps of one classifier; values of
        different classifiers cannot be compared, so none is marked as best.
    """
    rows = tables.read_table(path, needed=("method",), numbers=[column[0] for column in COLUMNS])
    columns = [column for column in COLUMNS if any(row[column[0]] for row in rows)]
    figures: dict[str, list[Figure]] = {row["method"]: [] for row in rows}
    for name, _, factor, higher in columns:
        values = {row["method"]: float(row[name]) for row in rows if row[name]}
        texts = {method: f"{factor * value:.1f}" for method, value in values.items()}
        best = (max if higher else min)(map(float, texts.values()))
        for method, cells in figures.items():
            text = texts.get(method, "")
            is_best = bool(text) and float(text) == best and name != "win"
            cells.append(Figure(text, is_best))
    return tuple(column[1] for column in columns), figures


def comparison_rows(
    manifest: Manifest,
    records: Sequence[Record],
    maps: Mapping[str, Sequence[Path]],
    *,
    masks: Mapping[str, Mask],
    boxes: Mapping[str, Sequence[Box]],
    threshold: float,
) -> list[Row]:
    """Draw one class of each image: the true boxes, and each method's map with its box.

    Parameters
    ----------
    manifest : Manifest
    records : sequence of Record
        The images; images without a label are left out.
    maps : mapping of str to sequence of Path
        Shards by method.
    masks, boxes : mapping by image id
        The ground truth, where it exists.
    threshold : float
        Share of a map's maximum above which its box is drawn.
    """
    shards = {method: maps_by_id(paths) for method, paths in maps.items()}
    rows = []
    for record in records:
        if not record.labels:
            continue
        mask = masks[record.id].read() if record.id in masks else None
        true = true_boxes(record, manifest.classes, boxes.get(record.id), mask)
        number = min(true or manifest.class_numbers(record).tolist())
        image = thumbnail(read_rgb(record.image))
        size = (record.height, record.width)
        shown = with_boxes(image, true.get(number, np.zeros((0, 4))), size, TRUE)
        cells = [Cell("image, true boxes", data_url(shown))]
        for method, by_id in shards.items():
            drawn = _map_with_box(image, by_id[record.id][record.id], number, threshold)
            cells.append(Cell(method, data_url(drawn)))
        name = manifest.classes[number - 1]
        rows.append(Row(name, record.id, tuple(cells)))
    return rows


def _map_with_box(image: RgbImage, maps: ClassMaps, number: int, threshold: float) -> RgbImage:
    own = maps.classes == number
    full = None if maps.full is None else maps.full[own]
    single = ClassMaps(maps.classes[own], maps.values[own], maps.size, full=full)
    box: Boxes = map_boxes(upsampled(single)[0], threshold)[:1]
    return with_boxes(with_map(image, single), box, maps.size, PREDICTED)
