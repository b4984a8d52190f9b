"""The project's files agree with one another."""

import ast
import importlib
import inspect
import re
import tomllib
from graphlib import TopologicalSorter

import pytest
import yaml

from pipeline import stages
from pipeline.resources.rules import REQUESTED
from pipeline.runtime.stage import TRIGGERS
from tests.helpers import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


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
    assert [path.name for path in environments] == ["pipeline.yaml"]
    for path in environments:
        dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
        pip = next(item["pip"] for item in dependencies if isinstance(item, dict))
        assert pip == lines("requirements.txt")


def test_lock_files_stay_out_of_git():
    ignored = lines(".gitignore")
    assert "uv.lock" in ignored and "results/" in ignored


STAGES = sorted(path.stem for path in (REPOSITORY / "pipeline/stages").glob("[!_]*.py"))
#: Rules that run the stage of another name, by stage.
SHARED = {
    "evaluate": {
        "evaluate_labels",
        "evaluate_predictions",
        "evaluate_upper_bound",
        "evaluate_corrections",
    },
    "export_labels": {"export_labels", "export_upper_bound"},
    "predict_masks": {"predict_masks", "predict_upper_bound"},
    "predict_soft_masks": {"predict_soft_masks", "predict_soft_upper_bound"},
}


@pytest.fixture(scope="module")
def rules(workflow):
    """All rules by name, without the target rule."""
    return {name: rule for name, rule in workflow["rules"].items() if name != "all"}


def readers(workflow, rules, file):
    """Find the rules that are given a file, whether they name it or a function returns it."""
    given = {name for name, rule in rules.items() if any(file in path for path in rule["paths"])}
    return given | {job["rule"] for job in workflow["jobs"] if any(file in p for p in job["input"])}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_rules(rules, stage):
    assert {n for n, rule in rules.items() if rule["stage"] == stage} == SHARED.get(stage, {stage})


def test_every_rule_has_a_stage_a_log_and_an_environment(rules):
    for name, rule in rules.items():
        assert rule["stage"] in STAGES, name
        (log,) = rule["log"]
        assert f"/logs/{name}" in log
        assert rule["conda"], name


def test_downloads_and_records_run_where_snakemake_does(workflow):
    local = {name for name, rule in workflow["rules"].items() if rule["local"]}
    assert local == {
        "all", "download_archive", "download_weights", "estimate", "record_experiment",
    }  # fmt: skip


def test_every_wildcard_of_an_output_is_constrained(rules):
    """Also those that come from `<run>` and `<method>`: no rule makes what has no name."""
    seen = {name for rule in rules.values() for name in rule["wildcards"]}
    assert {"seed", "classifier", "maps", "refinement", "split"} <= seen
    patterns = [pattern for rule in rules.values() for pattern in rule["patterns"]]
    assert [pattern for pattern in patterns if re.search(r"{\w+}", pattern)] == []


def test_rules_whose_cost_depends_on_the_images_request_it(rules):
    measured = {name for name, rule in rules.items() if "mem_mb" in rule["resources"]}
    assert measured == REQUESTED.keys()
    assert all({"runtime", "gpu"} <= set(rules[name]["resources"]) for name in measured)


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_names_its_files_as_its_stage_names_its_arguments(rules, stage):
    function = getattr(importlib.import_module(f"pipeline.stages.{stage}"), stage)
    parameters = inspect.signature(function).parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    for name in SHARED.get(stage, {stage}):
        rule = rules[name]
        given = {*rule["input"], *rule["output"], *rule["params"]}
        # Downloads are known by their checksum: other code does not make them other files.
        assert ("code" in given) != (name.startswith("download_") or name == "estimate")
        assert given - TRIGGERS <= parameters.keys()
        possible = {*given, *rule["wildcards"], *rule["resources"], "threads"}
        assert parameters.keys() <= possible


def described(text):
    """Return the description of each argument in a numpydoc list, by name."""
    entries = re.findall(r"^(\w+(?:, \w+)*)(?: : .+)?\n((?: +.+(?:\n|$))+)", text, re.MULTILINE)
    return {name: text.strip() for names, text in entries for name in names.split(", ")}


def arguments_of(stage):
    """Return the description of each argument of a stage; references are followed."""
    function = getattr(importlib.import_module(f"pipeline.stages.{stage}"), stage)
    section = re.split(
        r"^(?:Parameters|Raises)\n-+\n", inspect.getdoc(function), flags=re.MULTILINE
    )
    found = described(section[1])
    for name, text in found.items():
        if text == "See :mod:`pipeline.stages`.":
            found[name] = described(stages.__doc__)[name]
        elif other := re.fullmatch(r"As in :func:`pipeline\.stages\.(\w+)\.\1`\.", text):
            found[name] = arguments_of(other[1])[name]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_every_argument_of_a_stage_is_described(stage):
    function = getattr(importlib.import_module(f"pipeline.stages.{stage}"), stage)
    assert arguments_of(stage).keys() == inspect.signature(function).parameters.keys()


