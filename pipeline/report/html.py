"""Rendering of templates into self-contained HTML pages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.config.upper_bound import display_name

ASSETS = Path(__file__).parent
#: Display text of the settings in score files; other keys are shown unchanged.
SETTINGS = {
    "score_list": "train images that are scored",
    "image_labels_given": "image-level labels given",
    "max_size": "long side at most",
    "trained_on": "network trained on",
    "random_walk": "random walk",
}


def render(template: str, **context: Any) -> str:
    """Return a self-contained HTML document. Equal contexts give identical bytes.

    Parameters
    ----------
    template : str
        A file of this folder. Its filters are :func:`percent`, :func:`duration`, :func:`plain`,
        :func:`setting`, :func:`embedded` and ``method``
        (:func:`pipeline.config.upper_bound.display_name`); ``asset(NAME)`` returns the text of a
        style sheet or script of this folder.
    **context
        The template's variables. A missing variable is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "duration": duration,
        "plain": plain,
        "setting": setting,
        "embedded": embedded,
        "method": display_name,
    }
    environment.globals["asset"] = _asset
    return environment.get_template(template).render(**context)


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


def embedded(document: Any) -> Markup:
    """Return a document as JSON for a script element; ``<`` is escaped to keep it closed."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped as JSON allows


def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text(encoding="utf-8"))  # noqa: S704 - our own
