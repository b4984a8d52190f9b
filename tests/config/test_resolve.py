import math
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import settings as of_examples
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from snakemake.utils import update_config

from pipeline.attribution import METHODS
from pipeline.config.problems import schema_problems
from pipeline.config.resolve import PRESETS, SCHEMA, refuse_duplicate_keys, resolve
from pipeline.errors import UserError
from tests.helpers import REPOSITORY

CONFIGURATIONS = [REPOSITORY / "config.yaml", *sorted((REPOSITORY / "experiments").glob("*.yaml"))]


@pytest.fixture
def demo() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        (REPOSITORY / "config.yaml").read_text(encoding="utf-8")
    )
    return config


#: Shipped files that change another one.
BASES = {
    "own-folder-dinov2.yaml": REPOSITORY / "experiments/own-folder.yaml",
    "demo-vit.yaml": REPOSITORY / "config.yaml",
}


def shipped(path: Path) -> dict[str, Any]:
    """Return a shipped configuration with the data that it leaves to its user."""
    config: dict[str, Any] = {}
    for file in (BASES.get(path.name, path), path):
        update_config(config, yaml.safe_load(file.read_text(encoding="utf-8")))
    if config["dataset"]["kind"] == "voc":
        config["dataset"].setdefault("root", "anywhere")
    if config["dataset"]["kind"] == "folder":
        config["dataset"] |= {"images": "photographs", "image_labels": "labels.csv"}
    return config


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_every_shipped_configuration_resolves(path):
    config = shipped(path)
    assert resolve(config)["experiment"] == config["experiment"]


def test_the_schema_is_a_valid_schema_whose_every_key_is_described():
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    undescribed = [
        key
        for part in (schema, *schema["$defs"].values())
        for key, value in part.get("properties", {}).items()
        if "$ref" not in value and "description" not in value
        if "const" not in value
    ]
    assert undescribed == []


def test_every_object_of_the_schema_is_closed():
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    open_objects = []

    def walk(part: Any, place: str) -> None:
        if isinstance(part, dict):
            closed = part.get("additionalProperties") is False or "oneOf" in part
            if part.get("type") == "object" and "properties" in part and not closed:
                open_objects.append(place)
            for key, value in part.items():
                walk(value, f"{place}/{key}")

    walk(schema, "")
    assert open_objects == []


def test_defaults_are_filled_in_and_the_input_is_not_changed(demo):
    before = deepcopy(demo)
    resolved = resolve(demo)
    assert demo == before
    assert resolved["dataset"]["size"] == 128
    assert resolved["classifiers"]["puzzle"]["puzzle"]["pieces"] == 4
    assert resolved["refinements"]["crf"]["crf"]["bilateral_srgb"] == 5
    assert resolved["refinements"]["threshold"]["crf"] is None
    assert resolved["evaluation"]["thresholds"] == 19


@pytest.mark.parametrize(
    "section", ["class_models", "units", "label_errors", "comparison", "affinity"]
)
def test_absent_sections_are_not_filled_in(demo, section):
    demo["pseudo_labels"] = ["plain/cam/threshold"]
    demo["segmentation"]["trained_on"] = []
    demo.pop(section, None)
    assert section not in resolve(demo)


def test_label_errors_have_defaults_and_a_known_classifier(demo):
    demo["label_errors"] = {"classifier": "plain"}
    assert resolve(demo)["label_errors"] == {"classifier": "plain", "folds": 5, "shown": 24}
    demo["label_errors"] = {"classifier": "plane"}
    with pytest.raises(UserError, match=r"label_errors\.classifier names 'plane', .*plain"):
        resolve(demo)
    demo["label_errors"] = {"classifier": "plain", "folds": 1}
    with pytest.raises(UserError, match=r"label_errors\.folds is 1, expected at least 2"):
        resolve(demo)


def test_resolving_twice_changes_nothing(demo):
    once = resolve(demo)
    assert resolve(once) == once


def test_explicit_settings_override_a_preset(demo):
    demo["classifiers"]["puzzle"] = {
        "preset": "puzzle-cam",
        "backbone": "resnet50",
        "optimizer": {"learning_rate": 0.5},
    }
    settings = resolve(demo)["classifiers"]["puzzle"]
    assert settings["optimizer"]["learning_rate"] == 0.5
    assert settings["optimizer"]["momentum"] == 1e-4
    assert settings["puzzle"] == {
        "pieces": 4,
        "alpha": 4.0,
        "ramp": 0.5,
        "reconstruction": "masked_mean",
        "norm": "l1",
    }


