"""Time of work, by measured rates."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.resources.jobs import Work

RATES = Path(__file__).with_name("rates.yaml")
KINDS = ("training", "inference")
#: Operations per second of GPUs. None was measured: 32 bits on cards of 2018, on later ones, and
#: 16 bits on the latest.
GPU_RATES = (1e13, 3e13, 1e14)


@cache
def shipped_rates() -> dict[str, Any]:
    """Return the contents of ``rates.yaml``."""
    rates: dict[str, Any] = yaml.safe_load(RATES.read_text(encoding="utf-8"))
    return rates


def network_seconds(work: Work, machine: Mapping[str, Any]) -> float:
    """Return the seconds of a network on a machine, by the rates of its backbone or ``other``."""
    seconds = 0.0
    for kind, operations in (("training", work.training), ("inference", work.inference)):
        known = machine[kind]
        seconds += operations / known.get(work.network, known["other"])
    return seconds


def core_seconds(work: Work, rates: Mapping[str, Any]) -> float:
    """Return the seconds of all other work on one core."""
    refining = work.refining or {}
    return float(sum(rates["core_seconds"][kind] * amount for kind, amount in refining.items()))
