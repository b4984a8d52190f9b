"""The documentation's code runs, its configurations are valid, and its commands exist.

A block of YAML says what it is in a comment on the line before it:

    <!-- base: config.yaml -->                   changes to a configuration of this repository
    <!-- base: config.yaml without export -->    the same, without some of its sections
    <!-- base: none -->                          a whole configuration
    <!-- schema: dataset -->                     a definition that the schema's section gets
"""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import snakemake.exceptions
import yaml
from snakemake.cli import get_argument_parser
from snakemake.utils import update_config

from pipeline.attribution import METHODS
from pipeline.config.resolve import SCHEMA, resolve
from pipeline.config.upper_bound import GROUND_TRUTH
from pipeline.datasets.manifest import Record
from pipeline.datasets.readers import READERS
from pipeline.errors import UserError
from pipeline.export import FORMATS
from pipeline.io.arrays import ClassMaps
from pipeline.io.tables import read_table, write_table
from pipeline.planning.plan import Plan
from pipeline.refinement.labels import BACKGROUND_RULES
from tests.helpers import REPOSITORY

PAGES = [
    REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]  # fmt: skip
#: Files that the documentation asks its reader to write.
WRITTEN = {"mine.yaml", "my-paths.yaml", "long-walk.yaml", "seeds.yaml"}


class Block(NamedTuple):
    """A fenced block of code: its info string, the comment before it, and its text."""

    language: str
    comment: str
    text: str


def fenced(text):
    """Yield the line number and the block of every fence, as CommonMark closes them."""
    lines = text.splitlines()
    fence, start = None, 0
    for number, line in enumerate(lines):
        marks = re.match(r"(`{3,})(.*)", line)
        if fence is None and marks:
            fence, start = marks, number
        elif fence and re.fullmatch(rf"`{{{len(fence[1])},}}\s*", line):
            comment = re.fullmatch(r"<!-- (.*) -->", lines[start - 1]) if start else None
            body = "\n".join(lines[start + 1 : number])
            yield start + 1, Block(fence[2].strip(), comment[1] if comment else "", body)
            fence = None
    assert fence is None, f"the fence of line {start + 1} is not closed"


def blocks(language):
    """Return the blocks of a language on all pages, each under its page and line."""
    return [
        pytest.param(block, id=f"{page.relative_to(REPOSITORY)}:{number}")
        for page in PAGES
        for number, block in fenced(page.read_text(encoding="utf-8"))
        if block.language == language
    ]


def test_fences_are_read_as_they_are_nested():
    text = "<!-- base: none -->\n````yaml\na: 1\n```\nb\n````\n```{glossary}\nx\n```\n```sh\ny\n```"
    assert list(fenced(text)) == [
        (2, Block("yaml", "base: none", "a: 1\n```\nb")),
        (7, Block("{glossary}", "", "x")),
        (10, Block("sh", "", "y")),
    ]


@pytest.fixture
def registries():
    """Forget what an example adds to the package."""
    known = (METHODS, READERS, FORMATS, BACKGROUND_RULES)
    kept = [dict(registry) for registry in known]
    yield
    for registry, before in zip(known, kept, strict=True):
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("block", blocks("python"))
@pytest.mark.usefixtures("registries")
def test_python_prints_what_its_comments_say(block, tmp_path, monkeypatch, capsys):
    expected = re.findall(r"^print\(.*\)  # (.*)$", block.text, re.MULTILINE)
    assert expected, "no line `print(...)  # EXPECTED`"
    example = tmp_path / "documented_example.py"
    example.write_text(block.text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(example.stem, example)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, example.stem, module)
    monkeypatch.chdir(tmp_path)
    spec.loader.exec_module(module)
    assert capsys.readouterr().out.splitlines() == expected