def test_the_official_recipe_has_the_published_values():
    official = yaml.safe_load(PRESETS.read_text(encoding="utf-8"))["classifier"]["puzzle-cam"]
    assert official["epochs"] == 15
    assert official["batch_size"] == 32
    assert official["augmentation"] == {
        "resize": [320, 640],
        "interpolation": "bicubic",
        "crop": 512,
        "flip": True,
        "color_jitter": 0,
    }
    optimizer = official["optimizer"]
    assert (optimizer["learning_rate"], optimizer["weight_decay"]) == (0.1, 1e-4)
    # The published optimizer receives the weight decay as SGD's momentum.
    assert optimizer["momentum"] == optimizer["weight_decay"]
    assert official["puzzle"]["alpha"] == 4.0


ROUND = {"method": "segmentation"}
BAD = [
    (["sedd"], 1, "unknown key 'sedd' in the top level: did you mean 'seed'?"),
    (["seed"], "x", "seed is 'x', expected a whole number (Seed of"),
    (["dataset", "kind"], "vocc", "dataset.kind is 'vocc', expected one of demo, folder, voc, cub"),
    (["dataset", "trian"], 3, "unknown key 'trian' in dataset: did you mean 'train'?"),
    (["dataset"], {"kind": "folder", "images": "x"}, "dataset lacks 'image_labels'"),
    (["dataset"], {"kind": "voc", "root": "x", "mask": "y"}, "did you mean 'masks'?"),
    (["dataset"], [], "dataset is [], expected keys with values"),
    (["dataset"], None, "the top level lacks 'dataset'"),
    (["classifiers", "plain", "puzzle"], {"alpa": 1}, "did you mean 'alpha'?"),
    (["classifiers", "plain", "puzzle"], {"alpha": -1}, "puzzle.alpha is -1, expected at least 0"),
    (["classifiers", "plain", "optimizer", "name"], "adam", "did you mean 'adamw'?"),
    (["classifiers", "plain", "preset"], "nothing", "expected one of puzzle-cam, cam"),
    (["classifiers", "plain", "init_from"], "puzle", "classifiers lacks: did you mean 'puzzle'?"),
    (["classifiers", "plain", "init_from"], "plain", "leads back to itself: plain from plain"),
    (["classifiers", "plain", "last_layer"], [], "last_layer is [], expected at least 1 of them"),
    (["classifiers", "plain", "last_layer"], ["a", "a"], "['a', 'a'], expected no entry twice"),
    (["classifiers", "plain", "last_layer"], [4], "last_layer.0 is 4, expected text"),
    (["classifiers", "plain", "last_layer"], 4, "is 4, expected text or a list or null (Module"),
    (["attributions", "cam", "align"], "yes", "align is 'yes', expected true or false"),
    (["attributions", "saliency"], {"align": True}, "unknown key 'align' in attributions.sal"),
    (["refinements", "crf", "crf"], {"iters": 5}, "did you mean 'iterations'?"),
    (["shards"], 2.0, "shards is 2.0, expected a whole number"),
    (["classifiers", "plain", "augmentation"], {1: 2}, "unknown key 1 in classifiers.plain.aug"),
    (["classifiers", "plain", "accumulate"], 3, "expected a multiple of accumulate, 3"),
    (
        ["affinity"], {"pairs": "inner", "radius": 10, "augmentation": {"crop": 72}},
        "affinity.augmentation.crop is 72, expected at least 73: "
        "a smaller crop has no inner pairs of radius 10",
    ),
    (["affinity", "kind"], "feature", "did you mean 'features'?"),
    (
        ["affinity"], {"kind": "features", "epochs": 3, "radius": 5},
        "affinity has kind features and epochs, radius, which only kind learned has: remove them, "
        "here or from the file that sets them; expected one of kind, features, layers, precision",
    ),
    (
        ["affinity"], {"layers": ["layer2"]},
        "affinity has kind learned and layers, which only kind features has: remove them",
    ),
    (["affinity"], {"kind": "features", "preset": "puzzle-cam"}, "kind features and preset, which"),
    (["affinity"], {"kind": "features", "layers": []}, "layers is [], expected at least 1 of them"),
    (["affinity"], {"kind": "features", "layer": "a"}, "did you mean 'layers'?"),
    (["segmentation", "accumulate"], 16, "accumulate 16, expected two images or more in each part"),
    (["refinements", "crf", "crf"], {"iterations": "5"}, "as text, write 5"),
    (["refinements", "crf", "background"], {"value": 1.5}, "expected a threshold below 1"),
    (["pseudo_labels"], ["plain/cam/cfr"], "'cfr', which refinements lacks: did you mean 'crf'?"),
    (["pseudo_labels"], ["plain/cam"], "pseudo_labels.0 is 'plain/cam', expected pattern"),
    (["attributions", "gradcam"], {}, "gradcam lacks 'method': expected one of cam, grad-cam"),
    (["attributions", "mine"], {"method": "camm"}, "did you mean 'cam'?"),
    (["attributions", "segmentation"], {}, "attributions.segmentation lacks 'trained_on'"),
    (["attributions", "second"], ROUND | {"trained_on": "plain/camm/crf"}, "did you mean 'cam'?"),
    (
        ["attributions", "second"], ROUND | {"trained_on": "plain/second/crf"},
        "attributions.second.trained_on leads back to itself: second from second",
    ),
    (
        ["classifiers", "plain"], {"kind": "linear-probe", "backbone": "x", "views_of": "camm"},
        "classifiers.plain.views_of is 'camm', expected an attribution with the method cam: cam",
    ),
    (
        ["classifiers", "plain"],
        {"kind": "linear-probe", "backbone": "x", "views_of": "cam", "flip": False, "size": 300},
        "plain.flip has no effect, because views_of is 'cam': remove one of the two; "
        "classifiers.plain.size has no effect",
    ),
    (["attributions", "cam", "crops"], 5, "unknown key 'crops' in attributions.cam"),
    (["attributions", "saliency"], {"crops": 10}, "saliency.crops is 10, expected one of 1, 5"),
    (
        ["classifiers", "plain", "learning_rate"], 1,
        "'learning_rate' in classifiers.plain: did you mean 'optimizer.learning_rate'?",
    ),
    (["classifiers", "plain", "xyz"], 1, "'xyz' in classifiers.plain: expected one of kind"),
    (["classifiers", "plain", "optimizer", "learning_rate"], "1e-5", "as text, write 1.0e-05"),
    (["classifiers", "plain", "optimizer", "learning_rate"], "1e-3", "as text, write 0.001"),
    (["pseudo_labels"], "plain/cam/crf", "is 'plain/cam/crf', expected a list (Pseudo-labels"),
    (["dataset"], {"kind": "folder", "images": "", "image_labels": "x"}, "expected some text"),
    (["refinements", "crf", "graph_cut"], {}, "crf and graph_cut, expected one of them"),
    (
        ["refinements", "threshold", "graph_cut"], {"background_quantile": 0.95},
        "expected less than the foreground's 0.95",
    ),
    (["refinements", "crf", "regions"], {"source": "x"}, "source is 'x', which regions lacks"),
    (["refinements", "crf", "regions"], {}, "source"),
    (["regions"], {"sam": {"kind": "folder"}}, "folder"),
    (["regions"], {"sam": {"kind": "slic", "scales": [1]}}, "'scales'"),
    (["classifiers", "plain", "augmentation", "resize"], [300, 200], "the smaller first"),
    (["classifiers", "a b"], {"backbone": "x"}, "expected pattern"),
    (["classifiers", "plain", "preset"], ["a"], "plain.preset is ['a'], expected one of puzzle-"),
    (["segmentation", "preset"], {"a": 1}, "segmentation.preset is {'a': 1}, expected one of"),
    (["weights"], {"r": "~nosuchuser/x"}, "weights.r is '~nosuchuser/x', expected a path: ~nosuch"),
    (
        ["classifiers", "plain"],
        {"backbone": "x", "validate_every": 0, "selection": "best_val_map"},
        "plain.validate_every is 0, expected 1 or more to select by best_val_map",
    ),
    (["seed"], 2**64, "seed is 18446744073709551616, expected at most 4294967295 (Seed"),
    (["seeds"], [0, 2**64], "seeds.1 is 18446744073709551616, expected at most 4294967295"),
    (
        ["refinements", "crf", "crf", "gaussian_sxy"], math.nan,
        "refinements.crf.crf.gaussian_sxy is nan, expected a finite number (Position",
    ),
    (["refinements", "crf", "background"], {"value": math.inf}, "is inf, expected a finite number"),
    (["refinements", "crf", "crf", "gaussian_sxy"], 1e-6, "1e-06, expected at least 0.01 (Pos"),
    (["attributions", "cam", "scales"], [1.0, math.nan], "scales.1 is nan, expected a finite"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "value", "message"), BAD, ids=[row[2] for row in BAD])
