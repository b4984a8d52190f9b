"""Rendering of templates into self-contained HTML pages."""

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.config.upper_bound import display_name
from pipeline.report.text import duration, percent, plain, setting

ASSETS = Path(__file__).parent


def render(template: str, **context: Any) -> str:
    """Return a self-contained HTML document. Equal contexts give identical bytes.

    Parameters
    ----------
    template : str
        A file of this folder. Its filters are the functions of :mod:`pipeline.report.text`,
        :func:`embedded`, :func:`code` and ``method``
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
        "code": code,
    }
    environment.globals["asset"] = _asset
    return environment.get_template(template).render(**context)


def code(text: str) -> Markup:
    """Return a text as HTML in which what is between backticks is code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


def embedded(document: Any) -> Markup:
    """Return a document as JSON for a script element; ``<`` is escaped to keep it closed."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped as JSON allows


def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text(encoding="utf-8"))  # noqa: S704 - our own
