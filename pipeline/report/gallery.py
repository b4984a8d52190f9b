"""The gallery: selected images with ground truth, maps, labels and predictions as layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config.upper_bound import display_name
from pipeline.datasets.manifest import Manifest, Record
from pipeline.datasets.masks import Mask
from pipeline.io.arrays import ClassMaps, MapShard, maps_by_id, read_made_label
from pipeline.io.images import read_rgb
from pipeline.refinement.graph_cut import GraphCutSettings, tag_pixels
from pipeline.refinement.labels import upsampled
from pipeline.report.drawing import data_url, thumbnail
from pipeline.report.inputs import ImageScore
from pipeline.report.layers import label_layer, map_layer, tag_layer
from pipeline.report.selection import Choice, image_groups, in_order
from pipeline.runtime.progress import progress

#: Images of each split that browsers without scripts show as a row.
ROWS = 3
#: Setting of the gallery that shows every image, and the images per group in front of the others.
ALL, FIRST = "all", 4


@dataclass(frozen=True)
class Layer:
    """A transparent layer over an image.

    Attributes
    ----------
    kind : {"ground_truth", "map", "samples", "label"}
        ``samples`` are the pixels that a graph cut's color models are fitted to.
    method : str
        CLASSIFIER/MAPS, CLASSIFIER/MAPS/REFINEMENT or the display text of the upper bound;
        empty for the ground truth.
    caption : str
    url : str
        Data URL of a transparent PNG.
    """

    kind: str
    method: str
    caption: str
    url: str


@dataclass(frozen=True)
class Card:
    """An image of the gallery with its labels, groups and layers."""

    image_id: str
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    image: str
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Number of characters of its data URLs in the page's data."""
        return len(self.image) + sum(len(layer.url) for layer in self.layers)

    @property
    def row_size(self) -> int:
        """Number of characters of its data URLs as a row, which repeats the image per layer."""
        return self.size + len(self.layers) * len(self.image)


@dataclass(frozen=True)
class Split:
    """Files and scores of one split for the gallery.

    Attributes
    ----------
    maps : mapping of str to sequence of Path
        Map shards by method.
    labels : mapping of str to sequence of Path
        Folders of label images (pseudo-labels or predictions) by method.
    scores : mapping of str to mapping
        Scores of images by method of ``labels``; empty without ground truth.
    best : str or None
        The method with the highest score.
    used : str or None
        The first method whose labels are exported, or that a segmentation network learns.
    doubts : mapping of str to mapping
        Doubt by method and image id.
    doubtful : sequence of sequence of str
        For each method, ids of the most doubtful images.
    cuts : mapping of str to GraphCutSettings
        By method of maps: settings of the graph cut that refines them.
    """

    maps: Mapping[str, Sequence[Path]]
    labels: Mapping[str, Sequence[Path]]
    scores: Mapping[str, Mapping[str, ImageScore]] = field(default_factory=dict)
    best: str | None = None
    used: str | None = None
    doubts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    doubtful: Sequence[Sequence[str]] = ()
    cuts: Mapping[str, GraphCutSettings] = field(default_factory=dict)


def gallery_choices(
    manifest: Manifest, splits: Mapping[str, Split], count: int | str
) -> list[Choice]:
    """Select the images to show, the most important first.

    Parameters
    ----------
    manifest : Manifest
    splits : mapping of str to Split
    count : int or {"all"}
        Images per group, see :func:`pipeline.report.selection.image_groups`. ``"all"`` adds
        every further image of the splits, in the manifest's order.
    """
    per_group = FIRST if isinstance(count, str) else count
    chosen = in_order(
        {
            name: image_groups(
                manifest.of_split(name),
                manifest.classes,
                split.scores[split.best] if split.best else {},
                split.doubtful,
                per_group,
            )
            for name, split in splits.items()
        }
    )
    return [*chosen, *_further(manifest, splits, chosen)] if count == ALL else chosen


def _further(
    manifest: Manifest, splits: Mapping[str, Split], chosen: Sequence[Choice]
) -> list[Choice]:
    """Return the images of the splits that are not chosen yet."""
    known = {(choice.split, choice.image_id) for choice in chosen}
    every = ((name, record.id) for name in splits for record in manifest.of_split(name))
    return [Choice(*key, ()) for key in every if key not in known]


def gallery_cards(
    manifest: Manifest,
    masks: Mapping[str, Mask],
    splits: Mapping[str, Split],
    choices: Sequence[Choice],
    budget: float,
) -> dict[str, list[Card]]:
    """Draw images with all their layers until a size budget is used up.

    Parameters
    ----------
    manifest : Manifest
    masks : mapping of str to Mask
        Ground truth by image id.
    splits : mapping of str to Split
    choices : sequence of Choice
        Images, the most important first.
    budget : float
        Maximum number of characters of all data URLs, including the first :data:`ROWS` rows.

    Returns
    -------
    dict of str to list of Card
        Drawn images by split.
    """
    records = {record.id: record for record in manifest.records}
    shards = {
        name: {method: maps_by_id(paths) for method, paths in split.maps.items()}
        for name, split in splits.items()
    }
    cards: dict[str, list[Card]] = {name: [] for name in splits}
    for choice in progress(choices, total=len(choices), what="images of the gallery"):
        record, split = records[choice.image_id], splits[choice.split]
        image = thumbnail(read_rgb(record.image))
        size = image.shape[0], image.shape[1]
        layers = [
            *_ground_truth(masks, record, size),
            *_maps(shards[choice.split], split, record, manifest.classes, size),
            *_labels(split, record, size),
        ]
        card = Card(record.id, record.labels, choice.groups, data_url(image), tuple(layers))
        budget -= card.size
        if len(cards[choice.split]) < ROWS:
            budget -= card.row_size
        if budget < 0:
            break
        cards[choice.split].append(card)
    return cards


def _ground_truth(masks: Mapping[str, Mask], record: Record, size: tuple[int, int]) -> list[Layer]:
    if record.id not in masks:
        return []
    url = label_layer(masks[record.id].read(), size)
    return [Layer("ground_truth", "", "ground truth", url)]


def _maps(
    shards: Mapping[str, Mapping[str, MapShard]],
    split: Split,
    record: Record,
    classes: Sequence[str],
    size: tuple[int, int],
) -> list[Layer]:
    layers = []
    for method, by_id in shards.items():
        if record.id in by_id:
            maps = by_id[record.id][record.id]
            layers.append(Layer("map", method, f"{method}: map", map_layer(maps)))
            if method in split.cuts:
                layers += _samples(method, maps, classes, size, split.cuts[method])
    return layers


def _samples(
    method: str,
    maps: ClassMaps,
    classes: Sequence[str],
    size: tuple[int, int],
    settings: GraphCutSettings,
) -> list[Layer]:
    """Draw for each class the pixels that its graph cut's color models are fitted to."""
    return [
        Layer(
            "samples",
            method,
            f"{method}: color samples of {classes[number - 1]}",
            tag_layer(tag_pixels(strength, settings), size),
        )
        for number, strength in zip(maps.classes, upsampled(maps), strict=True)
    ]


def _labels(split: Split, record: Record, size: tuple[int, int]) -> list[Layer]:
    layers = []
    for method, folders in split.labels.items():
        files = (folder / f"{record.id}.png" for folder in folders)
        file = next((path for path in files if path.is_file()), None)
        if file is not None:
            label = read_made_label(file, (record.height, record.width))
            name = display_name(method)
            layers.append(Layer("label", name, name, label_layer(label, size)))
    return layers