def configuration(base):
    """Read the configuration that a comment names, as Snakemake reads its first file."""
    name, _, without = base.partition(" without ")
    if name == "none":
        return {}
    found = yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))
    absent = without.split(", ") if without else []
    assert set(absent) <= found.keys()
    return {key: part for key, part in found.items() if key not in absent}


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_is_a_valid_configuration_or_definition(block, tmp_path, monkeypatch):
    kind, _, rest = block.comment.partition(": ")
    part = yaml.safe_load(block.text)
    if kind == "base":
        config = configuration(rest)
        update_config(config, part)
        assert Plan(resolve(config)).targets()
        return
    assert kind == "schema", "no comment <!-- base: ... --> or <!-- schema: ... --> before it"
    ((name, definition),) = part.items()
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    schema["$defs"][name] = definition
    section = schema["properties"][rest]
    section = section.get("additionalProperties", section)
    section["oneOf"].append({"$ref": f"#/$defs/{name}"})
    ((key, known),) = section["properties"].items()
    value = definition["properties"][key]["const"]
    known["enum"].append(value)
    extended = tmp_path / "schema.yaml"
    extended.write_text(yaml.safe_dump(schema), encoding="utf-8")
    used = {
        "attributions": {"attributions": {"documented": {"method": value}}},
        "dataset": {"dataset": {"kind": value, "root": "pets"}},
    }[rest]
    config = configuration("config.yaml without dataset" if rest == "dataset" else "config.yaml")
    update_config(config, used)
    with pytest.raises(UserError, match=value):
        resolve(config)
    monkeypatch.setattr("pipeline.config.resolve.SCHEMA", extended)
    resolve(config)


@pytest.mark.parametrize("page", ["README.md", "docs/own-data.md"])
def test_the_lines_for_own_data_write_a_valid_configuration(page, tmp_path):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    lines = re.findall(r"^printf .* > [\w.]+", text, re.MULTILINE)
    subprocess.run(["sh", "-e", "-c", "\n".join(lines)], cwd=tmp_path, check=True)

    config = configuration("experiments/own-folder.yaml")
    update_config(config, yaml.safe_load((tmp_path / "mine.yaml").read_text(encoding="utf-8")))
    resolved = resolve(config)

    assert resolved["experiment"] == "mine"
    table = read_table(tmp_path / resolved["dataset"]["image_labels"])
    assert table == [{"image": "a.jpg", "labels": "cat;dog"}, {"image": "b.jpg", "labels": ""}]


def commands(start):
    """Return the commands of all blocks of sh that begin with a word, each with its page."""
    found = []
    for parameters in blocks("sh"):
        for line in parameters.values[0].text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            ends = [number for number, word in enumerate(words) if word == "&&"]
            for begin, end in zip([-1, *ends], [*ends, len(words)], strict=True):
                command = words[begin + 1 : end]
                uv = command[:1] and command[0].endswith("uv") and command[1:2] == ["run"]
                command = command[2:] if uv else command
                if command[:1] == [start]:
                    found.append(pytest.param(command[1:], id=f"{parameters.id}: {line}"))
    return found


def test_the_overview_of_the_steps_names_every_rule(workflow):
    text = (REPOSITORY / "docs/concepts.md").read_text(encoding="utf-8")
    (overview,) = [b.text for _, b in fenced(text) if b.language == "text"]
    assert set(re.findall(r"[a-z]+(?:_[a-z]+)*", overview)) >= workflow["rules"].keys() - {"all"}


@pytest.mark.parametrize("words", commands("snakemake"))
def test_snakemake_knows_the_arguments_rules_and_files_of_a_command(words, demo_config, workflow):
    arguments = get_argument_parser().parse_args(words)
    plan = Plan(demo_config)
    results = {*plan.targets(), *plan.scores(), *plan.histories()}
    for target in arguments.targets:
        assert target in workflow["rules"].keys() | results
    for path in [*(arguments.configfile or []), *filter(None, [arguments.snakefile])]:
        assert (REPOSITORY / path).is_file() or str(path) in WRITTEN
    if arguments.workflow_profile:
        assert (REPOSITORY / arguments.workflow_profile / "config.yaml").is_file()


def test_scripts_that_pages_name_exist():
    named = {
        script
        for page in PAGES
        for script in re.findall(
            r"(?<![\w/])((?:benchmarks|tests|docs|pipeline|rules)/[\w/]+\.(?:py|smk|yaml))",
            page.read_text(encoding="utf-8"),
        )
    }
    assert {"benchmarks/random_walk.py", "pipeline/config/schema.yaml"} <= named
    assert [script for script in sorted(named) if not (REPOSITORY / script).is_file()] == []


