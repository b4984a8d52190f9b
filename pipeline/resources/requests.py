"""Resources that a job requests from a cluster: memory, time and GPUs.

Coefficients of memory were measured on two CPU cores (torch 2.15.0) as the resident memory of all
processes of a job. Shared pages count once for each process, as in SLURM without cgroups and in
Snakemake's benchmark files. Requests are upper bounds with a margin; if one is too low, the next
attempt requests more.

Time is that of the counted operations at measured rates, times :data:`SAFETY`. Snakemake evaluates
requests in its own process and in every job's, so nothing here imports torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.resources.dataset import assumed_dataset
from pipeline.resources.jobs import Config, Job, RequestedCost
from pipeline.resources.rates import (
    GPU_RATES,
    KINDS,
    core_seconds,
    network_seconds,
    shipped_rates,
)
from pipeline.resources.rules import INFERENCE, REQUESTED, TRAINING

#: A function of (wildcards, input, threads, attempt), as Snakemake calls it for a resource.
Resource = Callable[[Any, Any, int, int], int]

#: Ratio of requested to measured memory.
MARGIN = 1.15
#: MiB of the Snakemake process that runs a job on the node (150), and of its shells.
SNAKEMAKE = 200
#: Ratio of requested time to that at measured rates: for slower and shared nodes, backbones that
#: were not measured, and threads that speed up a job less than in proportion to their number.
SAFETY = 4
#: Minutes of an empty job on a cluster's file system.
START = 20
#: Cores of the machine whose rates are used.
CORES = 2


def needs(config: Config, rule: str) -> dict[str, Any]:
    """Return all resources of a rule: ``mem_mb``, ``runtime`` and ``gpu``."""
    return {
        "mem_mb": memory(config, rule),
        "runtime": runtime(config, rule),
        "gpu": gpu(config, rule),
    }


def gpus(config: Config, rule: str) -> int:
    """Return the number of GPUs for a job of a rule.

    Parameters
    ----------
    config : mapping
        A resolved configuration; ``gpus`` is the number that share a training, 0 for the CPU.
    rule : str

    Returns
    -------
    int
        ``gpus`` for trainings, at most 1 for inference, 0 for all other rules. A job of these
        rules has none if it applies no network.
    """
    if rule in TRAINING:
        return int(config["gpus"])
    return min(1, config["gpus"]) if rule in INFERENCE else 0


def gpu(config: Config, rule: str) -> Resource:
    """Return the resource ``gpu`` of a rule: a function as from :func:`memory`, of all attempts."""

    def resource(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
        del attempt
        return _cost(config, rule, wildcards, input, threads).job.gpus

    return resource


def memory(config: Config, rule: str) -> Resource:
    """Return the resource ``mem_mb`` of a rule: MiB, in proportion to the attempt.

    Parameters
    ----------
    config : mapping
        A resolved configuration.
    rule : str
        A rule in :data:`pipeline.resources.rules.REQUESTED`. Profiles set the others.

    Returns
    -------
    callable
        A function of ``wildcards``, ``input`` (``manifest`` and ``classes`` are read if they
        exist), ``threads`` and ``attempt`` (from 1).
    """

    def mem_mb(cost: RequestedCost) -> int:
        return round((SNAKEMAKE + cost.memory()) * MARGIN)

    return _resource(config, rule, mem_mb)


def runtime(config: Config, rule: str) -> Resource:
    """Return the resource ``runtime`` of a rule: minutes, in proportion to the attempt.

    If a training reaches its time limit, the next attempt continues from the last epoch.

    Parameters
    ----------
    config : mapping
        A resolved configuration.
    rule : str
        A rule as for :func:`memory`.

    Returns
    -------
    callable
        A function as from :func:`memory`.
    """

    def minutes(cost: RequestedCost) -> int:
        return round(START + SAFETY * seconds(cost) / 60)

    return _resource(config, rule, minutes)


def seconds(cost: RequestedCost) -> float:
    """Return the seconds of a job at measured rates, with the threads and GPUs that it has."""
    work, job, rates = cost.work(), cost.job, shipped_rates()
    machine = rates["machines"][0]
    if job.gpus:
        network = network_seconds(work, _on_gpu(machine)) / job.gpus
    else:
        network = network_seconds(work, machine) * CORES / job.threads
    return network + core_seconds(work, rates) / cost.processes


def _on_gpu(machine: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the rates of the slowest GPU, in the ratios of a machine's."""
    slowest = min(GPU_RATES)
    return {
        kind: {name: rate * slowest / known["other"] for name, rate in known.items()}
        for kind, known in machine.items()
        if kind in KINDS
    }


def _resource(config: Config, rule: str, request: Callable[[RequestedCost], int]) -> Resource:
    """Return a resource in proportion to the attempt, from a request of the first attempt."""

    def resource(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
        return request(_cost(config, rule, wildcards, input, threads)) * attempt

    return resource


def _cost(config: Config, rule: str, wildcards: Any, input: Any, threads: int) -> RequestedCost:
    """Return the cost of a job, with a GPU only if it applies a network."""
    dataset = assumed_dataset(input)
    job = Job(dict(wildcards.items()), config, dataset, threads, gpus(config, rule))
    cost = REQUESTED[rule](job)
    return cost if cost.applies_network else REQUESTED[rule](replace(job, gpus=0))
