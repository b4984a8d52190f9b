"""Formats of numbers and settings in pages and on data cards."""

from collections.abc import Mapping
from typing import Any

#: Display text of the settings in score files; other keys are shown unchanged.
SETTINGS = {
    "score_list": "train images that are scored",
    "image_labels_given": "image-level labels given",
    "max_size": "long side at most",
    "trained_on": "network trained on",
    "random_walk": "random walk",
    "fuse": "averaged over scales",
    "crf_classes": "classes of the CRF",
}


def percent(value: float | None) -> str:
    """Format a share in [0, 1] as a percentage with one decimal place; None as "n/a"."""
    return "n/a" if value is None else f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Format seconds as minutes and seconds, or as hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def setting(key: str) -> str:
    """Return the display text of a setting's key."""
    return SETTINGS.get(key, key)


def plain(value: Any) -> str:
    """Format a setting's value: mappings as ``key value`` pairs, None as "none"."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    return str(value)
