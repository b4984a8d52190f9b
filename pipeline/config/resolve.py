"""Resolving of configurations: presets, defaults and checks."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.problems import Validator, dereference, nearest, one_of, schema_problems
from pipeline.config.upper_bound import GROUND_TRUTH, upper_bound_problems
from pipeline.config.values import value_problems
from pipeline.errors import MAX_LENGTH, UserError, shortened

SCHEMA = Path(__file__).with_name("schema.yaml")
PRESETS = Path(__file__).with_name("presets.yaml")
#: Keys of a linear probe that have no effect beside `views_of`.
REPLACED_BY_VIEWS = {"size", "flip"}
#: Keys of the data set whose values are files or folders.
PATHS = (
    "root", "images", "image_labels", "masks", "boxes", "train_list", "val_list", "score_list",
    "review", "corrected",
)  # fmt: skip


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a configuration and fill in presets and defaults.

    Parameters
    ----------
    config : mapping
        The configuration as the user wrote it; not changed. A section that is null counts as
        absent, so that a later file can remove a section of an earlier one.

    Returns
    -------
    dict
        The configuration with all presets and defaults, and with "~" in paths expanded.

    Raises
    ------
    UserError
        If a key is unknown, a value has a wrong type or range, or a name that is used
        (a preset, a classifier, a refinement) is not defined. All problems are listed.

    Examples
    --------
    >>> config = resolve({
    ...     "experiment": "mine",
    ...     "dataset": {"kind": "demo"},
    ...     "classifiers": {"plain": {"backbone": "resnet50"}},
    ...     "attributions": {"cam": {}},
    ...     "refinements": {"crf": {"crf": {}}},
    ...     "pseudo_labels": ["plain/cam/crf"],
    ... })
    >>> config["classifiers"]["plain"]["epochs"]
    15
    """
    if problems := list(value_problems(config)):
        raise _configuration_error(problems)
    schema = _read(SCHEMA)
    resolved = with_presets({key: part for key, part in config.items() if part is not None})
    _fill_kinds(resolved, schema)
    if problems := list(_keys_of_other_kind(resolved.get("affinity"), schema)):
        raise _configuration_error(problems)
    problems = list(_stringify_mask_values(resolved.get("dataset")))
    problems += schema_problems(resolved, schema)
    problems += _replaced_by_views(resolved, schema)
    if problems:
        raise _configuration_error(problems)
    _fill_defaults(resolved, schema, schema)
    problems = [*_expand_home(resolved), *_cross_problems(resolved)]
    if problems:
        raise _configuration_error(problems)
    return resolved


