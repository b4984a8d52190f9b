"""Reading a configuration: presets, defaults and errors that name the fix."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any

import yaml

from pipeline.config_values import value_problems
from pipeline.errors import LONGEST, UserError, shortened
from pipeline.schema_problems import Validator, dereference, nearest, one_of, schema_problems

SCHEMA = Path(__file__).with_name("config.schema.yaml")
PRESETS = Path(__file__).with_name("presets.yaml")
#: Keys of a data set that name files or folders.
PATHS = ("root", "images", "labels", "masks", "boxes", "train_list", "val_list", "score_list")


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a configuration and fill in presets and defaults.

    Parameters
    ----------
    config : mapping
        What the user wrote; not changed. A section that is null is absent, so that a file can
        take back a section of the one that it follows.

    Returns
    -------
    dict
        The same with every key of the schema present, and "~" in paths expanded.

    Raises
    ------
    UserError
        If a key is unknown, a value has a wrong type or range, or a name that is used
        (a preset, a classifier, a refinement) is not defined. All problems are listed.
    """
    if problems := list(value_problems(config)):
        raise _refused(problems)
    schema = _read(SCHEMA)
    resolved = with_presets({key: part for key, part in config.items() if part is not None})
    _name_kinds(resolved, schema)
    problems = list(_text_keys(resolved.get("dataset")))
    problems += schema_problems(resolved, schema)
    if problems:
        raise _refused(problems)
    _fill_defaults(resolved, schema, schema)
    problems = [*_expand_home(resolved), *_cross_problems(resolved)]
    if problems:
        raise _refused(problems)
    return resolved


