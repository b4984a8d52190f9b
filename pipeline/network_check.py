"""Whether the networks of a configuration can be built, found before anything is computed."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.workflow import Plan

#: Libraries that decide which networks there are.
LIBRARIES = ("timm", "segmentation-models-pytorch")


def check_networks(plan: Plan, folder: Path) -> None:
    """Build every network once, so that a wrong layer is not found after hours of training.

    This takes seconds. A configuration that passed is noted in a folder, and not built again.

    Parameters
    ----------
    plan : Plan
    folder : Path
        Where what passed is noted; made if it is absent.

    Raises
    ------
    UserError
        If a network cannot be built, or lacks a layer that is named. All problems are listed.
    """
    note = folder / _digest(plan.config)
    if note.exists():
        return
    # Torch takes seconds to import, and Snakemake reads the Snakefile in every job.
    from pipeline.models.building import network_problems

    if problems := list(network_problems(plan)):
        raise UserError("configuration: " + "; ".join(problems))
    folder.mkdir(parents=True, exist_ok=True)
    note.touch()


def _digest(config: Mapping[str, Any]) -> str:
    """Digest what decides which networks are built."""
    keys = ("classifiers", "attributions", "affinity", "segmenter", "labels", "segmenters")
    known = {key: config.get(key) for key in (*keys, "comparison")}
    text = json.dumps([known, *map(version, LIBRARIES)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
