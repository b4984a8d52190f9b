"""Networks of jobs: their memory, and their operations from a table.

Snakemake evaluates the resources of a job in its own process and again in that of the job, and
importing torch takes seconds. ``networks.yaml`` therefore lists common backbones. Its operations
are those that :func:`pipeline.resources.operations.count` counts.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.values import ALL_MODULES
from pipeline.resources.network import PROBE, Network, Operations

TABLE = Path(__file__).with_name("networks.yaml")
#: Ratio of the memory of stride 8 to that of stride 16. Measured in training: 2.1 for
#: mobilenetv2_100, 2.0 for resnet50.
DENSE = 2.2


@dataclass(frozen=True)
class Memory:
    """Memory of a network in 32 bits.

    Attributes
    ----------
    training : int
        Bytes per input pixel that autograd keeps.
    inference : int
        Bytes per input pixel of the layer with the largest input and output together.
    parameters : int
        Millions of parameters.
    """

    training: int
    inference: int
    parameters: int


#: Stride of networks whose configuration has none.
STRIDE = 16
#: Upper bound of the channels of a backbone's features.
CHANNELS = 2048
#: The decoders of DeepLabV3+: bytes per pixel (measured 320 to 480, 610 to 680), millions.
DECODERS = {"separable": Memory(480, 168, 4), "full": Memory(680, 140, 17)}


@cache
def table() -> dict[str, Any]:
    """Return the contents of ``networks.yaml``: rows by backbone, and ``other`` for all others."""
    rows: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return rows


def memory_of(network: Network) -> Memory:
    """Return the memory of a network; for a backbone that is not listed, of most of its size."""
    row = _row(network)
    more = DECODERS[network.decoder] if network.decoder else Memory(0, 0, 0)
    dense = DENSE if network.output_stride == 8 else 1.0
    return Memory(
        round(kept_share(network) * dense * row["training"]) + more.training,
        max(round(dense * row["inference"]), more.inference),
        row["parameters"] + more.parameters,
    )


def operations_of(network: Network) -> Operations:
    """Return an upper bound of the operations and channels of a network, by the table.

    ``last_layer`` is ignored, and so are frozen modules that are not listed.
    """
    row, kind = _row(network), network.decoder or "classifier"
    own = row.get("stride", STRIDE)
    stride = network.output_stride or own
    if kind in row["operations"]:
        forward, usual = (row["operations"][kind][number] for number in (stride, own))
    else:
        forward, usual = (table()["other"]["operations"][kind].get(n, 0) for n in (stride, STRIDE))
        forward = forward or usual
    attention = row.get("attention", 0.0)
    frozen = sum(part[0] for part in _frozen(network).values())
    # The products of attention are in the parts, at the size of the counted image.
    share = frozen / (usual + attention * PROBE**2)
    # Parts are listed at the usual stride. The first parts of a network have fewer operations at a
    # stride of 32, where their share is the bound, and no fewer at a stride of 8.
    learning = max(forward - share * usual, forward * (1 - share))
    parameters = memory_of(network).parameters * 10**6
    learning_attention = attention * (1 - share)
    return Operations(
        forward, learning, parameters, CHANNELS, stride, attention, learning_attention
    )


def kept_share(network: Network) -> float:
    """Return the share of a backbone's activations that autograd keeps if parts are frozen.

    Returns
    -------
    float
        Share of the output values of all parts that are not frozen, in [0, 1].
    """
    if not network.frozen:
        return 1.0
    if ALL_MODULES in network.frozen:
        return 0.0
    parts = _row(network).get("parts", {})
    frozen = _frozen(network)
    if not all(any(_inside(part, (name,)) for part in frozen) for name in network.frozen):
        # Torch counts what the table lacks: another backbone, or a module inside a listed part.
        from pipeline.resources.operations import parts_of

        parts = parts_of(network.backbone, leaves=True)
        frozen = {name: part for name, part in parts.items() if _inside(name, network.frozen)}
    values = sum(part[1] for part in parts.values())
    return float(1 - sum(part[1] for part in frozen.values()) / values)


def _row(network: Network) -> dict[str, Any]:
    row: dict[str, Any] = table().get(network.name) or table()["other"]
    return row


def _frozen(network: Network) -> dict[str, list[float]]:
    """Return the listed parts that are frozen."""
    parts = _row(network).get("parts", {})
    if ALL_MODULES in network.frozen:
        return dict(parts)
    return {name: part for name, part in parts.items() if _inside(name, network.frozen)}


def _inside(name: str, modules: tuple[str, ...]) -> bool:
    return f"{name}.".startswith(tuple(f"{module}." for module in modules))