def test_folders_of_results_that_pages_name_are_those_of_the_rules(workflow):
    known = {"run": set(), "experiment": set()}
    for rule in workflow["rules"].values():
        for folder, experiment, *parts in (path.split("/") for path in rule["written"]):
            if (folder, experiment) == ("results", "tiny"):
                of_run = parts[0].startswith("seed-")
                known["run" if of_run else "experiment"].add(parts[of_run])
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    of_runs = set(re.findall(r"\bRUN/(\w+(?:\.\w+)?)", text))
    of_experiments = set(re.findall(r"\bresults/(?:EXPERIMENT|demo|mine)/([a-z_]+)\b(?!-N)", text))
    assert {"pseudo_labels", "segmentation", "report.html"} <= of_runs <= known["run"]
    stems = {name.partition(".")[0] for place in known.values() for name in place}
    assert {"dataset", "pseudo_labels"} <= of_experiments <= stems


def test_scores_in_the_results_table_are_those_of_its_configuration():
    text = (REPOSITORY / "docs/results.md").read_text(encoding="utf-8")
    shown = re.findall(r"\| `([^`]+\.json)` \|", text)
    config = configuration("experiments/voc2012-subset.yaml") | {"dataset": {"kind": "voc"}}
    config["segmentation"]["trained_on"] += [GROUND_TRUTH]
    plan = Plan(resolve(config))
    assert len(shown) == 11
    assert {f"results/voc2012-subset/scores/{file}" for file in shown} <= {*plan.scores()}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_pages_outside_the_site_are_valid(page):
    """Sphinx checks those of docs/."""
    targets = re.findall(
        r"\]\(([^)#\s]+)[^)]*\)|(?:src|href)=\"([^\"#]+)",
        (REPOSITORY / page).read_text(encoding="utf-8"),
    )
    local = [target for target in map("".join, targets) if not re.match(r"\w+:", target)]
    assert [target for target in local if not (REPOSITORY / target).exists()] == []