def test_a_mistake_is_named_in_one_line_with_its_place_and_fix(demo, keys, value, message):
    demo = deepcopy(demo)
    place = demo
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(UserError) as caught:
        resolve(demo)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text


def test_a_number_that_is_suggested_is_one_to_yaml(demo):
    for text in ("1e-5", "2.5e-7", "1E3", "1e22", "5", "-3e-9", "0.12345678"):
        demo["classifiers"]["plain"]["optimizer"]["learning_rate"] = text
        with pytest.raises(UserError) as caught:
            resolve(demo)
        suggested = str(caught.value).rpartition("write ")[2]
        assert yaml.safe_load(suggested) == float(text)


def test_null_removes_an_inherited_section(demo):
    wanted = {"pseudo_labels": ["plain/cam/crf"], "formats": ["png"]}
    assert "export" in resolve(demo | {"export": wanted})
    assert resolve(demo | {"export": None}) == resolve(demo)
    with pytest.raises(UserError, match="lacks 'classifiers'") as caught:
        resolve(demo | {"classifiers": None, "attributions": None})
    assert str(caught.value).count("lacks") == 2  # once, and in the fix
    assert "--configfile experiments/own-folder.yaml mine.yaml" in str(caught.value)


def test_home_is_expanded_in_every_path(demo, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    demo["dataset"] = {"kind": "folder", "images": "~/p", "image_labels": "~/l.csv", "masks": None}
    demo |= {"weights": {"resnet18": "~/w"}, "downloads": {"folder": "~"}}
    demo["folders"] = {"x": {"images": "~/x", "pseudo_labels": ["plain/cam/crf"]}}
    resolved = resolve(demo)
    assert resolved["dataset"]["images"] == "/home/ann/p"
    assert resolved["dataset"]["image_labels"] == "/home/ann/l.csv"
    assert resolved["dataset"]["masks"] is None
    assert resolved["weights"] == {"resnet18": "/home/ann/w"}
    assert resolved["downloads"]["folder"] == "/home/ann"
    assert resolved["folders"]["x"]["images"] == "/home/ann/x"


def test_maps_of_a_network_are_of_the_classifier_that_its_labels_come_from(demo):
    demo["attributions"]["second"] = ROUND | {"trained_on": "puzzle/cam+rw/crf"}
    resolve(demo | {"pseudo_labels": ["puzzle/second/crf"]})
    expected = "labels: 'plain/second/crf' names 'second', .* expected puzzle/second$"
    with pytest.raises(UserError, match=expected):
        resolve(demo | {"pseudo_labels": ["plain/second/crf"]})
    del demo["segmentation"]
    with pytest.raises(UserError, match=r"attributions.second .* no section 'segmentation'"):
        resolve(demo | {"pseudo_labels": ["puzzle/second/crf"]})


def test_maps_in_one_mean_have_one_stride(demo):
    second = ROUND | {"trained_on": "puzzle/cam+rw/crf", "stride": 8}
    demo["attributions"]["second"] = second
    resolve(demo)
    demo["attributions"]["second"] = second | {"previous_weight": 0.5}
    with pytest.raises(UserError, match=r"stride is 8, expected that of the previous maps, 4$"):
        resolve(demo)


def test_circular_self_training_rounds_are_reported(demo):
    for name, other in (("a", "b"), ("b", "a")):
        demo["attributions"][name] = ROUND | {"trained_on": f"plain/{other}/crf"}
    with pytest.raises(UserError, match=r"attributions\.a\.trained_on .* a from b from a;"):
        resolve(demo)


def test_allowed_values_are_described_once(demo):
    demo["attributions"]["saliency"] = {"crops": 3}
    with pytest.raises(UserError, match=r"crops is 3, expected one of 1, 5$"):
        resolve(demo)


def test_one_mistake_gives_one_problem(demo):
    demo["dataset"]["kind"] = "vocc"
    with pytest.raises(UserError) as caught:
        resolve(demo)
    assert ";" not in str(caught.value)


def test_all_mistakes_are_named_at_once(demo):
    demo["seed"] = -1
    demo["shards"] = 0
    with pytest.raises(UserError, match=r"seed is -1.*shards is 0"):
        resolve(demo)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["kind", "dataset", "classifiers", "seed", "plain", "puzzle", "preset", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_section_resolves_or_is_refused_with_a_message(value):
    demo = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    for key in ("dataset", "classifiers", "segmentation", "labels"):
        config = {**demo, key: value}
        try:
            resolve(config)
        except UserError as error:
            assert str(error).startswith("configuration: ")


def test_an_attribution_named_like_a_method_is_of_that_method(demo):
    smooth = {"method": "saliency", "smooth_grad": {"samples": 4}}
    demo["attributions"] |= {"saliency": {}, "smooth": smooth}
    resolved = resolve(demo)["attributions"]
    assert {name: item["method"] for name, item in resolved.items()} == {
        "cam": "cam", "saliency": "saliency", "smooth": "saliency",
    }  # fmt: skip
    assert resolved["smooth"]["smooth_grad"] == {"samples": 4, "noise": 0.15}


def test_the_schema_names_every_attribution_method():
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    named = schema["properties"]["attributions"]["additionalProperties"]["properties"]["method"]
    assert named["enum"] == [*METHODS, "segmentation"]


def turned(value: Any) -> Any:
    """Write every section in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return value


def test_the_order_of_settings_does_not_matter(demo):
    plain, other = resolve(demo), resolve(turned(demo))
    for section in ("segmentation", "affinity", "prediction", "dataset"):
        assert repr(plain[section]) == repr(other[section])  # what Snakemake compares
    for section in ("classifiers", "attributions", "refinements", "random_walks"):
        for name, settings in plain[section].items():
            assert repr(settings) == repr(other[section][name])


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_a_resolved_configuration_resolves_to_itself(path):
    once = resolve(shipped(path))
    assert repr(resolve(once)) == repr(once)


def test_resolved_affinities_of_features_resolve_to_themselves(demo):
    once = resolve(demo | {"affinity": {"kind": "features"}})
    assert once["affinity"] == {
        "kind": "features", "features": "classifier", "layers": None, "precision": "32-true",
    }  # fmt: skip
    assert repr(resolve(once)) == repr(once)


def test_aliases_that_unfold_without_end_are_refused_in_one_short_line():
    bomb = ["lol"] * 9
    for _ in range(9):
        bomb = [bomb] * 9
    knot: list[object] = []
    knot.append(knot)
    for value in (bomb, knot, {"a": bomb}):
        with pytest.raises(UserError) as error:
            resolve({"dataset": {"kind": "demo"}, "labels": value})
        assert str(error.value) == (
            "configuration: it expands to more than 100000 values, expected fewer: write it "
            "without aliases (*name)"
        )


def test_values_are_quoted_in_part(demo_config):
    with pytest.raises(UserError) as error:
        resolve(demo_config | {"experiment": "x y" * 3_000_000})
    message = str(error.value)
    assert len(message) < 2000 and message.startswith("configuration: experiment is 'x yx y")


@pytest.mark.parametrize("text", ["\x1b[31m", "a\x00", "\u202e", "\ud800"])
def test_control_characters_are_refused_wherever_they_are(demo_config, text):
    for change in ({"weights": {"resnet18": text}}, {"folders": {text: {}}}, {text: 1}):
        with pytest.raises(UserError, match="has a control character in ") as error:
            resolve(demo_config | change)
        assert text not in str(error.value)


def test_line_breaks_are_refused_in_keys_and_in_names(demo_config):
    changes = ({"experiment": "x\n"}, {"weights": {"resnet18": "a\nb"}}, {"folders": {"f\n": {}}})
    for change in (*changes, {"a\n": 1}, {"pseudo_labels": ["a/b/c\n"]}):
        with pytest.raises(UserError, match=r"has a line break in '.*\\n.*', expected text in one"):
            resolve(demo_config | change)


def test_a_description_may_have_several_lines(demo_config):
    demo_config["refinements"]["crf"]["background"]["threshold_source"] = (
        "by hand,\non the train split\n"
    )
    resolve(demo_config)


def patterns(part: Any) -> Iterator[str]:
    """Yield every pattern of the schema."""
    below = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    if isinstance(part, dict) and isinstance(part.get("pattern"), str):
        yield part["pattern"]
    for value in below:
        yield from patterns(value)


PATTERNS = sorted(set(patterns(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))))


def test_every_pattern_of_the_schema_is_of_whole_texts():
    assert len(PATTERNS) >= 6
    assert all(pattern[0] == "^" and pattern[-1] == "$" for pattern in PATTERNS)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_pattern_of_the_schema_lets_a_line_break_pass(pattern):
    schema = {"propertyNames": {"pattern": pattern}, "additionalProperties": {"pattern": pattern}}

    @of_examples(max_examples=10)
    @given(st.from_regex(re.compile(pattern[:-1] + r"\Z", re.ASCII)))
    def check(text: str) -> None:
        assert list(schema_problems({text: text}, schema)) == []
        for other in (f"{text}\n", f"\n{text}"):
            assert len(list(schema_problems({other: text}, schema))) == 1
            assert len(list(schema_problems({text: other}, schema))) == 1

    check()


def test_many_problems_are_all_listed(demo_config):
    with pytest.raises(UserError) as error:
        resolve(demo_config | {f"key{k}": 1 for k in range(60)})
    message = str(error.value)
    assert all(f"'key{k}'" in message for k in range(60))


def test_long_names_of_parts_are_refused(demo_config):
    with pytest.raises(UserError, match="expected at most 64 characters"):
        resolve(demo_config | {"experiment": "x" * 65})


NUMBER_TYPES = {"number", "integer"}
NO_NUMBERS = [math.nan, math.inf, -math.inf, 1e300, -1e300, 5e-324, 10**400]


def numeric_parts(part: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every part of the schema whose value may be a number."""
    if isinstance(part, dict):
        types = part.get("type", [])
        named = {types} if isinstance(types, str) else set(types)
        listed = part.get("enum", [part.get("const")])
        if named & NUMBER_TYPES or any(type(value) in {int, float} for value in listed):
            yield place, part
        for key, value in part.items():
            if key not in {"default", "enum"}:
                yield from numeric_parts(value, f"{place}/{key}")
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from numeric_parts(value, f"{place}/{number}")


ROOT = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
NUMERIC = dict(numeric_parts(ROOT))


def test_the_walk_over_the_schema_finds_its_numbers():
    text = SCHEMA.read_text(encoding="utf-8")
    written = re.findall(r"type: (?:number|integer|\[(?:number|integer), )", text)
    listed = re.findall(r"enum: \[\d+[],]", text)
    assert len(NUMERIC) == len(written) + len(listed) > 80
    assert "/$defs/crf/properties/gaussian_sxy" in NUMERIC


@pytest.mark.parametrize("value", NO_NUMBERS, ids=["nan", "inf", "-inf", *"ABCD"])
def test_every_number_is_finite_and_fits_32_bits(value):
    for place, part in NUMERIC.items():
        problems = list(schema_problems(value, part | {"$defs": ROOT["$defs"]}))
        assert problems, place
        assert all("expected" in problem for problem in problems), place


def test_every_default_number_is_allowed():
    for place, part in NUMERIC.items():
        if "default" in part:
            assert list(schema_problems(part["default"], part)) == [], place


@given(st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) >= 1e-9))
def test_a_number_without_bounds_of_its_own_may_have_any_usual_magnitude(value):
    assert list(schema_problems(value, {"type": "number"})) == []