def _refused(problems: Sequence[str]) -> UserError:
    """Word all problems, each cut by itself, in one line where they are short."""
    listed = [shortened(problem, LONGEST // 2) for problem in problems]
    separator = "; " if sum(map(len, listed)) <= LONGEST // 2 else ";\n  "
    return UserError("configuration: " + separator.join(listed))


def refuse_repeated_keys(paths: Iterable[str | Path]) -> None:
    """Refuse configuration files in which a section has a key twice: YAML would take the last one.

    Parameters
    ----------
    paths : iterable of str or Path
        Files that were read as YAML; those that are no files here are left out.

    Raises
    ------
    UserError
        If a key stands twice in a section of a file: all of them, with their lines in YAML. Also
        if a file is nested too deeply to be read.
    """
    problems = []
    for path in dict.fromkeys(map(str, paths)):
        if Path(path).is_file():
            try:
                found = list(_repeated_in(Path(path).read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue  # Snakemake refuses it in its own words
            except RecursionError:
                found = ["lists or sections are nested too deeply, expected a few levels"]
            problems += [f"{path}: {problem}" for problem in found]
    if problems:
        raise _refused(problems)


def _repeated_in(text: str) -> Iterator[str]:
    """Yield the keys that a section of a YAML or JSON text has twice; none of another text."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        yield from _repeated_in_json(text)
    else:
        yield from _repeated_keys(root)


def _repeated_in_json(text: str) -> list[str]:
    """List the keys that an object of a JSON text has twice: JSON may have tabs, YAML may not."""
    problems = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                problems.append(
                    f"a section with the keys {', '.join(dict(pairs))} has the key {key!r} "
                    f"{count} times, expected once: only the last one would count"
                )

    with suppress(ValueError):
        json.loads(text, object_pairs_hook=look)
    return problems


def _repeated_keys(root: yaml.Node | None) -> Iterator[str]:
    """Yield the keys that a mapping below a node has twice; one that is aliased counts once."""
    waiting = [] if root is None else [(root, "the top level")]
    seen = set()
    while waiting:
        node, place = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(part, place) for part in node.value]
        if not isinstance(node, yaml.MappingNode):
            continue
        first: dict[Any, tuple[str, int]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # a list or a section as a key is refused by its type
            word, line = str(key.value), key.start_mark.line + 1
            waiting.append((value, word if place == "the top level" else f"{place}.{word}"))
            same = _key_of(key)
            if same in first:
                other, other_line = first[same]
                also = "" if other == word else f", also written {other!r},"
                yield (
                    f"{place} has the key {word!r}{also} twice, in lines {other_line} and "
                    f"{line}, expected once: only the last one would count"
                )
            first.setdefault(same, (word, line))


def _key_of(node: yaml.ScalarNode) -> Any:
    """Return a key as a dict has it, where 0xff is 255; with its tag, where it has no value."""
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError):
        return node.tag, node.value


@cache
def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def with_presets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the keys of every ``preset`` under what the user wrote beside it."""
    presets = _read(PRESETS)
    merged = deepcopy(dict(config))
    classifiers = merged.get("classifiers")
    if isinstance(classifiers, dict):
        for name, settings in classifiers.items():
            place = f"classifiers.{name}"
            classifiers[name] = _with_preset(settings, presets["classifier"], place)
            if isinstance(settings, dict) and "adl" in classifiers[name]:
                layers = classifiers[name]["adl"]
                classifiers[name]["adl"] = _with_preset(layers, presets["adl"], f"{place}.adl")
    for section in ("affinity", "segmenter"):
        if section in merged:
            merged[section] = _with_preset(merged[section], presets[section], section)
    return merged


def _name_kinds(config: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Fill in what kind of classifier or attribution each is, where that may be left out."""
    classifiers = config.get("classifiers")
    if isinstance(classifiers, dict):
        for settings in classifiers.values():
            if isinstance(settings, dict):
                settings.setdefault("kind", "network")
    known = schema["properties"]["attributions"]["additionalProperties"]["properties"]["method"]
    attributions = config.get("attributions")
    if isinstance(attributions, dict):
        for name, settings in attributions.items():
            if isinstance(settings, dict) and name in known["enum"]:
                settings.setdefault("method", name)


def _text_keys(dataset: Any) -> Iterator[str]:
    """Turn the values of masks into text, in place: to YAML 255 is a number, to JSON no key.

    Yield the keys that are the same as text.
    """
    given = dataset.get("mask_values") if isinstance(dataset, dict) else None
    if isinstance(given, dict):
        texts = Counter(map(str, given))
        for text in (text for text, count in texts.items() if count > 1):
            names = ", ".join(repr(name) for key, name in given.items() if str(key) == text)
            yield (
                f"dataset.mask_values has the value {text} {texts[text]} times, as a number and "
                f"as text ({names}), expected once: keep one of them"
            )
        dataset["mask_values"] = {str(key): name for key, name in given.items()}


def _with_preset(settings: Any, presets: Mapping[str, Any], place: str) -> Any:
    if not isinstance(settings, dict) or settings.get("preset") is None:
        return settings
    name = settings["preset"]
    if name not in list(presets):  # as a list also of what cannot be hashed
        raise UserError(f"configuration: {place}.preset is {name!r}, expected {one_of(presets)}")
    return _merge(presets[name], settings)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(under))
    for key, value in over.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _fill_defaults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> None:
    """Set absent keys to their schema default, depth first, in place."""
    if not isinstance(value, dict):
        return
    for part in _parts(value, schema, root):
        for key, below in part.get("properties", {}).items():
            target = dereference(below, root)
            default = below.get("default", target.get("default", _ABSENT))
            if key not in value and default is not _ABSENT:
                value[key] = deepcopy(default)
            if key in value:
                _fill_defaults(value[key], target, root)
        # Snakemake compares params as text: what a user writes in another order is the same.
        known = [key for key in part.get("properties", {}) if key in value]
        ordered = {key: value.pop(key) for key in known}
        value.update(ordered)
        below = part.get("additionalProperties")
        if isinstance(below, Mapping):
            for key in value.keys() - part.get("properties", {}).keys():
                _fill_defaults(value[key], dereference(below, root), root)


_ABSENT = object()


def _expand_home(config: dict[str, Any]) -> Iterator[str]:
    """Expand "~" in the paths that a configuration names, in place; yield what has no home."""
    sections: list[tuple[str, dict[str, Any], Iterable[str]]] = [
        ("dataset", config["dataset"], PATHS),
        ("downloads", config["downloads"], ["folder"]),
        ("weights", config["weights"], [*config["weights"]]),
        *((f"folders.{name}", part, ["images"]) for name, part in config["folders"].items()),
    ]
    for place, section, keys in sections:
        for key in keys:
            path = section.get(key) or ""
            if not path.startswith("~"):
                continue
            try:
                section[key] = str(Path(path).expanduser())
            except RuntimeError:
                user = Path(path).parts[0]
                yield f"{place}.{key} is {path!r}, expected a path: {user} is nobody's home here"


def _parts(
    value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield the schema and, of a oneOf, the branches that describe the value."""
    yield schema
    for branch in schema.get("oneOf", []):
        target = dereference(branch, root)
        validator = Validator({**target, "$defs": root["$defs"]})
        if validator.is_valid(value):
            yield target


def _cross_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Check what a schema cannot: names that are used must be defined, numbers must fit."""
    wanted = {key: config[key] for key in ("labels", "segmenters")}
    wanted["comparison.methods"] = config.get("comparison", {}).get("methods", [])
    wanted["export.labels"] = config.get("export", {}).get("labels", [])
    wanted |= {f"folders.{name}.labels": part["labels"] for name, part in config["folders"].items()}
    for key, paths in wanted.items():
        for path in paths:
            for problem in _path_problems(path, config):
                yield f"{key}: {path!r} {problem}"
    if not any(wanted.values()):
        yield "nothing is wanted: expected labels, segmenters, or a comparison of maps"
    if config["segmenters"] and "segmenter" not in config:
        yield "segmenters are listed, but there is no section 'segmenter'"
    if config["dataset"].get("score_list") and config["dataset"]["masks"] is None:
        yield "dataset.score_list is a list to score on, expected masks beside it"
    yield from _network_problems(config)
    yield from _start_problems(config["classifiers"])
    yield from _round_problems(config)
    trainings = {
        f"classifiers.{name}": part
        for name, part in config["classifiers"].items()
        if part["kind"] == "network"
    }
    trainings |= {key: config[key] for key in ("affinity", "segmenter") if key in config}
    for place, settings in trainings.items():
        yield from _training_problems(place, settings)
    for name, settings in config["refinements"].items():
        yield from _background_problems(f"refinements.{name}.background", settings["background"])
        yield from _graph_cut_problems(f"refinements.{name}", settings)
    if "affinity" in config:
        high, low = (config["affinity"]["labels"][key] for key in ("foreground", "background"))
        if high < low:
            yield f"affinity.labels.foreground is {high}, expected at least the background's {low}"
        yield from _pairs_problems(config["affinity"])


def _pairs_problems(affinity: Mapping[str, Any]) -> Iterator[str]:
    # A cell is of 4 x 4 pixels. Inner pairs begin beyond the others' reach from both sides.
    crop, radius = affinity["augmentation"]["crop"], affinity["radius"]
    least = 8 * radius - 7
    if affinity["pairs"] == "inner" and crop < least:
        yield (
            f"affinity.augmentation.crop is {crop}, expected at least {least}: of {radius} cells' "
            "radius a smaller crop has no inner pairs (or set pairs: all)"
        )


def _path_problems(path: str, config: Mapping[str, Any]) -> Iterator[str]:
    classifier, maps, *refinements = path.split("/")
    attribution, _, walk = maps.partition("+")
    used = {"classifiers": classifier, "attributions": attribution}
    used |= {"random_walks": walk} if walk else {}
    used |= {"refinements": refinements[0]} if refinements else {}
    for section, name in used.items():
        if name not in config[section]:
            yield f"names {name!r}, which {section} lacks{nearest(name, list(config[section]))}"
    trained_on = config["attributions"].get(attribution, {}).get("labels")
    if trained_on and trained_on.split("/")[0] != classifier:
        yield (
            f"names {attribution!r}, maps of a network that is trained on {trained_on}: "
            f"expected {trained_on.split('/')[0]}/{maps}"
        )
    if walk and "affinity" not in config:
        yield "walks over affinities, but there is no section 'affinity'"


def _round_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Check maps that a segmentation network makes: its labels come before them."""
    sources = {
        name: part["labels"] for name, part in config["attributions"].items() if "labels" in part
    }
    if sources and "segmenter" not in config:
        yield (
            f"attributions.{next(iter(sources))} is of a segmentation network, "
            "but there is no section 'segmenter'"
        )
    origins = {key: path.split("/")[1].partition("+")[0] for key, path in sources.items()}
    for name, labels in sources.items():
        for problem in _path_problems(labels, config):
            yield f"attributions.{name}.labels: {labels!r} {problem}"
        origin = config["attributions"].get(origins[name], {})
        own, other = config["attributions"][name]["stride"], origin.get("stride")
        if config["attributions"][name]["earlier"] and other not in (own, None):
            yield f"attributions.{name}.stride is {own}, expected the earlier maps' {other}"
        if circle := _circle(name, origins):
            yield f"attributions.{name}.labels leads back to itself: {' from '.join(circle)}"


def _background_problems(place: str, background: Mapping[str, Any]) -> Iterator[str]:
    rule, value = background["rule"], background["value"]
    if isinstance(value, str) and rule != "threshold":
        yield f"{place}.value is {value!r}, which chooses a threshold, expected a number for {rule}"
    elif rule == "threshold" and not isinstance(value, str) and value >= 1:
        yield f"{place}.value is {value}, expected a threshold below 1"


def _network_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Check what is asked of segmentation networks: only those of `segmenters` are trained."""
    asked = {"export.predictions": config.get("export", {}).get("predictions", [])}
    for name, part in config["folders"].items():
        asked[f"folders.{name}.segmenters"] = part["segmenters"]
    for place, paths in asked.items():
        for path in paths:
            if path not in config["segmenters"]:
                near = nearest(path, config["segmenters"])
                yield f"{place}: {path!r} is not among the segmenters{near}: list it there too"
    for name, part in config["folders"].items():
        if not (part["labels"] or part["segmenters"]):
            yield f"folders.{name} wants nothing, expected labels or segmenters"
    export = config.get("export")
    if export and not (export["labels"] or export["predictions"]):
        yield "export wants nothing, expected labels or predictions, or `export: null`"


def _start_problems(classifiers: Mapping[str, Any]) -> Iterator[str]:
    """Check what classifiers go on from: networks of the same shape, and not from each other."""
    sources = {key: part.get("start") for key, part in classifiers.items()}
    for name, settings in classifiers.items():
        place, start = f"classifiers.{name}.start", settings.get("start")
        if start is None:
            continue
        if start not in classifiers:
            near = nearest(start, [*classifiers])
            yield f"{place} names {start!r}, which classifiers lacks{near}"
            continue
        for key in ("backbone", "last_layer"):
            own, other = settings[key], classifiers[start][key]
            if own != other:
                yield f"{place}: {start} has the {key} {other}, expected {name}'s, {own}"
        if circle := _circle(name, sources):
            yield f"{place} leads back to itself: {' from '.join(circle)}"


def _circle(name: str, sources: Mapping[str, str | None]) -> list[str]:
    """Follow names to what each comes from; give the way if it meets itself, else nothing."""
    way, source = [name], sources.get(name)
    while source is not None and source not in way:
        way.append(source)
        source = sources.get(source)
    return [*way, source] if source is not None else []


def _graph_cut_problems(place: str, settings: Mapping[str, Any]) -> Iterator[str]:
    cut = settings["graph_cut"]
    if cut is None:
        return
    if settings["crf"] is not None:
        yield f"{place} has crf and graph_cut, expected one of them"
    low, high = cut["background_quantile"], cut["foreground_quantile"]
    if low >= high:
        yield (
            f"{place}.graph_cut.background_quantile is {low}, expected less than the "
            f"foreground's {high}"
        )


def _training_problems(place: str, settings: Mapping[str, Any]) -> Iterator[str]:
    low, high = settings["augmentation"]["resize"]
    if low > high:
        yield f"{place}.augmentation.resize is [{low}, {high}], expected the smaller first"
    if settings["batch_size"] % settings["accumulate"]:
        yield (
            f"{place}.batch_size is {settings['batch_size']}, expected a multiple of "
            f"accumulate, {settings['accumulate']}"
        )
    alone = settings["batch_size"] // settings["accumulate"] < 2
    if alone and settings.get("decoder_norm") == "batch":
        yield (
            f"{place}.batch_size is {settings['batch_size']} with accumulate "
            f"{settings['accumulate']}, expected two images or more in each part: the decoder's "
            "batch norm needs them (or set decoder_norm: group)"
        )
    if settings.get("validate_every") == 0 and settings["selection"] == "best_val_map":
        yield f"{place}.validate_every is 0, expected 1 or more to select by best_val_map, or null"
    if settings.get("puzzle"):
        step = settings["output_stride"] * isqrt(settings["puzzle"]["pieces"])
        crop = settings["augmentation"]["crop"]
        if crop % step:
            yield f"{place}.augmentation.crop is {crop}, expected a multiple of {step}"
