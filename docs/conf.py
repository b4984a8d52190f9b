"""Settings of the documentation: `sphinx-build -W -n docs docs/_build/html`."""

import sys
import tomllib
from pathlib import Path
from types import GenericAlias
from typing import Any

DOCS = Path(__file__).parent
REPOSITORY = DOCS.parent
# Document the modules of this checkout, even if another version is installed.
sys.path[:0] = [str(REPOSITORY), str(DOCS / "_ext")]

project = "WSSS pipeline"
author = "The WSSS pipeline authors"
copyright = f"2026, {author}"
release = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "version"
]
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "configuration_reference",
]
exclude_patterns = ["_build", "_ext"]
templates_path = ["_templates"]
suppress_warnings = ["myst.xref_ambiguous"]

# Every link is checked: `-n` reports broken links, and `-W` makes them errors. Names of other
# projects are ignored, because the build needs no network and so fetches no inventory.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!pipeline\b).*"),
    # Private helpers and type aliases of the package itself have no entry.
    (r"py:.*", r"pipeline\..*\._.*"),
]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections state types, with shapes and ranges
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars: dict[str, list[str]] = {"index": []}
copybutton_exclude = ".linenos, .gp"


def skip_others(
    _app: Any, _what: str, _name: str, value: object, skip: bool, _options: Any
) -> bool | None:
    """Leave out aliases of types and imported classes, whose signatures autodoc cannot format."""
    imported = isinstance(value, type) and not value.__module__.startswith("pipeline")
    return True if imported or isinstance(value, GenericAlias) else skip or None


def setup(app: Any) -> None:
    """Connect the handlers of this file."""
    app.connect("autodoc-skip-member", skip_others)
