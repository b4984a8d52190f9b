"""The data of the page's scripts: one JSON document."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.upper_bound import display_name
from pipeline.datasets.manifest import Manifest
from pipeline.report.drawing import palette_colors
from pipeline.report.gallery import Card, Split
from pipeline.report.inputs import KINDS, ImageScore

#: Decimal places kept for shares; the page shows three.
DIGITS = 4


def page_data(
    manifest: Manifest,
    scores: Sequence[Mapping[str, Any]],
    splits: Mapping[str, Split],
    cards: Mapping[str, Sequence[Card]],
    experiment: str,
) -> dict[str, Any]:
    """Return the data that the scripts show: scores by class, and the gallery's images.

    Parameters
    ----------
    manifest : Manifest
    scores : sequence of dict
        Score documents.
    splits : mapping of str to Split
    cards : mapping of str to sequence of Card
        By split.
    experiment : str
        Name of the experiment, part of the key of its review.

    Returns
    -------
    dict
        ``classes`` (name and color, without the background), ``scores`` (``miou`` and
        ``classes``, with the background), ``splits`` (methods, and ``images`` whose ``scores``
        and ``doubts`` are in the order of ``labels``), ``review`` (the key under which a browser
        keeps the review of these labels).
    """
    return {
        "classes": [
            {"name": name, "color": color}
            for name, color in zip(manifest.classes, class_colors(manifest), strict=True)
        ],
        "scores": [_class_scores(score) for score in scores],
        "splits": {name: _split(split, cards[name]) for name, split in splits.items()},
        "review": {"key": f"{experiment}/{_labels_digest(cards)}"},
    }


def _labels_digest(cards: Mapping[str, Sequence[Card]]) -> str:
    """Return a digest of the labels that the gallery shows: other labels need other verdicts."""
    labels = [
        [split, card.image_id, layer.method, layer.url]
        for split, shown in cards.items()
        for card in shown
        for layer in card.layers
        if layer.kind == "label"
    ]
    return hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16]


def class_colors(manifest: Manifest) -> list[str]:
    """Return the palette's color of each class as a CSS color."""
    colors = palette_colors()[1 : len(manifest.classes) + 1].tolist()
    return [f"rgb({red}, {green}, {blue})" for red, green, blue in colors]


def _class_scores(score: Mapping[str, Any]) -> dict[str, Any]:
    absent = score["absent_classes"]
    return {
        "name": f"{display_name(score['method'])} ({KINDS[score['kind']]}, {score['split']})",
        "kind": score["kind"],
        "miou": _rounded(score["miou"]),
        "classes": [
            {"name": row["name"], "iou": None if row["name"] in absent else _rounded(row["iou"])}
            for row in score["classes"]
        ],
    }


def _split(split: Split, cards: Sequence[Card]) -> dict[str, Any]:
    methods = list(split.labels)
    return {
        "maps": list(split.maps),
        "labels": list(map(display_name, methods)),
        # A bad verdict changes exports and what networks learn, so it is about their labels.
        "first": display_name(split.used or split.best or methods[0]) if methods else None,
        "images": [_image_data(card, split, methods) for card in cards],
    }


def _image_data(card: Card, split: Split, methods: Sequence[str]) -> dict[str, Any]:
    doubts = (split.doubts.get(method, {}).get(card.image_id) for method in methods)
    scores = (split.scores.get(method, {}).get(card.image_id) for method in methods)
    return {
        "id": card.image_id,
        "labels": card.labels,
        "groups": card.groups,
        "url": card.image,
        "layers": [vars(layer) for layer in card.layers],
        "scores": [_image_score(score) for score in scores],
        "doubts": [_rounded(doubt) for doubt in doubts],
    }


def _image_score(score: ImageScore | None) -> dict[str, Any] | None:
    if score is None:
        return None
    ious = {name: _rounded(iou) for name, iou in score.classes.items()}
    return {"miou": _rounded(score.miou), "ious": ious}


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, DIGITS)
