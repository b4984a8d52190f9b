"""The project's files agree with one another."""

import ast
import importlib
import inspect
import re
import tomllib

import pytest
import yaml

from pipeline.config.resolve import resolve
from pipeline.resources.requests import needs
from pipeline.runtime.stage import TRIGGERS
from tests.conftest import REPOSITORY

SHIPPED = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
BLOCK = re.compile(r"^(?:use )?rule (\w+)(?: as (\w+) with)?:\n((?:    .*\n|\n)*)", re.MULTILINE)


def lines(name):
    return [line for line in (REPOSITORY / name).read_text(encoding="utf-8").splitlines() if line]


def test_every_requirement_is_one_version_without_an_address():
    for line in lines("requirements.txt") + lines("requirements-dev.txt"):
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][0-9a-z.]*", line), line


def test_direct_dependencies_are_pinned_as_in_the_requirements():
    assert set(PROJECT["project"]["dependencies"]) <= set(lines("requirements.txt"))
    for group in ("dev", "docs"):
        assert set(PROJECT["dependency-groups"][group]) <= set(lines("requirements-dev.txt"))
    assert set(lines("requirements.txt")) <= set(lines("requirements-dev.txt"))


def test_uv_is_held_to_the_same_versions():
    assert PROJECT["tool"]["uv"]["constraint-dependencies"] == lines("requirements-dev.txt")


def test_conda_environments_hold_the_same_pins():
    environments = list((REPOSITORY / "envs").glob("*.yaml"))
    assert environments
    for path in environments:
        dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
        pip = next(item["pip"] for item in dependencies if isinstance(item, dict))
        assert pip == lines("requirements.txt")


def test_lock_files_stay_out_of_git():
    ignored = lines(".gitignore")
    assert "uv.lock" in ignored and "results/" in ignored


def rules():
    text = (REPOSITORY / "Snakefile").read_text(encoding="utf-8")
    return {new or name: body for name, new, body in BLOCK.findall(text) if name != "all"}


def names_in(body, section):
    """Give the keywords of a section of a rule, as snakefmt lays them out."""
    found = re.search(rf"^    {section}:\n((?:        .*\n|\n)*)", body, re.MULTILINE)
    return set(re.findall(r"^        (\w+)=", found[1], re.MULTILINE)) if found else set()


def test_every_stage_has_a_rule_and_every_rule_a_stage():
    scripts = {re.search(r'"pipeline/stages/(\w+)\.py"', body) for body in rules().values()}
    used = {found[1] for found in scripts if found}
    assert used == {path.stem for path in (REPOSITORY / "pipeline/stages").glob("[!_]*.py")}
    assert len(rules()) == 40


@pytest.mark.parametrize("rule", rules())
def test_a_rule_names_its_files_as_its_stage_names_its_arguments(rule):
    body = rules()[rule]
    stage = "evaluate" if rule in {"evaluate_labels", "evaluate_predictions"} else rule
    function = getattr(importlib.import_module(f"pipeline.stages.{stage}"), stage)
    parameters = inspect.signature(function).parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    given = set().union(*(names_in(body, part) for part in ("input", "output", "params")))
    wildcards = set(re.findall(r"{{(\w+)}}", body)) | {"threads"}
    # What is downloaded is known by its checksum: other code does not make it another file.
    assert ("code" in given) != (rule.startswith("download_") or rule == "estimate")
    assert given - TRIGGERS <= parameters.keys()
    resources = names_in(body, "resources")
    if f'**needs(CONFIG, "{rule}")' in body:
        resources |= needs(resolve(SHIPPED), rule).keys()
    assert parameters.keys() - wildcards <= given | resources


def test_only_scoring_and_the_report_are_given_masks():
    seeing = {rule for rule, body in rules().items() if "masks" in names_in(body, "input")}
    assert seeing == {
        "sweep_thresholds", "evaluate_labels", "evaluate_boxes", "evaluate_predictions", "localize",
        "report",
    }  # fmt: skip


def test_only_scoring_and_the_report_are_given_true_boxes():
    seeing = {rule for rule, body in rules().items() if "dataset/boxes.csv" in body}
    assert seeing == {"list_ground_truth", "evaluate_boxes", "localize", "report"}


def test_an_experiment_stands_on_its_own():
    for path in (REPOSITORY / "experiments").glob("*.yaml"):
        assert "dataset" in yaml.safe_load(path.read_text(encoding="utf-8")), path


def texts_without_encoding(source):
    """Find the lines that read or write text in the locale's encoding, as far as names tell."""
    for node in ast.walk(ast.parse(source)):
        keywords = {item.arg for item in getattr(node, "keywords", [])}
        if not isinstance(node, ast.Call) or "encoding" in keywords:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        mode = next((arg.value for arg in node.args if isinstance(arg, ast.Constant)), "r")
        opens = name == "open" and owner not in {"Image", "tarfile", "os", "archive"}
        method = isinstance(node.func, ast.Attribute)
        if (method and name in {"read_text", "write_text"}) or (opens and "b" not in str(mode)):
            yield node.lineno


def test_every_text_file_is_read_and_written_as_utf_8():
    assert list(texts_without_encoding('p.open()\nopen("x", "w")\np.read_text()')) == [1, 2, 3]
    fine = 'p.open("rb")\nopen("x", encoding="utf-8")\nImage.open(p)'
    assert list(texts_without_encoding(fine)) == []
    found = {
        f"{path.relative_to(REPOSITORY)}:{line}"
        for folder in ("pipeline", "benchmarks", "examples", "tests")
        for path in (REPOSITORY / folder).rglob("*.py")
        for line in texts_without_encoding(path.read_text(encoding="utf-8"))
    }
    assert found == set()


SHOWN = re.compile(r"--configfile ((?:[^\s`#()-][^\s`#()]* ?)*)")


def test_commands_that_are_shown_have_no_target_behind_configfile():
    """Snakemake takes all that follows --configfile for files, up to the next option."""
    assert SHOWN.findall("snakemake a --configfile b.yaml c -n") == ["b.yaml c "]
    suffixes = {".py", ".yaml", ".md", ".txt"}
    files = [path for folder in ("pipeline", "profiles", "experiments", "docs", "examples")
             for path in (REPOSITORY / folder).rglob("*") if path.suffix in suffixes]  # fmt: skip
    shown = [
        word
        for path in [*files, *REPOSITORY.glob("*.md"), REPOSITORY / "config.yaml"]
        for command in SHOWN.findall(path.read_text(encoding="utf-8"))
        for word in command.split()
    ]
    assert len(shown) > 10
    targets = {word for word in shown if word in rules() or word.startswith("results/")}
    assert targets == set()


def test_the_package_is_typed_and_states_its_version_once():
    assert (REPOSITORY / "pipeline/py.typed").is_file()
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changes, re.MULTILINE)[0] == citation["version"]


def test_every_hook_is_a_local_check():
    """No host is asked for anything: each hook runs a tool of the project's environment."""
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    for hook in hooks["repos"][0]["hooks"]:
        tool = hook["entry"].split()[3]
        assert hook["entry"].startswith("uv run --quiet ")
        assert any(line.startswith(f"{tool}==") for line in PROJECT["dependency-groups"]["dev"])