def test_the_bounds_of_numbers_by_hand():
    assert list(schema_problems(2**31 - 1, {"type": "integer"})) == []
    (problem,) = schema_problems(2**31, {"type": "integer"})
    assert problem == "the top level is 2147483648, expected at most 2147483647"
    (problem,) = schema_problems(-1e-10, {"type": "number"})
    assert problem.endswith("expected a magnitude of at least 1e-09, or 0")
    (problem,) = schema_problems(1e-10, {"type": "number", "minimum": 0.01})
    assert problem == "the top level is 1e-10, expected at least 0.01"
    (problem,) = schema_problems(math.nan, {"type": ["number", "null"]})
    assert problem == "the top level is nan, expected a finite number or null"
    seed = ROOT["properties"]["seed"]
    assert list(schema_problems(2**32 - 1, seed)) == []
    torch.manual_seed(2**32 - 1)  # what generators take
    np.random.RandomState(2**32 - 1)
    assert list(schema_problems(2**32, seed)) != []


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_repeated_key_is_refused_with_its_lines(tmp_path):
    text = "seed: 1\ndataset:\n  kind: voc\n  masks: a\n  masks: b\nlabels: []\nseed: 2\n"
    path = write(tmp_path / "mine.yaml", text)
    with pytest.raises(UserError) as caught:
        refuse_duplicate_keys([path, str(path)])
    said = str(caught.value)
    assert f"{path}: the top level has the key 'seed' twice, in lines 1 and 7" in said
    assert f"{path}: dataset has the key 'masks' twice, in lines 4 and 5, expected once" in said
    assert said.count("' twice, in") == 2
    assert "\n" not in said


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": {"a": 2, "a": 3}}',
        "{a: 1, b: {a: 2, a: 3}}",
        "b: [{a: 2}, {a: 2, a: 3}]",
        "x: &x {a: 1, a: 2}\nb: *x\nc: *x",
        "a:\n  ? x\n  : 1\n  ? x\n  : 2",
        "b:\n  'a': 1\n  a: 2",
    ],
)
def test_repeated_keys_are_found_at_any_depth(tmp_path, text):
    with pytest.raises(UserError) as caught:
        refuse_duplicate_keys([write(tmp_path / "x", text)])
    assert str(caught.value).count("' twice, in") == 1


