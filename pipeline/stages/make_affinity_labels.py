"""Make the confident labels of one shard, which the boundary network is trained on."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import write_label
from pipeline.refinement.dense_crf import CrfSettings
from pipeline.refinement.labels import confident_label
from pipeline.refinement.shards import Labeler, label_shard
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def make_affinity_labels(
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    foreground: float,
    background: float,
    crf: Mapping[str, Any] | None,
    labels: Path,
    threads: int,
) -> None:
    """Write one label image ``ID.png`` per image of the shard; uncertain pixels are 255.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    maps : Path
        One shard of class maps.
    foreground, background : float
        Thresholds above which a pixel is confident foreground, and below which background.
    crf : mapping or None
        Settings of the dense CRF.
    labels : Path
        Output: a folder.
    threads : int
        Number of processes.
    """
    label = partial(
        confident_label,
        foreground=foreground,
        background=background,
        crf=CrfSettings.from_config(crf) if crf else None,
    )
    labeler = Labeler(label, _write_image, needs_image=crf is not None)
    label_shard(
        labeler, manifest=manifest, classes=classes, maps=maps, labels=labels, threads=threads
    )


def _write_image(path: Path, label: NDArray[np.uint8]) -> None:
    write_label(path.with_name(f"{path.name}.png"), label)


if __name__ == "__main__":
    run_stage(make_affinity_labels, snakemake)
