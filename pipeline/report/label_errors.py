"""The report's section of possible label errors: thumbnails, and the class maps of wrong labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product, zip_longest
from pathlib import Path
from typing import Any

from pipeline.datasets.manifest import Manifest, Record
from pipeline.io.arrays import ClassMaps, MapShard, maps_by_id
from pipeline.io.images import read_rgb
from pipeline.metrics.label_error_table import SPLITS, read_label_errors
from pipeline.metrics.label_errors import KINDS, Kind, LabelError, judged_classes
from pipeline.report.drawing import data_url, thumbnail, with_map

#: Heading and description of each kind.
TEXTS: Mapping[Kind, tuple[str, str]] = {
    "wrong": ("Labeled, but not found", "probability that the class is absent"),
    "missing": ("Found, but not labeled", "probability that the class is present"),
}


@dataclass(frozen=True)
class ErrorCard:
    """One possible error.

    Attributes
    ----------
    error : LabelError
    labels : tuple of str
        The labels of the image in the table.
    image : str
        Data URL of the thumbnail.
    map : str or None
        Data URL of the thumbnail with the class's map; None if there is no map of the class.
    """

    error: LabelError
    labels: tuple[str, ...]
    image: str
    map: str | None


@dataclass(frozen=True)
class ErrorGroup:
    """The possible errors of one kind and split: their number, and those that are shown.

    ``judged`` is whether any class of the split has enough images.
    """

    split: str
    judged: bool
    title: str
    meaning: str
    found: int
    cards: Sequence[ErrorCard]


@dataclass(frozen=True)
class LabelErrors:
    """The content of the section.

    Attributes
    ----------
    classifier : str
    in_sample : bool
        Whether the scores of train are of images that the classifier was trained on.
    folds : int
    not_judged : mapping of str to sequence of str
        Classes with too few images, by split; without val if there is no val image.
    method : str or None
        The method of the maps, CLASSIFIER/MAPS; None if there are no maps.
    groups : sequence of ErrorGroup
    """

    classifier: str
    in_sample: bool
    folds: int
    not_judged: Mapping[str, Sequence[str]]
    method: str | None
    groups: Sequence[ErrorGroup]

    @property
    def characters(self) -> int:
        """Number of characters of all images."""
        cards = chain.from_iterable(group.cards for group in self.groups)
        return sum(len(card.image) + len(card.map or "") for card in cards)


def read_section(
    tables: Sequence[Path],
    manifest: Manifest,
    config: Mapping[str, Any],
    maps: Mapping[str, Sequence[Path]],
    budget: int,
) -> LabelErrors | None:
    """Read and draw the possible errors of image-level labels.

    Parameters
    ----------
    tables : sequence of Path
        At most one table of :func:`pipeline.metrics.label_error_table.write_label_errors`.
    manifest : Manifest
    config : mapping
        The resolved configuration: ``label_errors`` and ``classifiers``.
    maps : mapping of str to sequence of Path
        Shards of the maps of train by method.
    budget : int
        Maximum number of characters of all images.

    Returns
    -------
    LabelErrors or None
        None without a table.
    """
    if not tables:
        return None
    settings = config["label_errors"]
    classifier, folds, shown = (settings[key] for key in ("classifier", "folds", "shown"))
    found = read_label_errors(tables[0])
    method = next((name for name in maps if name.split("/")[0] == classifier), None)
    drawing = _Drawing(manifest, maps_by_id(maps[method]) if method else {})
    splits = [split for split in SPLITS if manifest.of_split(split)]
    groups = {
        (split, kind): [e for e in found if (e.split, e.kind) == (split, kind)]
        for split, kind in product(splits, KINDS)
    }
    cards = drawing.cards([errors[:shown] for errors in groups.values()], budget)
    not_judged = {split: _not_judged(manifest, split, folds) for split in splits}
    return LabelErrors(
        classifier=classifier,
        in_sample=config["classifiers"][classifier]["kind"] == "network",
        folds=folds,
        not_judged=not_judged,
        method=method,
        groups=[
            ErrorGroup(
                split,
                len(not_judged[split]) < len(manifest.classes),
                *TEXTS[kind],
                len(errors),
                drawn,
            )
            for ((split, kind), errors), drawn in zip(groups.items(), cards, strict=True)
        ],
    )


def _not_judged(manifest: Manifest, split: str, folds: int) -> list[str]:
    """Return the classes that too few images of a split have or lack."""
    judged = judged_classes(manifest.targets(manifest.of_split(split)), folds)
    return [name for name, known in zip(manifest.classes, judged, strict=True) if not known]


class _Drawing:
    """Draws possible errors with the maps of their classes."""

    def __init__(self, manifest: Manifest, shards: Mapping[str, MapShard]) -> None:
        self.manifest = manifest
        self.records = {record.id: record for record in manifest.records}
        self.shards = shards

    def cards(self, groups: Sequence[Sequence[LabelError]], budget: int) -> list[list[ErrorCard]]:
        """Draw errors of all groups in turn, by rank, until the budget is spent."""
        cards: list[list[ErrorCard]] = [[] for _ in groups]
        spent = 0
        for row in zip_longest(*groups):
            for drawn, error in zip(cards, row, strict=True):
                if error is None:
                    continue
                card = self._card(error)
                spent += len(card.image) + len(card.map or "")
                if spent > budget:
                    return cards
                drawn.append(card)
        return cards

    def _card(self, error: LabelError) -> ErrorCard:
        record = self.records[error.image]
        image = thumbnail(read_rgb(record.image))
        own = self._map(record, error.label)
        drawn = None if own is None else data_url(with_map(image, own))
        return ErrorCard(error, record.labels, data_url(image), drawn)

    def _map(self, record: Record, label: str) -> ClassMaps | None:
        """Return the map of one class of an image; None if it has none."""
        if record.id not in self.shards:
            return None
        maps = self.shards[record.id][record.id]
        own = maps.classes == self.manifest.classes.index(label) + 1
        return ClassMaps(maps.classes[own], maps.values[own], maps.size) if own.any() else None
