"""The report's section of possible label errors: thumbnails, and the class maps of wrong labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from pipeline.datasets.manifest import Manifest, Record
from pipeline.io.arrays import ClassMaps, MapShard, maps_by_id
from pipeline.io.images import read_rgb
from pipeline.metrics.label_error_table import read_label_errors
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
    """The possible errors of one kind: their number, and those that are shown."""

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
        Whether the scores are of images that the classifier was trained on.
    folds : int
    not_judged : sequence of str
        Classes with too few images.
    method : str or None
        The method of the maps, CLASSIFIER/MAPS; None if there are no maps.
    groups : sequence of ErrorGroup
    """

    classifier: str
    in_sample: bool
    folds: int
    not_judged: Sequence[str]
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
    first = {kind: [e for e in found if e.kind == kind and e.rank <= shown] for kind in KINDS}
    cards = drawing.cards(first, budget)
    known = judged_classes(manifest.targets(manifest.of_split("train")), folds)
    return LabelErrors(
        classifier=classifier,
        in_sample=config["classifiers"][classifier]["kind"] == "network",
        folds=folds,
        not_judged=[n for n, judged in zip(manifest.classes, known, strict=True) if not judged],
        method=method,
        groups=[
            ErrorGroup(*TEXTS[kind], sum(e.kind == kind for e in found), cards[kind])
            for kind in KINDS
        ],
    )


class _Drawing:
    """Draws possible errors with the maps of their classes."""

    def __init__(self, manifest: Manifest, shards: Mapping[str, MapShard]) -> None:
        self.manifest = manifest
        self.records = {record.id: record for record in manifest.records}
        self.shards = shards

    def cards(
        self, errors: Mapping[Kind, Sequence[LabelError]], budget: int
    ) -> dict[Kind, list[ErrorCard]]:
        """Draw errors of all kinds in turn, by rank, until the budget is spent."""
        cards: dict[Kind, list[ErrorCard]] = {kind: [] for kind in errors}
        spent = 0
        for error in chain.from_iterable(zip_longest(*errors.values())):
            if error is None:
                continue
            card = self._card(error)
            spent += len(card.image) + len(card.map or "")
            if spent > budget:
                break
            cards[error.kind].append(card)
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
