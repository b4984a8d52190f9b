"""Whether the networks of a configuration can be built, found before anything is computed."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import UserError
from pipeline.planning.inputs import given_weights
from pipeline.planning.plan import Plan

#: Libraries that decide which networks there are.
LIBRARIES = ("timm", "segmentation-models-pytorch")
#: Settings of a classifier or of the segmentation that decide what is built and looked for.
SHAPE = (
    "kind", "backbone", "pretrained", "output_stride", "dilation", "last_layer", "pooling", "bias",
    "adl", "decoder", "atrous_rates", "decoder_norm", "frozen",
)  # fmt: skip


def layers_of_maps(plan: Plan) -> list[tuple[str, str, str]]:
    """Give the classifier, the attribution and the layer of all maps that are of a layer."""
    found = []
    for path in dict.fromkeys([*plan.maps, *plan.compared]):
        classifier, _, attribution = path.partition("+")[0].partition("/")
        layer = plan.config["attributions"][attribution].get("layer")
        found += [(classifier, attribution, layer)] if layer else []
    return found


def check_networks(plan: Plan, folder: Path) -> None:
    """Build every network once, so that a wrong layer is not found after hours of training.

    The user's own weights are put into them, so that another network's are found too. This takes
    seconds. A configuration that passed is noted in a folder, and not built again.

    Parameters
    ----------
    plan : Plan
    folder : Path
        Where what passed is noted; made if it is absent.

    Raises
    ------
    UserError
        If a network cannot be built, lacks a layer that is named, or has other tensors than the
        file of weights that is given for it. All problems are listed.
    """
    note = folder / _digest(plan)
    if note.exists():
        return
    # Torch takes seconds to import, and Snakemake reads the Snakefile in every job.
    from pipeline.planning.network_problems import network_problems

    if problems := list(network_problems(plan)):
        raise UserError("configuration: " + "; ".join(problems))
    folder.mkdir(parents=True, exist_ok=True)
    note.touch()


def _digest(plan: Plan) -> str:
    """Digest what decides which networks are built, and which layers of them are looked for."""
    sections = [*plan.config["classifiers"].values(), plan.config.get("segmentation") or {}]
    shapes = [{key: section.get(key) for key in SHAPE} for section in sections]
    weights = [sorted(plan.config["weights"]), *map(_state, given_weights(plan.config).items())]
    layers = [layers_of_maps(plan), plan.walked]
    text = json.dumps([shapes, weights, layers, *map(version, LIBRARIES)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _state(given: tuple[str, str]) -> tuple[str, str, int, int]:
    backbone, path = given
    status = Path(path).stat()
    return backbone, path, status.st_size, status.st_mtime_ns
