"""Pages: templates, and the files that are written into them so that a page is one file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent
#: How settings of a score are worded for a reader; other keys are shown as they are.
SETTINGS = {
    "image_labels_given": "image-level labels given",
    "max_size": "long side at most",
    "trained_on": "network trained on",
    "random_walk": "random walk",
    "train_split_scored_on": "train split scored on",
}


def render(template: str, **context: Any) -> str:
    """Give an HTML document that needs no other file. The same context gives the same bytes.

    Parameters
    ----------
    template : str
        A file of this folder; filters are :func:`percent`, :func:`duration`, :func:`plain`,
        :func:`setting` and :func:`embedded`, and ``asset(NAME)`` is the text of a style sheet or
        script of this folder.
    **context
        What the template names; a name that is lacking is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
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
    }
    environment.globals["asset"] = _asset
    return environment.get_template(template).render(**context)


def percent(value: float | None) -> str:
    """Word a share in [0, 1] as a percentage with one digit, or n/a for none."""
    return "n/a" if value is None else f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Word seconds as minutes and seconds, or hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def setting(key: str) -> str:
    """Return the words for a setting's key."""
    return SETTINGS.get(key, key)


def plain(value: Any) -> str:
    """Word a setting: mappings as ``key value`` pairs, none as "none"."""
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
    """Write a document as JSON that no text in it can end the script element of."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped as JSON allows


def _asset(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))  # noqa: S704 - our own
