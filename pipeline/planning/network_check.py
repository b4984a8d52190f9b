"""Check that the networks of a configuration can be built, before anything is computed."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import UserError
from pipeline.planning.inputs import given_weights
from pipeline.planning.layers import aligned_maps, layers_of_maps
from pipeline.planning.plan import Plan
from pipeline.planning.settings import feature_affinity

#: Libraries that define the networks.
LIBRARIES = ("timm", "segmentation-models-pytorch")
#: Settings of classifiers and of `segmentation` that the check depends on.
SHAPE = (
    "kind", "backbone", "pretrained", "output_stride", "dilation", "last_layer", "pooling", "bias",
    "adl", "architecture", "architecture_options", "decoder", "atrous_rates", "decoder_norm",
    "frozen", "puzzle", "augmentation",
)  # fmt: skip


def check_networks(plan: Plan, folder: Path) -> None:
    """Build every network once, so that a wrong layer is not found after hours of training.

    The user's weights are loaded, so that weights of another network are found too. This takes
    seconds. Configurations that passed are noted in a folder and not checked again.

    Parameters
    ----------
    plan : Plan
    folder : Path
        Folder of the notes; created if absent.

    Raises
    ------
    UserError
        If a network cannot be built, lacks a named layer, or does not fit the user's weights
        file. All problems are listed.
    """
    note = folder / _digest(plan)
    if note.exists():
        return
    # Importing torch takes seconds, and Snakemake reads the Snakefile in every job.
    from pipeline.planning.network_problems import network_problems

    if problems := list(network_problems(plan)):
        raise UserError("configuration: " + "; ".join(problems))
    folder.mkdir(parents=True, exist_ok=True)
    note.touch()


def _digest(plan: Plan) -> str:
    """Return a digest of all settings and files that the check depends on."""
    sections = [*plan.config["classifiers"].values(), plan.config.get("segmentation") or {}]
    shapes = [{key: section.get(key) for key in SHAPE} for section in sections]
    weights = [sorted(plan.config["weights"]), *map(_state, given_weights(plan.config).items())]
    layers = [
        layers_of_maps(plan), aligned_maps(plan), plan.walked, feature_affinity(plan.config),
    ]  # fmt: skip
    text = json.dumps([shapes, weights, layers, *map(version, LIBRARIES)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _state(weights: tuple[str, str]) -> tuple[str, str, int, int]:
    backbone, path = weights
    status = Path(path).stat()
    return backbone, path, status.st_size, status.st_mtime_ns
