"""What Snakemake makes of the Snakefile: all rules, and the jobs of one configuration."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

SNAKEFILE = Path(__file__).parents[2] / "Snakefile"


def read_workflow(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the rules and the jobs of a configuration; nothing is run.

    Another process reads the Snakefile, since that changes the environment and the working folder.

    Returns
    -------
    dict
        ``rules``: of each rule, by name, the names of its inputs, outputs, params, resources and
        wildcards, its paths (of the inputs those that no function returns), patterns of outputs,
        of logs and of all that it writes, stage, and whether it is local. ``jobs``: of each job
        the rule, wildcards, input and output files, and params as
        text. Inputs and params decide whether a job runs again.
    """
    path = folder / "workflow.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    workflow: dict[str, Any] = json.loads(done.stdout)
    return workflow


def properties(workflow: Any, rule: Any) -> dict[str, Any]:
    """Return the properties of a rule that tests look at."""
    return {
        "stage": Path(rule.script).stem if rule.script else None,
        "input": list(rule.input.keys()),
        "output": list(rule.output.keys()),
        "params": list(rule.params.keys()),
        "resources": [name for name in rule.resources if not name.startswith("_")],
        "wildcards": sorted(rule.wildcard_names),
        "paths": [str(path) for path in [*rule.input, *rule.output] if not callable(path)],
        "patterns": [str(path) for path in rule.output],
        "log": [str(path) for path in rule.log],
        "written": [str(path) for path in [*rule.output, *rule.log, rule.benchmark] if path],
        "conda": rule.conda_env is not None,
        "local": rule.name in workflow._localrules,
    }


def main(path: Path) -> None:
    """Print the workflow of a configuration file as JSON."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings import types

    with SnakemakeApi(types.OutputSettings(quiet={types.Quietness.ALL})) as api:
        opened = api.workflow(
            resource_settings=types.ResourceSettings(cores=1),
            config_settings=types.ConfigSettings(configfiles=[path]),
            # As a job reads the Snakefile: without the checks of the machine and the networks.
            workflow_settings=types.WorkflowSettings(exec_mode=types.ExecMode.SUBPROCESS),
            snakefile=SNAKEFILE,
        )
        opened.dag(types.DAGSettings())
        workflow = opened._workflow
        workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        jobs = [
            {
                "rule": job.rule.name,
                "wildcards": dict(job.wildcards_dict),
                "input": list(map(str, job.input)),
                "output": list(map(str, job.output)),
                "params": {name: repr(value) for name, value in job.params.items()},
            }
            for job in workflow.dag.jobs
        ]
        rules = {rule.name: properties(workflow, rule) for rule in workflow.rules}
    json.dump({"rules": rules, "jobs": jobs}, sys.stdout)


def changed_rules(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> tuple[set[str], set[str]]:
    """Return the rules of jobs with other inputs or params, and of those that follow them."""
    known = {tuple(job["output"]): (job["input"], job["params"]) for job in before}
    rerun = [
        job for job in after if known.get(tuple(job["output"])) != (job["input"], job["params"])
    ]
    own = {job["rule"] for job in rerun}
    return own - {"all", "estimate"}, following(rerun, after)


def following(
    first: list[dict[str, Any]],
    planned: list[dict[str, Any]],
    *,
    through: Callable[[str], bool] = lambda _path: True,
) -> set[str]:
    """Return the rules of some jobs and of all that read their results, directly or not."""
    found = list(first)
    for job in found:
        made = set(filter(through, job["output"]))
        found += [other for other in planned if other not in found and made & {*other["input"]}]
    return {job["rule"] for job in found} - {"all", "estimate"}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