def _configuration_error(problems: Sequence[str]) -> UserError:
    """Return an error that lists all problems, in one line if they are short."""
    listed = [shortened(problem, MAX_LENGTH // 2) for problem in problems]
    separator = "; " if sum(map(len, listed)) <= MAX_LENGTH // 2 else ";\n  "
    return UserError("configuration: " + separator.join(listed))


def refuse_duplicate_keys(paths: Iterable[str | Path]) -> None:
    """Refuse configuration files in which a section has a key twice: YAML would use the last.

    Parameters
    ----------
    paths : iterable of str or Path
        Files that were read as YAML. Paths that are not files here are skipped.

    Raises
    ------
    UserError
        If a section has a key twice: all duplicates, with their lines in YAML. Also if a file is
        nested too deeply to be read.
    """
    problems = []
    for path in dict.fromkeys(map(str, paths)):
        if Path(path).is_file():
            try:
                found = list(_duplicates_in(Path(path).read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue  # Snakemake refuses it with its own message
            except RecursionError:
                found = ["lists or sections are nested too deeply, expected a few levels"]
            problems += [f"{path}: {problem}" for problem in found]
    if problems:
        raise _configuration_error(problems)


def _duplicates_in(text: str) -> Iterator[str]:
    """Yield the duplicate keys of a YAML or JSON text; nothing if it is neither."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        yield from _duplicates_in_json(text)
    else:
        yield from _duplicate_keys(root)


def _duplicates_in_json(text: str) -> list[str]:
    """List the duplicate keys of a JSON text, whose tabs YAML does not allow."""
    problems = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                problems.append(
                    f"a section with the keys {', '.join(dict(pairs))} has the key {key!r} "
                    f"{count} times, expected once: only the last one would count"
                )

    with suppress(ValueError):
        json.loads(text, object_pairs_hook=check)
    return problems


def _duplicate_keys(root: yaml.Node | None) -> Iterator[str]:
    """Yield the duplicate keys of all mappings below a node; an aliased mapping counts once."""
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
                continue  # the schema refuses a list or a section as a key
            name, line = str(key.value), key.start_mark.line + 1
            waiting.append((value, name if place == "the top level" else f"{place}.{name}"))
            parsed = _key_of(key)
            if parsed in first:
                other, other_line = first[parsed]
                also = "" if other == name else f", also written {other!r},"
                yield (
                    f"{place} has the key {name!r}{also} twice, in lines {other_line} and "
                    f"{line}, expected once: only the last one would count"
                )
            first.setdefault(parsed, (name, line))


def _key_of(node: yaml.ScalarNode) -> Any:
    """Return the value of a key (0xff is 255), or its tag and text if it has none."""
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError):
        return node.tag, node.value


@cache
def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def with_presets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with presets filled in; keys of the user override the presets."""
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
    for section in ("affinity", "segmentation"):
        if section in merged and not _is_of_features(merged[section]):
            merged[section] = _with_preset(merged[section], presets[section], section)
    return merged


def _is_of_features(affinity: Any) -> bool:
    return isinstance(affinity, dict) and affinity.get("kind") == "features"


def _fill_kinds(config: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Fill in optional ``kind`` and, of attributions, ``method``, in place."""
    if isinstance(affinity := config.get("affinity"), dict):
        affinity.setdefault("kind", "learned")
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


def _keys_of_other_kind(affinity: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problem of keys that only the other kind of affinities has.

    A later configuration file cannot remove keys of an earlier one, so this message is frequent.
    """
    kinds = {"learned": "affinity", "features": "feature_affinity"}
    if not isinstance(affinity, dict) or affinity["kind"] not in list(kinds):
        return
    known = {kind: schema["$defs"][name]["properties"] for kind, name in kinds.items()}
    own = known.pop(affinity["kind"])
    for kind, others in known.items():
        if wrong := [key for key in affinity if key in others and key not in own]:
            yield (
                f"affinity has kind {affinity['kind']} and {', '.join(wrong)}, which only kind "
                f"{kind} has: remove them, here or from the file that sets them; expected "
                f"{one_of(own)}"
            )


def _stringify_mask_values(dataset: Any) -> Iterator[str]:
    """Convert the keys of ``mask_values`` to text in place: JSON Schema needs text keys.

    Yields
    ------
    str
        A problem for keys that are equal as text.
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
    if name not in list(presets):  # a list, since the name may be unhashable
        raise UserError(f"configuration: {place}.preset is {name!r}, expected {one_of(presets)}")
    return _merge(presets[name], settings)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(under))
    for key, value in over.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _fill_defaults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> None:
    """Set absent keys to the default in the schema, depth first, in place."""
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
        # Snakemake compares params as text, so the order of keys must not depend on the user's.
        known = [key for key in part.get("properties", {}) if key in value]
        ordered = {key: value.pop(key) for key in known}
        value.update(ordered)
        below = part.get("additionalProperties")
        if isinstance(below, Mapping):
            for key in value.keys() - part.get("properties", {}).keys():
                _fill_defaults(value[key], dereference(below, root), root)


_ABSENT = object()


def _expand_home(config: dict[str, Any]) -> Iterator[str]:
    """Expand "~" in all paths of a configuration in place; yield those without a home folder."""
    sections: list[tuple[str, dict[str, Any], Iterable[str]]] = [
        ("dataset", config["dataset"], PATHS),
        ("downloads", config["downloads"], ["folder"]),
        ("weights", config["weights"], [*config["weights"]]),
        *((f"folders.{name}", part, ["images"]) for name, part in config["folders"].items()),
        *((f"regions.{key}", part, ["folder"]) for key, part in config.get("regions", {}).items()),
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
                yield f"{place}.{key} is {path!r}, expected a path: {user} has no home folder"


def _parts(
    value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield the schema, and the branches of its oneOf that fit the value."""
    yield schema
    for branch in schema.get("oneOf", []):
        target = dereference(branch, root)
        validator = Validator({**target, "$defs": root["$defs"]})
        if validator.is_valid(value):
            yield target


def _cross_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems that a schema cannot find: undefined names, numbers that do not fit."""
    wanted = {"pseudo_labels": config["pseudo_labels"]}
    wanted["segmentation.trained_on"] = config.get("segmentation", {}).get("trained_on", [])
    wanted["comparison.methods"] = config.get("comparison", {}).get("methods", [])
    wanted["export.pseudo_labels"] = config.get("export", {}).get("pseudo_labels", [])
    wanted |= {
        f"folders.{name}.pseudo_labels": part["pseudo_labels"]
        for name, part in config["folders"].items()
    }
    for key, paths in wanted.items():
        for path in paths:
            for problem in _path_problems(path, config) if path != GROUND_TRUTH else ():
                yield f"{key}: {path!r} {problem}"
    if not any(wanted.values()):
        yield (
            "nothing is requested: expected pseudo_labels, segmentation.trained_on, or a "
            "comparison of maps"
        )
    if config["dataset"].get("score_list") and config["dataset"]["masks"] is None:
        yield "dataset.score_list lists images to score, expected dataset.masks too"
    yield from _network_problems(config)
    yield from upper_bound_problems(config)
    yield from _init_problems(config["classifiers"])
    yield from _round_problems(config)
    yield from _view_problems(config)
    yield from _label_error_problems(config)
    trainings = {
        f"classifiers.{name}": part
        for name, part in config["classifiers"].items()
        if part["kind"] == "network"
    }
    learned = config.get("affinity", {}).get("kind") == "learned"
    trainings |= {"affinity": config["affinity"]} if learned else {}
    trainings |= {"segmentation": config["segmentation"]} if "segmentation" in config else {}
    for place, settings in trainings.items():
        yield from _training_problems(place, settings)
    for name, settings in config["refinements"].items():
        yield from _background_problems(f"refinements.{name}.background", settings["background"])
        yield from _graph_cut_problems(f"refinements.{name}", settings)
        yield from _region_problems(f"refinements.{name}", settings, config.get("regions", {}))
    if learned:
        high, low = (
            config["affinity"]["confident_labels"][key] for key in ("foreground", "background")
        )
        if high < low:
            yield (
                f"affinity.confident_labels.foreground is {high}, expected at least the "
                f"background's {low}"
            )
        yield from _pairs_problems(config["affinity"])


def _label_error_problems(config: Mapping[str, Any]) -> Iterator[str]:
    known, section = config["classifiers"], config.get("label_errors")
    if section and section["classifier"] not in known:
        name = section["classifier"]
        hint = nearest(name, list(known))
        yield f"label_errors.classifier names {name!r}, which classifiers lacks{hint}"


def _pairs_problems(affinity: Mapping[str, Any]) -> Iterator[str]:
    # A cell has 4 x 4 pixels. Inner pairs keep the radius as a distance from the borders.
    crop, radius = affinity["augmentation"]["crop"], affinity["radius"]
    least = 8 * radius - 7
    if affinity["pairs"] == "inner" and crop < least:
        yield (
            f"affinity.augmentation.crop is {crop}, expected at least {least}: a smaller crop has "
            f"no inner pairs of radius {radius} (or set pairs: all)"
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
    trained_on = config["attributions"].get(attribution, {}).get("trained_on")
    if trained_on and trained_on.split("/")[0] != classifier:
        yield (
            f"names {attribution!r}, maps of a network that is trained on {trained_on}: "
            f"expected {trained_on.split('/')[0]}/{maps}"
        )
    if walk and "affinity" not in config:
        yield "uses a random walk, but there is no section 'affinity'"


def _round_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems of self-training rounds, whose maps come from a segmentation network."""
    trained_on = {
        name: part["trained_on"]
        for name, part in config["attributions"].items()
        if "trained_on" in part
    }
    if trained_on and "segmentation" not in config:
        yield (
            f"attributions.{next(iter(trained_on))} needs a segmentation network, "
            "but there is no section 'segmentation'"
        )
    origins = {key: path.split("/")[1].partition("+")[0] for key, path in trained_on.items()}
    for name, labels in trained_on.items():
        for problem in _path_problems(labels, config):
            yield f"attributions.{name}.trained_on: {labels!r} {problem}"
        origin = config["attributions"].get(origins[name], {})
        own, other = config["attributions"][name]["stride"], origin.get("stride")
        if config["attributions"][name]["previous_weight"] and other not in (own, None):
            yield (
                f"attributions.{name}.stride is {own}, expected that of the previous maps, {other}"
            )
        if cycle := _cycle(name, origins):
            yield f"attributions.{name}.trained_on leads back to itself: {' from '.join(cycle)}"


def _replaced_by_views(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield settings of linear probes that `views_of` replaces, before defaults are filled in.

    A resolved configuration has the defaults of all keys and has to resolve again: `estimate`
    passes it to a dry run.
    """
    known = schema["$defs"]["linear_probe"]["properties"]
    sections = config.get("classifiers")
    for name, part in sections.items() if isinstance(sections, Mapping) else ():
        if isinstance(part, Mapping) and part.get("views_of") is not None:
            for key in sorted(REPLACED_BY_VIEWS & part.keys()):
                if part[key] != known[key]["default"]:
                    yield (
                        f"classifiers.{name}.{key} has no effect, because views_of is "
                        f"{part['views_of']!r}: remove one of the two"
                    )


def _view_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems of linear probes that learn from the views of an attribution."""
    attributions = config["attributions"]
    known = [name for name, part in attributions.items() if part["method"] == "cam"]
    for name, part in config["classifiers"].items():
        wanted = part.get("views_of")
        if wanted is not None and wanted not in known:
            yield (
                f"classifiers.{name}.views_of is {wanted!r}, expected an attribution with the "
                f"method cam: {', '.join(known) or 'there is none'}"
            )


def _background_problems(place: str, background: Mapping[str, Any]) -> Iterator[str]:
    rule, value = background["rule"], background["value"]
    if isinstance(value, str) and rule != "threshold":
        yield f"{place}.value is {value!r}, a rule for thresholds, expected a number for {rule}"
    elif rule == "threshold" and not isinstance(value, str) and value >= 1:
        yield f"{place}.value is {value}, expected a threshold below 1"


def _network_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield requests for segmentation networks that `trained_on` does not list."""
    trained = config.get("segmentation", {}).get("trained_on", [])
    requested = {"export.predictions": config.get("export", {}).get("predictions", [])}
    for name, part in config["folders"].items():
        requested[f"folders.{name}.predictions"] = part["predictions"]
    for place, paths in requested.items():
        for path in paths:
            if path not in trained:
                near = nearest(path, trained)
                yield (
                    f"{place}: {path!r} is not in segmentation.trained_on{near}: list it there too"
                )
    for name, part in config["folders"].items():
        if not (part["pseudo_labels"] or part["predictions"]):
            yield f"folders.{name} requests nothing, expected pseudo_labels or predictions"
    export = config.get("export")
    if export and not (export["pseudo_labels"] or export["predictions"]):
        yield "export requests nothing, expected pseudo_labels or predictions, or `export: null`"


def _init_problems(classifiers: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems of ``init_from``: unknown names, other backbones, cycles."""
    sources = {key: part.get("init_from") for key, part in classifiers.items()}
    for name, settings in classifiers.items():
        place, initial = f"classifiers.{name}.init_from", settings.get("init_from")
        if initial is None:
            continue
        if initial not in classifiers:
            near = nearest(initial, [*classifiers])
            yield f"{place} names {initial!r}, which classifiers lacks{near}"
            continue
        for key in ("backbone", "last_layer"):
            own, other = settings[key], classifiers[initial][key]
            if own != other:
                yield f"{place}: {initial} has the {key} {other}, expected that of {name}, {own}"
        if cycle := _cycle(name, sources):
            yield f"{place} leads back to itself: {' from '.join(cycle)}"


def _cycle(name: str, sources: Mapping[str, str | None]) -> list[str]:
    """Follow names to their sources; return the path if it meets itself, else an empty list."""
    path, source = [name], sources.get(name)
    while source is not None and source not in path:
        path.append(source)
        source = sources.get(source)
    return [*path, source] if source is not None else []


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


def _region_problems(
    place: str, settings: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[str]:
    section = settings.get("regions")
    if section is None:
        return
    source, when = section["source"], section["when"]
    if source not in known:
        yield f"{place}.regions.source is {source!r}, which regions lacks{nearest(source, known)}"
    if when != "after-crf" and settings["crf"] is None:
        yield f"{place}.regions.when is {when}, expected after-crf or a section crf"


def _training_problems(place: str, settings: Mapping[str, Any]) -> Iterator[str]:
    low, high = settings["augmentation"]["resize"]
    if low > high:
        yield f"{place}.augmentation.resize is [{low}, {high}], expected the smaller first"
    if settings["batch_size"] % settings["accumulate"]:
        yield (
            f"{place}.batch_size is {settings['batch_size']}, expected a multiple of "
            f"accumulate, {settings['accumulate']}"
        )
    single = settings["batch_size"] // settings["accumulate"] < 2
    if single and settings.get("decoder_norm") == "batch":
        yield (
            f"{place}.batch_size is {settings['batch_size']} with accumulate "
            f"{settings['accumulate']}, expected two images or more in each part: the decoder's "
            "batch norm needs them (or set decoder_norm: group)"
        )
    if settings.get("validate_every") == 0 and settings["selection"] == "best_val_map":
        yield f"{place}.validate_every is 0, expected 1 or more to select by best_val_map, or null"
