"""Error messages for configurations that do not match the schema."""

import re
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError, best_match

from pipeline.config.upper_bound import GROUND_TRUTH
from pipeline.errors import did_you_mean

Schema = Mapping[str, Any]

#: Bounds of numbers that have none in the schema, so that later 32-bit arithmetic cannot
#: overflow: the largest integer, and the magnitudes of all other numbers except 0.
LARGEST_INTEGER = 2**31 - 1
LARGEST, SMALLEST = 10**9, 1e-9


def _is_integer(_checker: Any, value: Any) -> bool:
    # JSON Schema accepts 2.0 as an integer, but Python's `range` does not.
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(checker: Any, value: Any) -> bool:
    return _is_integer(checker, value) or (isinstance(value, float) and isfinite(value))


def _in_range(validator: Any, types: Any, value: Any, schema: Schema) -> Iterator[ValidationError]:
    """Check the type of a value, and the magnitude of a number."""
    wrong = list(Draft202012Validator.VALIDATORS["type"](validator, types, value, schema))
    yield from wrong
    if wrong or not _is_number(None, value):
        return
    of_integers = "number" not in types and "integer" in types
    largest = LARGEST_INTEGER if of_integers else LARGEST
    if not {"maximum", "exclusiveMaximum"} & set(schema) and value > largest:
        yield _bound_error("maximum", largest)
    elif not {"minimum", "exclusiveMinimum"} & set(schema) and value < -largest:
        yield _bound_error("minimum", -largest)
    elif 0 < abs(value) < SMALLEST and value > schema.get("minimum", 0) - SMALLEST:
        yield _bound_error("magnitude", SMALLEST)


def _matches_fully(
    _validator: Any, pattern: str, value: Any, _schema: Schema
) -> Iterator[ValidationError]:
    # To a schema "$" is the end; to Python's `search`, also the place before a final line break.
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _bound_error(rule: str, bound: float) -> ValidationError:
    return ValidationError(f"not within the {rule} {bound}", validator=rule, validator_value=bound)


Validator = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    validators={"type": _in_range, "pattern": _matches_fully},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_integer, "number": _is_number}
    ),
)

#: Number of levels below its place that a misplaced key is searched in.
DEPTH = 3
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a finite number",
    "object": "keys with values",
    "string": "text",
}
_RULES = {
    "exclusiveMaximum": "a number below {}",
    "exclusiveMinimum": "a number above {}",
    "maxItems": "at most {} entries",
    "maxLength": "at most {} characters",
    "magnitude": "a magnitude of at least {}, or 0",
    "maximum": "at most {}",
    "minItems": "at least {} of them",
    "minLength": "some text",
    "minProperties": "at least {} key",
    "minimum": "at least {}",
    "not": "a name other than {}",
    "uniqueItems": "no entry twice",
}


def schema_problems(config: Any, schema: Schema) -> Iterator[str]:
    """Yield every violation of the schema in a configuration, one message each.

    Parameters
    ----------
    config : object
        The configuration as the user wrote it.
    schema : mapping
        A JSON Schema.
    """
    errors = list(Validator(schema).iter_errors(config))
    plain = [error for error in errors if error.validator != "oneOf"]
    # A section of the wrong type or kind also fails its oneOf: report it once.
    reported = [tuple(error.absolute_path) for error in plain]
    branched = [
        error
        for error in errors
        if error.validator == "oneOf" and not any(_is_at(error, place) for place in reported)
    ]
    in_order = sorted(plain + branched, key=lambda error: list(map(str, error.absolute_path)))
    # Each missing key is an error of its own, but one message names them all.
    yield from dict.fromkeys(
        text for error in in_order for text in _explain(_relevant_error(error), schema)
    )


def nearest(key: str, known: Iterable[str]) -> str:
    """Return a hint with the known word nearest to a misspelled one, or with all known words.

    Examples
    --------
    >>> nearest("sedd", ["seed", "seeds", "shards"])
    ": did you mean 'seed'?"
    """
    words = list(known)
    expected = f": expected {one_of(words)}" if words else ""
    return did_you_mean(key, words) or expected


def one_of(names: Iterable[Any]) -> str:
    """Return text that lists the allowed values."""
    return "one of " + ", ".join(map(str, names))


def dereference(schema: Schema, root: Schema) -> Schema:
    """Return the definition that a schema refers to, or the schema itself without a reference."""
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].removeprefix("#/$defs/")
    target: Schema = root["$defs"][name]
    return target