@pytest.mark.parametrize(
    "text",
    ["", "a: 1", "a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\ne: {b: 1}", "a: {b: 1}\nb: {b: 1}",
     "1: a\n'1': b", "a: !unknown {b: 1}", "a: [", "\t{}", "a: &a [*a]"],
)  # fmt: skip
def test_what_has_no_key_twice_is_left_to_others(tmp_path, text):
    refuse_duplicate_keys([write(tmp_path / "x", text), tmp_path / "none", tmp_path])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("b: {255: cat,\n 0xff: dog}", "b has the key '0xff', also written '255', twice, in lines"),
        ("{1: a, 1.0: b}", "the top level has the key '1.0', also written '1', twice"),
        ("{true: a, yes: b}", "the key 'yes', also written 'true', twice, in lines 1 and 1"),
        ("{2001-99-99: a, 2001-99-99: b}", "the key '2001-99-99' twice"),
        (
            '{\n\t"seed": 1,\n\t"seed": 2}',
            "a section with the keys seed has the key 'seed' 2 times",
        ),
        ('{\n\t"b": [{"x": 1, "y": 2, "x": 3}]}', "with the keys x, y has the key 'x' 2 times"),
        ("[" * 3000 + "]" * 3000, "nested too deeply, expected a few levels"),
        ("[" * 3000, "nested too deeply"),
        ("\t" + '{"a":' * 200_000 + "1" + "}" * 200_000, "nested too deeply"),
    ],
    ids=range(9),
)
def test_keys_that_are_the_same_as_values_and_deep_files_are_refused(tmp_path, text, words):
    path = write(tmp_path / "x", text)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        refuse_duplicate_keys([path])
    assert f"{path}: " in str(caught.value) and "\n" not in str(caught.value)


