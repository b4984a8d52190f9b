"""A default in code is the default of the schema."""

import importlib
import inspect
import pkgutil
from contextlib import suppress
from dataclasses import MISSING, fields

import pytest
import yaml

import pipeline
from pipeline.export.job import ExportOptions
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.graph_cut import GraphCutSettings
from pipeline.refinement.region_votes import RegionSettings
from tests.helpers import REPOSITORY

SCHEMA = yaml.safe_load((REPOSITORY / "pipeline/config/schema.yaml").read_text(encoding="utf-8"))
#: Dataclasses whose attributes are keys of a section.
SECTIONS = {
    CrfSettings: "crf", GraphCutSettings: "graph_cut", ExportOptions: "export",
    RegionSettings: "region_vote",
}  # fmt: skip
#: Arguments that are no settings, though a key of the schema has their name.
OTHER_MEANING = {
    "checked_records.splits",  # of any data set, not of an export
    "estimates.samples",  # of the bootstrap, not of SmoothGrad
    "_Synchronized.momentum",  # PyTorch's batch normalization
    "_SynchronizedAct.momentum",
    "CamClassifier.bias",  # of the class layer, not of a probe
    "_absent.folder",  # whether a folder is meant
    "Dataset.classes",  # number of classes
    "Dataset.size",  # height and width of an image
    "Job.gpus",  # of one job
    "Views.flip",  # the image itself
    "_LogFile.mode",  # of opening a file
}


def with_reference(item):
    """Return a property of the schema with what it refers to."""
    name = item.get("$ref", "").rpartition("/")[2]
    return SCHEMA["$defs"].get(name, {}) | item


def schema_defaults(node=SCHEMA):
    """Yield the key and the default of each property of the schema that has one."""
    inner = node
    if isinstance(node, dict):
        for name, item in node.get("properties", {}).items():
            if "default" in (whole := with_reference(item)):
                yield name, whole["default"]
        inner = node.values()
    for part in inner:
        if isinstance(part, (dict, list)):
            yield from schema_defaults(part)


def arguments(item):
    with suppress(ValueError):  # a class with the constructor of a built-in type
        return inspect.signature(item).parameters.values()
    return ()


def code_defaults():
    """Yield the name and the default of each argument in the package, and of each attribute."""
    for info in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        for name, item in vars(importlib.import_module(info.name)).items():
            if callable(item) and getattr(item, "__module__", None) == info.name:
                for argument in arguments(item):
                    if argument.default not in (inspect.Parameter.empty, None, ()):
                        yield f"{name}.{argument.name}", argument.default


@pytest.mark.parametrize("settings", SECTIONS, ids=lambda settings: settings.__name__)
def test_a_section_has_the_same_defaults_in_code(settings):
    properties = SCHEMA["$defs"][SECTIONS[settings]]["properties"]
    found = {field.name: field.default for field in fields(settings)}
    known = {name: with_reference(properties[name]).get("default", MISSING) for name in found}
    assert found == known


def test_a_setting_has_the_same_default_in_code():
    known = {}
    for key, default in schema_defaults():
        known.setdefault(key, []).append(default)
    compared = {
        place: (list(default) if isinstance(default, tuple) else default, known[key])
        for place, default in code_defaults()
        if (key := place.rpartition(".")[2]) in known
    }
    unlike = {place for place, (default, values) in compared.items() if default not in values}
    assert unlike == OTHER_MEANING & compared.keys()
    assert len(compared) > 3 * len(OTHER_MEANING)