def _is_at(error: ValidationError, place: tuple[str | int, ...]) -> bool:
    path = tuple(error.absolute_path)
    return place[: len(path)] == path


def _relevant_error(error: ValidationError) -> ValidationError:
    """Return the error in the branch of a failed oneOf that fits the kind; null is left out."""
    while error.context:
        other = {
            part.relative_schema_path[0]
            for part in error.context
            if _is_kind_error(part) or (part.validator, part.validator_value) == _NOT_NULL
        }
        parts = [part for part in error.context if part.relative_schema_path[0] not in other]
        deeper = best_match(iter(parts))
        if deeper is None:
            break
        error = deeper
    return error


_NOT_NULL = ("type", "null")


def _is_kind_error(error: ValidationError) -> bool:
    return bool(error.path) and error.path[-1] in {"kind", "method"}


def _explain(error: Any, root: Schema) -> Iterator[str]:
    place = ".".join(map(str, error.absolute_path)) or "the top level"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        for key in error.instance:
            if key not in known:
                deeper = _nested_hint(str(key), error.schema, root) if error.absolute_path else ""
                hint = deeper or nearest(str(key), known)
                yield f"unknown key {key!r} in {place}{hint}"
    elif error.validator == "required":
        yield f"{place} lacks {_missing_keys(error)}"
    else:
        if "propertyNames" in error.absolute_schema_path:
            place = f"a name in {place}"
        yield f"{place} is {error.instance!r}, expected {_expected(error)}"


def _missing_keys(error: Any) -> str:
    missing = [key for key in error.validator_value if key not in error.instance]
    values = [error.schema["properties"][key].get("enum") for key in missing]
    expected = "".join(f": expected {one_of(enum)}" for enum in values if enum)
    if not error.absolute_path and "classifiers" in missing:
        expected += (
            ": list a complete file in front of one that lacks them, as in `--configfile "
            "experiments/own-folder.yaml mine.yaml`"
        )
    return ", ".join(map(repr, missing)) + expected


def _expected(error: Any) -> str:
    rule, value = error.validator, error.validator_value
    if rule in {"enum", "const"}:
        allowed = value if rule == "enum" else [value]
        candidates = [word for word in allowed if isinstance(word, str)]
        misspelled = isinstance(error.instance, str)
        return one_of(allowed) + (did_you_mean(error.instance, candidates) if misspelled else "")
    if rule == "pattern" and error.instance == GROUND_TRUTH:
        return (
            "CLASSIFIER/MAPS/REFINEMENT: a network that is trained on masks is an upper bound to "
            "compare with, so nothing is labeled with it"
        )
    hint = ""
    if rule == "type":
        types = [value] if isinstance(value, str) else value
        text = " or ".join(_TYPES[name] for name in types)
        if {"integer", "number"} & set(types):
            hint = _number_hint(error.instance)
    elif rule == "not" and "enum" in value:
        text = _RULES["not"].format(", ".join(value["enum"]))
    elif rule in _RULES:
        text = _RULES[rule].format(value)
    else:
        text = f"{rule} {value}"
    description = error.schema.get("description", "").rstrip(".")
    return text + (f" ({description})" if description else "") + hint


def _number_hint(instance: Any) -> str:
    """Return how to write a number that YAML reads as text, such as a quoted number or 1e-3."""
    if not isinstance(instance, str):
        return ""
    try:
        number = float(instance)
    except ValueError:
        return ""
    if not isfinite(number):
        return ""
    mantissa, exponent, digits = f"{number:.15g}".partition("e")
    # YAML reads a number with an exponent as text unless it has a decimal point.
    point = ".0" if exponent and "." not in mantissa else ""
    return f": YAML reads this as text, write {mantissa}{point}{exponent}{digits}"


def _nested_hint(key: str, schema: Schema, root: Schema) -> str:
    """Return a hint with the place below a section that knows a misplaced key."""
    keys = _path_to(key, schema, root, DEPTH)
    return f": did you mean '{'.'.join(keys)}'?" if keys else ""


def _path_to(key: str, schema: Schema, root: Schema, depth: int) -> list[str]:
    properties = schema.get("properties", {})
    if key in properties:
        return [key]
    for name, below in properties.items() if depth > 1 else ():
        target = dereference(below, root)
        for branch in [target, *target.get("oneOf", [])]:
            if keys := _path_to(key, dereference(branch, root), root, depth - 1):
                return [name, *keys]
    return []
