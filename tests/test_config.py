from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.attribution import METHODS
from pipeline.config import PRESETS, SCHEMA, resolve
from pipeline.errors import UserError
from tests.conftest import REPOSITORY

CONFIGURATIONS = [REPOSITORY / "config.yaml", *sorted((REPOSITORY / "experiments").glob("*.yaml"))]


@pytest.fixture
def demo() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    return config


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_every_shipped_configuration_resolves(path):
    config = yaml.safe_load(path.read_text())
    if config["dataset"]["kind"] == "voc":
        config["dataset"].setdefault("root", "anywhere")
    if config["dataset"]["kind"] == "folder":
        config["dataset"] |= {"images": "photographs", "labels": "labels.csv"}
    assert resolve(config)["experiment"] == config["experiment"]


def test_the_schema_is_a_valid_schema_whose_every_key_is_described():
    schema = yaml.safe_load(SCHEMA.read_text())
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
    schema = yaml.safe_load(SCHEMA.read_text())
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


@pytest.mark.parametrize("section", ["class_models", "units", "comparison", "affinity"])
def test_what_is_not_asked_for_is_not_filled_in(demo, section):
    demo |= {"labels": ["plain/cam/threshold"], "segmenters": []}
    demo.pop(section, None)
    assert section not in resolve(demo)


def test_resolving_twice_changes_nothing(demo):
    once = resolve(demo)
    assert resolve(once) == once


def test_a_preset_lies_under_what_stands_beside_it(demo):
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
    official = yaml.safe_load(PRESETS.read_text())["classifier"]["puzzle-cam"]
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
    # The published optimiser receives the weight decay as SGD's momentum.
    assert optimizer["momentum"] == optimizer["weight_decay"]
    assert official["puzzle"]["alpha"] == 4.0