def test_no_shipped_file_has_a_key_twice():
    refuse_duplicate_keys([SCHEMA, PRESETS, *CONFIGURATIONS])


def test_repeated_keys_are_found_in_time_linear_in_aliases(tmp_path):
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    refuse_duplicate_keys([write(tmp_path / "bomb.yaml", "\n".join(lines))])


def own_folder(demo, **dataset):
    given = {"kind": "folder", "images": "photographs", "image_labels": "labels.csv"}
    return demo | {"dataset": given | dataset}


def test_mask_values_and_names_are_read_as_text(demo):
    given = resolve(own_folder(demo, mask_values={255: "cat", "7": "ignore"}))["dataset"]
    assert given["mask_values"] == {"255": "cat", "7": "ignore"} and given["exif"] == "apply"
    for wrong in ({256: "cat"}, {-1: "cat"}, {True: "cat"}, {"a": "cat"}, {255: 1}, {}, [255]):
        with pytest.raises(UserError, match=r"dataset\.mask_values"):
            resolve(own_folder(demo, mask_values=wrong))
    with pytest.raises(UserError, match=r"dataset\.exif is 'no', expected one of apply, ignore"):
        resolve(own_folder(demo, exif="no"))


def test_mask_values_that_are_equal_as_text_are_refused(demo):
    given = own_folder(demo, mask_values={255: "cat", "255": "ignore", 7: "dog"})
    with pytest.raises(UserError, match=r"has the value 255 2 times.*\('cat', 'ignore'\)") as error:
        resolve(given)
    assert "\n" not in str(error.value)
