"""Reading a configuration: presets, defaults and errors that name the fix."""

import difflib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from pipeline.errors import UserError

SCHEMA = Path(__file__).with_name("config.schema.yaml")
PRESETS = Path(__file__).with_name("presets.yaml")


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a configuration and fill in presets and defaults.

    Parameters
    ----------
    config : mapping
        What the user wrote; not changed.

    Returns
    -------
    dict
        The same with every key of the schema present.

    Raises
    ------
    UserError
        If a key is unknown, a value has a wrong type or range, or a name that is used
        (a preset, a classifier, a refinement) is not defined. All problems are listed.
    """
    schema = yaml.safe_load(SCHEMA.read_text())
    resolved = with_presets(config)
    problems = list(_schema_problems(resolved, schema))
    if problems:
        raise UserError("configuration: " + "; ".join(problems))
    _fill_defaults(resolved, schema, schema)
    problems = list(_name_problems(resolved))
    if problems:
        raise UserError("configuration: " + "; ".join(problems))
    return resolved


def with_presets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the keys of every ``preset`` under what the user wrote beside it."""
    presets = yaml.safe_load(PRESETS.read_text())
    merged = deepcopy(dict(config))
    classifiers = merged.get("classifiers")
    if isinstance(classifiers, dict):
        for name, settings in classifiers.items():
            place = f"classifiers.{name}"
            classifiers[name] = _with_preset(settings, presets["classifier"], place)
    if "segmenter" in merged:
        merged["segmenter"] = _with_preset(merged["segmenter"], presets["segmenter"], "segmenter")
    return merged


def _with_preset(settings: Any, presets: Mapping[str, Any], place: str) -> Any:
    if not isinstance(settings, dict) or settings.get("preset") is None:
        return settings
    name = settings["preset"]
    if name not in presets:
        raise UserError(f"configuration: {place}.preset is {name!r}, expected {_one_of(presets)}")
    return _merge(presets[name], settings)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(under))
    for key, value in over.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _schema_problems(config: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    errors = Draft202012Validator(schema).iter_errors(config)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        yield from _explain(_deepest(error))


def _deepest(error: ValidationError) -> ValidationError:
    """Follow a failed oneOf into the branch that the user meant."""
    while error.context:
        kind = error.instance.get("kind") if isinstance(error.instance, dict) else None
        branches = [
            branch for branch in error.context
            if not (branch.validator == "const" and branch.validator_value != kind)
        ]  # fmt: skip
        wrong = {
            branch.relative_schema_path[0] for branch in error.context
            if branch.validator == "const"
        }  # fmt: skip
        meant = (
            [b for b in branches if b.relative_schema_path[0] not in wrong] if kind else branches
        )
        null = {
            b.relative_schema_path[0]
            for b in meant
            if b.validator == "type" and b.validator_value == "null"
        }
        meant = [b for b in meant if b.relative_schema_path[0] not in null] or meant
        deeper = best_match(iter(meant))
        if deeper is None:
            return error
        error = deeper
    return error


def _explain(error: ValidationError) -> Iterator[str]:
    place = ".".join(map(str, error.absolute_path)) or "the top level"
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        for key in error.instance:
            if key not in known:
                yield f"unknown key {key!r} in {place}{_nearest(key, known)}"
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        yield f"{place} lacks {', '.join(map(repr, missing))}"
    elif error.validator in {"enum", "const"}:
        allowed = error.validator_value if error.validator == "enum" else [error.validator_value]
        nearest = _nearest(str(error.instance), list(map(str, allowed)))
        yield f"{place} is {error.instance!r}, expected {_one_of(allowed)}{nearest}"
    else:
        expected = error.schema.get("description", "")
        rule = f"{error.validator} {error.validator_value}"
        hint = f" ({expected.rstrip('.')})" if expected else ""
        yield f"{place} is {error.instance!r}, expected {rule}{hint}"


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f": did you mean {near[0]!r}?" if near else f": expected {_one_of(known)}"


def _one_of(names: Any) -> str:
    return "one of " + ", ".join(map(str, names))


def _fill_defaults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> None:
    """Set absent keys to their schema default, depth first, in place."""
    if not isinstance(value, dict):
        return
    for part in _parts(value, schema, root):
        for key, below in part.get("properties", {}).items():
            target = _dereference(below, root)
            default = below.get("default", target.get("default", _ABSENT))
            if key not in value and default is not _ABSENT:
                value[key] = deepcopy(default)
            if key in value:
                _fill_defaults(value[key], target, root)
        below = part.get("additionalProperties")
        if isinstance(below, Mapping):
            for key in value.keys() - part.get("properties", {}).keys():
                _fill_defaults(value[key], _dereference(below, root), root)


_ABSENT = object()


def _parts(
    value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield the schema and, of a oneOf, the branches that describe the value."""
    yield schema
    for branch in schema.get("oneOf", []):
        target = _dereference(branch, root)
        validator = Draft202012Validator({**target, "$defs": root["$defs"]})
        if validator.is_valid(value):
            yield target


def _dereference(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].removeprefix("#/$defs/")
    target: Mapping[str, Any] = root["$defs"][name]
    return target


def _name_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Check what a schema cannot: that names which are used are defined."""
    for key in ("labels", "segmenters"):
        for path in config[key]:
            names = path.split("/")
            sections = ("classifiers", "attributions", "refinements")
            for name, section in zip(names, sections, strict=True):
                if name not in config[section]:
                    near = _nearest(name, list(config[section]))
                    yield f"{key}: {path!r} names {name!r}, which {section} lacks{near}"
    if config["segmenters"] and "segmenter" not in config:
        yield "segmenters are listed, but there is no section 'segmenter'"
    trainings = [(f"classifiers.{k}", v) for k, v in config["classifiers"].items()]
    if "segmenter" in config:
        trainings.append(("segmenter", config["segmenter"]))
    for place, settings in trainings:
        low, high = settings["augmentation"]["resize"]
        if low > high:
            yield f"{place}.augmentation.resize is [{low}, {high}], expected the smaller first"
    for name, settings in config["refinements"].items():
        background = settings["background"]
        if background["rule"] == "threshold" and background["value"] >= 1:
            value = background["value"]
            yield f"refinements.{name}.background.value is {value}, expected a threshold below 1"
