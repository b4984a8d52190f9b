"""The reference of all configuration keys, generated from the schema while the site is built.

A page that holds the line ``<!-- configuration reference -->`` gets it in that place.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.config.resolve import SCHEMA

MARK = "<!-- configuration reference -->"
Schema = Mapping[str, Any]


@dataclass
class Section:
    """An object of the schema and every place of the configuration that it describes.

    Attributes
    ----------
    schema : mapping
        The object's own schema.
    paths : list of str
        Dotted places, for example ``classifiers.NAME.puzzle``; the first names the section.
    """

    schema: Schema
    paths: list[str] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """Name of the section's link target."""
        return anchor_of(self.paths[0])


def anchor_of(path: str) -> str:
    """Return the link target of a dotted place."""
    return "-".join(["config", *re.findall(r"\w+", path.lower() or "top level")])


def resolved(schema: Schema, root: Schema) -> dict[str, Any]:
    """Return a schema with its reference replaced; its own keys win."""
    if "$ref" not in schema:
        return dict(schema)
    target = resolved(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    return target | {key: value for key, value in schema.items() if key != "$ref"}


def sections(root: Schema) -> list[Section]:
    """Collect the objects of a schema in the order in which they are met, each once.

    Parameters
    ----------
    root : mapping
        The whole schema.

    Returns
    -------
    list of Section
        The top level first. An object that is used in several places lists them all.
    """
    found: dict[int, Section] = {}

    def visit(schema: Schema, path: str) -> None:
        whole = resolved(schema, root)
        identity = id(whole.get("properties", whole.get("oneOf")))
        if "properties" in whole and not branches(whole, root):
            section = found.setdefault(identity, Section(whole))
            known = bool(section.paths)
            if path not in section.paths:
                section.paths.append(path)
            if known:
                return
            for key, below in whole["properties"].items():
                visit(below, f"{path.partition(' (')[0]}.{key}".lstrip("."))
        for name, branch in branches(whole, root):
            visit(branch, f"{path} ({name})" if name else path)
        if isinstance(whole.get("additionalProperties"), Mapping):
            visit(whole["additionalProperties"], f"{path}.NAME")

    visit(root, "")
    return list(found.values())


def branches(schema: Schema, root: Schema) -> list[tuple[str, Schema]]:
    """Return the alternatives of an object, each with the value of ``kind`` or ``method``."""
    named = []
    for branch in schema.get("oneOf", []):
        whole = resolved(branch, root)
        keys = whole.get("properties", {})
        chosen = [resolved(keys[key], root) for key in ("kind", "method") if key in keys]
        values = [str(value) for part in chosen for value in _values(part)]
        if whole.get("type") != "null":
            named.append((", ".join(values), branch))
    return named


def _values(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", []))


def type_of(schema: Schema, root: Schema) -> str:
    """Return a value's type in words, for example ``integer or null``."""
    whole = resolved(schema, root)
    options = whole.get("oneOf", [])
    if any(resolved(option, root).get("type") == "null" for option in options):
        others = [o for o in options if resolved(o, root).get("type") != "null"]
        return " or ".join([*(type_of(option, root) for option in others), "null"])
    if "const" in whole:
        return f"always `{whole['const']}`"
    if _values(whole):
        return "one of " + ", ".join(f"`{value}`" for value in _values(whole))
    kinds = whole.get("type", "object")
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    words = {"object": "section", "array": _list_of(whole, root)}
    return " or ".join(words.get(name, name) for name in names)


def _list_of(schema: Schema, root: Schema) -> str:
    if "prefixItems" in schema:
        return "list of " + ", ".join(type_of(item, root) for item in schema["prefixItems"])
    return "list of " + type_of(schema["items"], root) if "items" in schema else "list"


def range_of(schema: Schema, root: Schema) -> str:
    """Return the limits of a value, for example ``> 0, <= 1``; empty without any."""
    whole = resolved(schema, root)
    words = {
        "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}",
        "exclusiveMaximum": "< {}", "minItems": "at least {}", "maxItems": "at most {}",
    }  # fmt: skip
    limits = [text.format(whole[key]) for key, text in words.items() if key in whole]
    if whole.get("uniqueItems"):
        limits.append("each once")
    if "items" in whole and range_of(whole["items"], root):
        limits.append(f"each {range_of(whole['items'], root)}")
    return ", ".join(limits)


def default_of(key: str, owner: Schema, root: Schema) -> str:
    """Return the default as YAML's flow style writes it, or that a key is required."""
    if key in owner.get("required", []):
        return "required"
    whole = resolved(owner["properties"][key], root)
    if "const" in whole:
        return f"`{whole['const']}`"
    if "default" not in whole:
        return "absent"
    if whole["default"] == {}:
        return "its keys' defaults" if "properties" in whole or "oneOf" in whole else "`{}`"
    value = whole["default"]
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def configuration_reference(root: Schema) -> str:
    """Return the reference of a schema in MyST Markdown: one section and table per object."""
    all_sections = sections(root)
    anchors = {path: section.anchor for section in all_sections for path in section.paths}
    parts = [part for section in all_sections for part in _section(section, anchors, root)]
    return "\n".join(parts)


def _section(section: Section, anchors: Mapping[str, str], root: Schema) -> Iterator[str]:
    title = f"`{section.paths[0]}`" if section.paths[0] else "Top level"
    yield f"({section.anchor})="
    yield f"## {title}\n"
    yield f"{section.schema.get('description', '')}\n"
    if len(section.paths) > 1:
        others = ", ".join(f"`{path}`" for path in section.paths[1:])
        yield f"The same keys are used at {others}.\n"
    yield "| key | type | default | range | description |"
    yield "|---|---|---|---|---|"
    for key in section.schema["properties"]:
        path = f"{section.paths[0].partition(' (')[0]}.{key}".lstrip(".")
        links = ", ".join(
            f"[`{place}`](#{anchor})" for place, anchor in anchors.items() if _belongs(place, path)
        )
        yield _row(f"{section.anchor}-{key}", key, section.schema, links, root)
    yield ""


def _row(anchor: str, key: str, owner: Schema, links: str, root: Schema) -> str:
    schema = owner["properties"][key]
    text = resolved(schema, root).get("description", "")
    name = f"[`{key}`]{{#{anchor}-key}}"
    cells = [
        name, type_of(schema, root), default_of(key, owner, root), range_of(schema, root),
        f"{_sentence(text)} Keys: {links}." if links else _sentence(text),
    ]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sentence(text: str) -> str:
    # Descriptions are plain text: escape characters that Markdown would interpret.
    plain = " ".join(text.split()).replace("*", "\\*").replace("<", "\\<")
    return plain.replace("_", "\\_") if "`" not in plain else plain


def _belongs(place: str, path: str) -> bool:
    """Return whether a section is the value of a key: itself, its alternatives or its entries."""
    return re.fullmatch(rf"{re.escape(path)}(\.NAME)?( \(.*\))?", place) is not None


def _insert(app: Any, _page: str, source: list[str]) -> None:
    if MARK in source[0]:
        app.env.note_dependency(str(SCHEMA))
        schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
        source[0] = source[0].replace(MARK, configuration_reference(schema))


def setup(app: Any) -> dict[str, Any]:
    """Register the insertion of the reference with Sphinx."""
    app.connect("source-read", _insert)
    return {"version": "1", "parallel_read_safe": True}