def test_the_readme_is_short_and_its_commands_are_those_of_ci():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 200
    (tests,) = re.findall(r"^python3 -m venv .* pytest$", readme, re.MULTILINE)
    assert tests in (REPOSITORY / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert re.findall(r"^python3 -m venv .*snakemake --cores all$", readme, re.MULTILINE)


@pytest.mark.parametrize(
    "term",
    [
        "ground truth", "pseudo-label", "class activation map", "CAM", "boundary map",
        "boundary network", "affinity", "random walk", "marker-based random walk", "marker",
        "posterior", "background threshold", "foreground", "object", "self-training round",
        "confident pixel", "uncertain pixel", "image-level label", "segmentation network",
        "backbone", "checkpoint", "seed", "faithfulness",
    ],
)  # fmt: skip
def test_the_glossary_defines_a_term_of_the_field_once(term):
    page = REPOSITORY / "docs/glossary.md"
    entries = "\n".join(
        b.text for _, b in fenced(page.read_text(encoding="utf-8")) if b.language == "{glossary}"
    )
    assert entries.splitlines().count(term) == 1


def test_documented_messages_are_in_the_code():
    """Each is quoted, with dots for what differs."""
    page = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` (?:\(a [\w ]+\) )?\|", page, re.MULTILINE)
    assert len(messages) > 15
    files = [*(REPOSITORY / "pipeline").rglob("*.py"), Path(snakemake.exceptions.__file__)]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    code = re.sub(r"\"\s*\n\s*f?\"", "", code)  # adjacent strings are one
    parts = [part.strip(" ,:") for message in messages for part in message.split("...")]
    assert [part for part in parts if part not in code] == []


# The configuration reference ---------------------------------------------------------------


@pytest.fixture
def reference():
    spec = importlib.util.spec_from_file_location(
        "configuration_reference", REPOSITORY / "docs/_ext/configuration_reference.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # which its dataclass looks itself up in
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


SMALL = """
properties:
  steps: {description: "How many.", type: integer, minimum: 1, maximum: 9, default: 3}
  dataset:
    properties: {kind: {enum: [a, b]}}
    oneOf: [{$ref: "#/$defs/a"}, {$ref: "#/$defs/b"}]
  walks: {type: object, additionalProperties: {$ref: "#/$defs/walk"}, default: {}}
  best: {oneOf: [{type: "null"}, {$ref: "#/$defs/walk"}], default: null}
required: [dataset]
$defs:
  a: {properties: {kind: {const: a}}}
  b:
    properties:
      kind: {const: b}
      sizes: {type: array, items: {type: number, exclusiveMinimum: 0}, minItems: 1}
    required: [sizes]
  walk: {description: "A | walk.", properties: {mode: {enum: [x, y], default: x}}}
"""


def test_the_reference_has_a_table_for_every_object_with_all_places(reference):
    schema = yaml.safe_load(SMALL)
    assert [(s.paths, s.anchor) for s in reference.sections(schema)] == [
        ([""], "config-top-level"),
        (["dataset (a)"], "config-dataset-a"),
        (["dataset (b)"], "config-dataset-b"),
        (["walks.NAME", "best"], "config-walks-name"),
    ]
    rows = reference.configuration_reference(schema).splitlines()
    assert (
        "| [`steps`]{#config-top-level-steps-key} | integer | `3` | ≥ 1, ≤ 9 | How many. |" in rows
    )
    assert (
        "| [`sizes`]{#config-dataset-b-sizes-key} | list of number | required | at least 1, "
        "each > 0 |  |" in rows
    )
    assert "| [`mode`]{#config-walks-name-mode-key} | one of `x`, `y` | `x` |  |  |" in rows
    assert "The same keys are used at `best`." in rows
    (best,) = [row for row in rows if row.startswith("| [`best`]")]
    assert "section or null | `null`" in best and "A \\| walk." not in best
    assert "[`best`](#config-walks-name)" in best


def test_the_reference_names_every_key_of_the_schema(reference):
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    text = reference.configuration_reference(schema)

    def keys(part):
        if isinstance(part, dict):
            yield from (
                part.get("properties", {}) if isinstance(part.get("properties"), dict) else ()
            )
            for below in part.values():
                yield from keys(below)
        elif isinstance(part, list):
            for below in part:
                yield from keys(below)

    assert {key for key in keys(schema) if f"[`{key}`]{{#" not in text} == set()
    anchors = re.findall(r"\{#([\w-]+)\}", text)
    assert len(anchors) == len(set(anchors))


# The figure of the method ------------------------------------------------------------------


def test_the_figure_shows_images_of_median_score_in_class_colors(tmp_path):
    spec = importlib.util.spec_from_file_location("draw", REPOSITORY / "docs/draw_method.py")
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    scores = {"a": 0.1, "b": 0.5, "c": 0.6, "d": 0.9, "single": 0.55}
    write_table(tmp_path / "scores.csv", ("id", "miou"), scores.items())
    records = [
        Record(name, Path("x"), 1, 1, "train", ("redcap",) * (1 if name == "single" else 2))
        for name in scores
    ]
    # The median of a to d is .55, which the image of one class has.
    found = draw.of_median_score(tmp_path / "scores.csv", records, 2)
    assert {record.id for record in found} == {"b", "c"}

    red, gold = draw.color_of("redcap"), draw.color_of("goldcap")
    label = draw.colored_label(np.array([[0, 1, 2]], np.uint8), ["redcap", "goldcap"])
    assert np.array_equal(label[0, 1:], [red, gold]) and np.all(label[0, 0] == 0.93)

    values = np.array([[[1.0, 0.0]], [[0.0, 0.0]]], np.float16)
    maps = ClassMaps(np.array([1, 2]), values, (1, 2))
    shown = draw.colored_maps(maps, np.full((1, 2, 3), 255, np.uint8), ["redcap", "goldcap"])
    assert np.allclose(shown[0, 0], red) and np.allclose(shown[0, 1], 0.95)
