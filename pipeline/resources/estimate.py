"""Estimate of a run before it starts: jobs, hours and gigabytes, from measured rates."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.resources.dataset import Dataset
from pipeline.resources.jobs import Config, Job
from pipeline.resources.operations import count
from pipeline.resources.rates import GPU_RATES, core_seconds, network_seconds, shipped_rates
from pipeline.resources.rules import work_of


def planned_jobs(printed: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield rule and wildcards of every job in the output of a Snakemake dry run."""
    for block in re.split(r"^\[[^\]\n]*\]\n", printed, flags=re.MULTILINE)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)
        if rule is None or rule[1] == "all":
            continue
        found = re.search(r"^    wildcards: (.*)$", block, flags=re.MULTILINE)
        pairs = found[1].split(", ") if found else []
        yield rule[1], dict(pair.split("=", 1) for pair in pairs)


def estimate(
    jobs: Iterable[tuple[str, Mapping[str, str]]],
    config: Config,
    dataset: Dataset,
    rates: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Compute the sums of operations, hours and bytes of jobs, by rule.

    Parameters
    ----------
    jobs : iterable of (str, mapping)
        Rule and wildcards, as from :func:`planned_jobs`.
    config : mapping
        The resolved configuration.
    dataset : Dataset
        Numbers of the data set.
    rates : mapping, optional
        Contents of ``rates.yaml``, which is the default.

    Returns
    -------
    list of dict
        One row for each rule, in the order of the jobs, and a last row for their sum: ``rule``,
        ``jobs``, ``operations``, ``core_hours``, ``bytes``, and ``hours`` of networks by machine.
    """
    rates = rates or shipped_rates()
    rows: dict[str, dict[str, Any]] = {}
    for rule, wildcards in jobs:
        work = work_of(rule, Job(wildcards, config, dataset, operations=count))
        for name in (rule, "all"):
            row = rows.setdefault(name, _empty(name, rates))
            row["jobs"] += 1
            row["operations"] += work.training + work.inference
            row["bytes"] += work.bytes
            row["core_hours"] += core_seconds(work, rates) / 3600
            for machine in rates["machines"]:
                row["hours"][machine["name"]] += network_seconds(work, machine) / 3600
    total = rows.pop("all", _empty("all", rates))
    return [*rows.values(), total]


def _empty(rule: str, rates: Mapping[str, Any]) -> dict[str, Any]:
    hours = {machine["name"]: 0.0 for machine in rates["machines"]}
    zeros = {"jobs": 0, "operations": 0.0, "core_hours": 0.0, "bytes": 0.0}
    return {"rule": rule, **zeros, "hours": hours}


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return estimates as a text table, with a column of hours for each machine."""
    rows = list(rows)
    machines = list(rows[-1]["hours"])
    head = ["rule", "jobs", "network, 10^15", *machines, "other, core h", "GB"]
    lines = [head, *([*_cells(row, machines)] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def gpu_hours(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a line with the hours of GPUs, by the rate that they sustain."""
    operations = list(rows)[-1]["operations"]
    hours = (f"{_figure(operations / rate / 3600)} at {rate / 1e12:.0f}" for rate in GPU_RATES)
    return f"GPU hours by the GPU's sustained 10^12 operations a second: {', '.join(hours)}"


def _cells(row: Mapping[str, Any], machines: Iterable[str]) -> Iterator[str]:
    yield row["rule"]
    yield str(row["jobs"])
    yield _figure(row["operations"] / 1e15)
    yield from (_figure(row["hours"][name]) for name in machines)
    yield _figure(row["core_hours"])
    yield _figure(row["bytes"] / 1e9)


def _figure(value: float) -> str:
    """Return a number with two significant figures; empty for 0."""
    if value < 0.005:
        return "" if value == 0 else "0.0"
    return f"{float(f'{value:.2g}'):,.10g}"
