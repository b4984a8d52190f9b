"""Rows of pictures: the photograph, its truth, maps, pseudo-labels and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifacts import ClassMaps, MapShard, read_label
from pipeline.datasets.manifest import Manifest, Record
from pipeline.images import read_rgb
from pipeline.refinement.graph_cut import GraphCutSettings, tag_pixels
from pipeline.refinement.labels import upsampled
from pipeline.report.pictures import (
    Picture,
    data_url,
    thumbnail,
    with_label,
    with_map,
    with_tags,
)


@dataclass(frozen=True)
class Cell:
    """One picture of a row: its caption and its data URL."""

    caption: str
    url: str


@dataclass(frozen=True)
class Row:
    """Pictures of one image; ``group`` says why it is shown."""

    group: str
    image_id: str
    labels: tuple[str, ...]
    score: float | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Layers:
    """Where the layers of a split's pictures are.

    Attributes
    ----------
    masks : mapping of str to Path
        Ground truth by image id.
    maps : mapping of str to list of Path
        Map shards by method.
    labels : mapping of str to list of Path
        Folders of label images by caption.
    cuts : mapping of str to GraphCutSettings
        Of maps (by method) that a graph cut refines: how it tags pixels.
    """

    masks: Mapping[str, Path]
    maps: Mapping[str, Sequence[Path]]
    labels: Mapping[str, Sequence[Path]]
    cuts: Mapping[str, GraphCutSettings] = field(default_factory=dict)


def gallery_rows(
    manifest: Manifest,
    chosen: Mapping[str, Sequence[str]],
    scores: Mapping[str, float],
    layers: Layers,
) -> list[Row]:
    """Draw the chosen images with all their layers.

    Parameters
    ----------
    manifest : Manifest
    chosen : mapping of str to sequence of str
        Image ids by group.
    scores : mapping of str to float
        mIoU by image id, shown beside the picture.
    layers : Layers

    Returns
    -------
    list of Row
    """
    records = {record.id: record for record in manifest.records}
    shards = {
        method: {image_id: shard for shard in map(MapShard, paths) for image_id in shard.ids}
        for method, paths in layers.maps.items()
    }
    return [
        Row(
            group,
            name,
            records[name].labels,
            scores.get(name),
            _cells(records[name], manifest.classes, shards, layers),
        )
        for group, ids in chosen.items()
        for name in ids
    ]


def _cells(
    record: Record,
    classes: Sequence[str],
    shards: Mapping[str, Mapping[str, MapShard]],
    layers: Layers,
) -> tuple[Cell, ...]:
    photograph = thumbnail(read_rgb(record.image))
    cells = [Cell("photograph", data_url(photograph))]
    if record.id in layers.masks:
        truth = with_label(photograph, read_label(layers.masks[record.id]))
        cells.append(Cell("truth", data_url(truth)))
    for method, by_id in shards.items():
        if record.id in by_id:
            maps = by_id[record.id][record.id]
            cells.append(Cell(f"{method}: map", data_url(with_map(photograph, maps))))
            if method in layers.cuts:
                cells += _tag_cells(method, maps, classes, photograph, layers.cuts[method])
    for caption, folders in layers.labels.items():
        files = (folder / f"{record.id}.png" for folder in folders)
        file = next((path for path in files if path.is_file()), None)
        if file is not None:
            cells.append(Cell(caption, data_url(with_label(photograph, read_label(file)))))
    return tuple(cells)


def _tag_cells(
    method: str,
    maps: ClassMaps,
    classes: Sequence[str],
    photograph: Picture,
    settings: GraphCutSettings,
) -> list[Cell]:
    """Show for each class which pixels taught its graph cut the colours."""
    cells = []
    for number, strength in zip(maps.classes, upsampled(maps), strict=True):
        picture = with_tags(photograph, tag_pixels(strength, settings))
        caption = f"{method}: colour samples of {classes[number - 1]}"
        cells.append(Cell(caption, data_url(picture)))
    return cells
