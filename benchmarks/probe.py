"""A linear probe and its class maps: two passes of the backbone, and one with stored features.

    python benchmarks/probe.py --images FOLDER [--backbone NAME] [--last-layer NAME ...] [--count N]

Both ways run the stages of the workflow on the same files, with random weights and one thread: the
features of the probe on images with a long side of 600 pixels and their mirror images, the fit,
and the maps of two labels at three scales, each mirrored. With stored features, the probe uses
those of the maps. Prints a Markdown table, and the bytes of the stored features.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.published import manifest_of
from benchmarks.turns import (
    Way,
    Work,
    add_backbone_options,
    image_files,
    machine_line,
    make_parser,
    network_of,
    print_table,
    take_turns,
)
from pipeline.datasets.manifest import write_classes, write_manifest
from pipeline.io.images import read_rgb
from pipeline.stages.extract_features import extract_features
from pipeline.stages.fit_probe import fit_probe
from pipeline.stages.make_maps import make_maps

VIEWS: dict[str, Any] = {"scales": [0.5, 1.0, 1.5], "flip": True, "max_size": None}
MAPS = VIEWS | {"method": "cam", "stride": 4, "full_resolution": False, "align": False}
SIZE = 600


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the probe."""
    return {
        "backbone": network_of(options), "pretrained": False, "output_stride": options.stride,
        "last_layer": options.last_layer, "interpolation": "bicubic",
        "precision": options.precision, "size": SIZE, "flip": True, "bias": False,
        "solver": "logistic", "c": 0.01,
    }  # fmt: skip


def write_dataset(folder: Path, files: Sequence[Path]) -> None:
    """Write the manifest of the files with arbitrary labels."""
    data = manifest_of(files)
    sizes = [read_rgb(record.image).shape[:2] for record in data.records]
    records = [
        replace(record, height=height, width=width)
        for record, (height, width) in zip(data.records, sizes, strict=True)
    ]
    write_manifest(folder / "manifest.csv", records)
    write_classes(folder / "classes.json", data.classes)


def run(folder: Path, settings: Mapping[str, Any], gpu: int, *, stored: bool) -> float:
    """Run all stages on the data set in a folder, and return the MB of the stored features."""
    common: dict[str, Any] = {
        "manifest": folder / "manifest.csv", "classes": folder / "classes.json",
        "threads": 1, "gpu": gpu,
    }  # fmt: skip
    features, weights = [folder / "features"] if stored else [], folder / "probe.safetensors"
    one: dict[str, Any] = {"shard": 0, "shards": 1}
    if stored:
        extract_features(
            **common, **one, pretrained=[], settings=settings, views=VIEWS, seed=0,
            features=features[0],
        )  # fmt: skip
    fit_probe(
        **common, pretrained=[], features=features, settings=settings, scales=VIEWS["scales"],
        seed=0, weights=weights,
    )  # fmt: skip
    make_maps(
        **common, **one, weights=weights, previous=[], features=features, settings=MAPS,
        precision=settings["precision"], split="train", maps=folder / "maps.safetensors",
    )  # fmt: skip
    return sum(path.stat().st_size for path in folder.glob("features/*")) / 1e6


def stages(options: argparse.Namespace, *, stored: bool) -> Work:
    """Prepare the stages of one way."""

    def work(files: Sequence[Path]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_dataset(Path(folder), files)
            gpu = int(options.device == "cuda")
            size = run(Path(folder), settings_of(options), gpu, stored=stored)
        if stored:
            print(f"stored features: {size / len(files):.2f} MB per image", file=sys.stderr)

    return work


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = make_parser(__doc__, seconds=60)
    add_backbone_options(parser)
    parser.add_argument("--last-layer", nargs="*", help="layers below the class layer")
    parser.add_argument("--stride", type=int, default=32, help="output stride of the backbone")
    options = parser.parse_args(arguments)
    ways = [
        Way("two passes", partial(stages, stored=False)),
        Way("one pass, stored features", partial(stages, stored=True)),
    ]
    with image_files(options) as files:
        options.threads = 1
        print(f"{machine_line(options)}, {network_of(options)}, {options.precision}\n")
        print_table(take_turns(ways, files, options))


if __name__ == "__main__":
    main()