def test_no_stage_repeats_what_is_described_for_all():
    shared = described(stages.__doc__)
    assert {"precision", "threads", "gpu", "seed"} <= shared.keys()
    for stage in STAGES:
        path = REPOSITORY / f"pipeline/stages/{stage}.py"
        text = " ".join(path.read_text(encoding="utf-8").split())
        for name, description in shared.items():
            assert " ".join(description.split()) not in text, f"{stage}: {name}"


def test_only_scoring_the_report_and_the_upper_bound_read_masks(workflow, rules):
    assert readers(workflow, rules, "dataset/masks.csv") == {
        "list_ground_truth", "sweep_thresholds", "evaluate_labels", "evaluate_boxes",
        "evaluate_predictions", "localize", "report", "train_upper_bound", "evaluate_upper_bound",
    }  # fmt: skip
    assert {name for name in rules if re.match("train_|fit_", name)} == {
        "fit_probe", "train_affinity", "train_classifier", "train_segmentation",
        "train_upper_bound",
    }  # fmt: skip
    assert {name for name, rule in rules.items() if "masks" in rule["input"]} == readers(
        workflow, rules, "dataset/masks.csv"
    ) - {"list_ground_truth"} | {"evaluate_corrections"}  # against corrected masks


def test_only_what_the_corrected_masks_replace_or_judge_reads_them(rules):
    """The rules as written; which jobs depend on them is tested with the plan."""
    given = {name for name, rule in rules.items() if "corrected" in rule["input"]}
    assert given == {
        "train_segmentation", "export_labels", "export_upper_bound", "report", "sweep_thresholds",
        "evaluate_labels", "evaluate_predictions", "evaluate_upper_bound", "evaluate_corrections",
    }  # fmt: skip


def test_only_scoring_and_the_report_read_true_boxes(workflow, rules):
    assert readers(workflow, rules, "dataset/boxes.csv") == {
        "list_ground_truth", "evaluate_boxes", "localize", "report",
    }  # fmt: skip


def test_an_experiment_names_its_data_set_unless_it_changes_the_demo():
    for path in (REPOSITORY / "experiments").rglob("*.yaml"):
        named = "dataset" in yaml.safe_load(path.read_text(encoding="utf-8"))
        assert named != path.name.startswith("demo-"), path


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
        for folder in ("pipeline", "benchmarks", "examples", "experiments", "tests")
        for path in (REPOSITORY / folder).rglob("*.py")
        for line in texts_without_encoding(path.read_text(encoding="utf-8"))
    }
    assert found == set()


SHOWN = re.compile(r"--configfile ((?:[^\s`#()-][^\s`#()]* ?)*)")


def test_documented_commands_have_no_target_after_configfile(rules):
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
    targets = {word for word in shown if word in rules or word.startswith("results/")}
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


#: Packages and top modules of the code. Each may import from those before it, and from itself.
LAYERS = (
    "errors", "config", "io", "runtime", "datasets", "metrics", "refinement", "models",
    "attribution", "training", "resources", "report", "export", "planning", "stages",
)  # fmt: skip


def imported_modules(source, modules):
    """Find the given modules that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & modules


@pytest.fixture(scope="module")
def imports():
    """The modules that each module of the package imports, by dotted names."""
    files = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (REPOSITORY / "pipeline").rglob("*.py")
    }
    return {
        name: imported_modules(path.read_text(encoding="utf-8"), files.keys() - {"pipeline", name})
        for name, path in files.items()
        if name != "pipeline"
    }


def test_imports_are_found_wherever_they_are():
    source = "import a.b\nfrom a import c\ndef f():\n    from a.d import x\nfrom z import a\n"
    assert imported_modules(source, {"a.b", "a.c", "a.d", "a.e", "z"}) == {"a.b", "a.c", "a.d", "z"}


def test_packages_import_only_from_lower_layers(imports):
    assert {name.split(".")[1] for name in imports} == set(LAYERS)
    upward = {
        f"{name} imports {other}"
        for name, others in imports.items()
        for other in others
        if LAYERS.index(other.split(".")[1]) > LAYERS.index(name.split(".")[1])
    }
    assert upward == set()


def test_no_module_imports_itself_in_a_circle(imports):
    """A circle raises a CycleError that names its modules."""
    assert set(TopologicalSorter(imports).static_order()) == imports.keys()