ROUND = {"method": "segmenter"}
BAD = [
    (["sedd"], 1, "unknown key 'sedd' in the top level: did you mean 'seed'?"),
    (["seed"], "x", "seed is 'x', expected a whole number (Seed of"),
    (["dataset", "kind"], "vocc", "dataset.kind is 'vocc', expected one of demo, folder, voc, cub"),
    (["dataset", "trian"], 3, "unknown key 'trian' in dataset: did you mean 'train'?"),
    (["dataset"], {"kind": "folder", "images": "x"}, "dataset lacks 'labels'"),
    (["dataset"], {"kind": "voc", "root": "x", "mask": "y"}, "did you mean 'masks'?"),
    (["dataset"], [], "dataset is [], expected keys with values"),
    (["dataset"], None, "the top level lacks 'dataset'"),
    (["classifiers", "plain", "puzzle"], {"alpa": 1}, "did you mean 'alpha'?"),
    (["classifiers", "plain", "puzzle"], {"alpha": -1}, "puzzle.alpha is -1, expected at least 0"),
    (["classifiers", "plain", "optimizer", "name"], "adam", "did you mean 'adamw'?"),
    (["classifiers", "plain", "preset"], "nothing", "expected one of puzzle-cam, cam"),
    (["classifiers", "plain", "start"], "puzle", "which classifiers lacks: did you mean 'puzzle'?"),
    (["classifiers", "plain", "start"], "plain", "leads back to itself: plain from plain"),
    (["classifiers", "puzzle", "augmentation", "crop"], 120, "crop is 120, expected a multiple"),
    (["refinements", "crf", "crf"], {"iters": 5}, "did you mean 'iterations'?"),
    (["shards"], 2.0, "shards is 2.0, expected a whole number"),
    (["classifiers", "plain", "augmentation"], {1: 2}, "unknown key 1 in classifiers.plain.aug"),
    (["classifiers", "plain", "accumulate"], 3, "expected a multiple of accumulate, 3"),
    (
        ["affinity"], {"pairs": "inner", "radius": 10, "augmentation": {"crop": 72}},
        "affinity.augmentation.crop is 72, expected at least 73: of 10 cells' radius",
    ),
    (["segmenter", "accumulate"], 16, "accumulate 16, expected two images or more in each part"),
    (["refinements", "crf", "crf"], {"iterations": "5"}, "for text, write 5"),
    (["refinements", "crf", "background"], {"value": 1.5}, "expected a threshold below 1"),
    (["labels"], ["plain/cam/cfr"], "'cfr', which refinements lacks: did you mean 'crf'?"),
    (["labels"], ["plain/cam"], "labels.0 is 'plain/cam', expected pattern"),
    (["attributions", "gradcam"], {}, "gradcam lacks 'method': expected one of cam, grad-cam"),
    (["attributions", "mine"], {"method": "camm"}, "did you mean 'cam'?"),
    (["attributions", "segmenter"], {}, "attributions.segmenter lacks 'labels'"),
    (["attributions", "second"], ROUND | {"labels": "plain/camm/crf"}, "did you mean 'cam'?"),
    (
        ["attributions", "second"], ROUND | {"labels": "plain/second/crf"},
        "attributions.second.labels leads back to itself: second from second",
    ),
    (["attributions", "cam", "crops"], 5, "unknown key 'crops' in attributions.cam"),
    (["attributions", "saliency"], {"crops": 10}, "saliency.crops is 10, expected one of 1, 5"),
    (
        ["classifiers", "plain", "learning_rate"], 1,
        "'learning_rate' in classifiers.plain: did you mean 'optimizer.learning_rate'?",
    ),
    (["classifiers", "plain", "xyz"], 1, "'xyz' in classifiers.plain: expected one of kind"),
    (["classifiers", "plain", "optimizer", "learning_rate"], "1e-5", "for text, write 1.0e-05"),
    (["classifiers", "plain", "optimizer", "learning_rate"], "1e-3", "for text, write 0.001"),
    (["labels"], "plain/cam/crf", "labels is 'plain/cam/crf', expected a list (Pseudo-labels"),
    (["dataset"], {"kind": "folder", "images": "", "labels": "x"}, "is '', expected some text"),
    (["refinements", "crf", "graph_cut"], {}, "crf and graph_cut, expected one of them"),
    (
        ["refinements", "threshold", "graph_cut"], {"background_quantile": 0.95},
        "expected less than the foreground's 0.95",
    ),
    (["classifiers", "plain", "augmentation", "resize"], [300, 200], "the smaller first"),
    (["classifiers", "a b"], {"backbone": "x"}, "expected pattern"),
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


def test_a_section_that_is_null_is_taken_back(demo):
    wanted = {"labels": ["plain/cam/crf"], "formats": ["png"]}
    assert "export" in resolve(demo | {"export": wanted})
    assert resolve(demo | {"export": None}) == resolve(demo)
    with pytest.raises(UserError, match="lacks 'classifiers'") as caught:
        resolve(demo | {"classifiers": None, "attributions": None})
    assert str(caught.value).count("lacks") == 2  # once, and in the way to mend it
    assert "--configfile experiments/own-folder.yaml mine.yaml" in str(caught.value)


def test_home_is_expanded_in_every_path(demo, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    demo["dataset"] = {"kind": "folder", "images": "~/p", "labels": "~/l.csv", "masks": None}
    demo |= {"weights": {"resnet18": "~/w"}, "downloads": {"folder": "~"}}
    demo["folders"] = {"x": {"images": "~/x", "labels": ["plain/cam/crf"]}}
    resolved = resolve(demo)
    assert resolved["dataset"]["images"] == "/home/ann/p"
    assert resolved["dataset"]["labels"] == "/home/ann/l.csv"
    assert resolved["dataset"]["masks"] is None
    assert resolved["weights"] == {"resnet18": "/home/ann/w"}
    assert resolved["downloads"]["folder"] == "/home/ann"
    assert resolved["folders"]["x"]["images"] == "/home/ann/x"


def test_maps_of_a_network_are_of_the_classifier_that_its_labels_come_from(demo):
    demo["attributions"]["second"] = ROUND | {"labels": "puzzle/cam+rw/crf"}
    resolve(demo | {"labels": ["puzzle/second/crf"]})
    expected = "labels: 'plain/second/crf' names 'second', .* expected puzzle/second$"
    with pytest.raises(UserError, match=expected):
        resolve(demo | {"labels": ["plain/second/crf"]})
    del demo["segmenter"], demo["segmenters"]
    with pytest.raises(UserError, match=r"attributions.second .* no section 'segmenter'"):
        resolve(demo | {"labels": ["puzzle/second/crf"]})


def test_maps_in_one_mean_have_one_stride(demo):
    second = ROUND | {"labels": "puzzle/cam+rw/crf", "stride": 8}
    demo["attributions"]["second"] = second
    resolve(demo)
    demo["attributions"]["second"] = second | {"earlier": 0.5}
    with pytest.raises(UserError, match=r"second\.stride is 8, expected the earlier maps' 4$"):
        resolve(demo)


def test_rounds_that_lead_back_to_each_other_are_named(demo):
    for name, other in (("a", "b"), ("b", "a")):
        demo["attributions"][name] = ROUND | {"labels": f"plain/{other}/crf"}
    with pytest.raises(UserError, match=r"attributions\.a\.labels .* a from b from a;"):
        resolve(demo)


def test_what_a_setting_may_be_is_said_once(demo):
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
                st.sampled_from(["kind", "dataset", "classifiers", "seed", "plain", "puzzle", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_section_resolves_or_is_refused_with_a_message(value):
    demo = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    for key in ("dataset", "classifiers", "segmenter", "labels"):
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
    schema = yaml.safe_load(SCHEMA.read_text())
    named = schema["properties"]["attributions"]["additionalProperties"]["properties"]["method"]
    assert named["enum"] == [*METHODS, "segmenter"]


def turned(value: Any) -> Any:
    """Write every section in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return value


def test_the_order_of_settings_does_not_matter(demo):
    plain, other = resolve(demo), resolve(turned(demo))
    for section in ("segmenter", "affinity", "prediction", "dataset"):
        assert repr(plain[section]) == repr(other[section])  # what Snakemake compares
    for section in ("classifiers", "attributions", "refinements", "random_walks"):
        for name, settings in plain[section].items():
            assert repr(settings) == repr(other[section][name])


def test_a_resolved_configuration_resolves_to_itself(demo):
    assert repr(resolve(resolve(demo))) == repr(resolve(demo))
