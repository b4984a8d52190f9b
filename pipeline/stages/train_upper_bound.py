"""Train the segmentation network on the ground-truth masks of train, as an upper bound."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.full_supervision import require_all_masks
from pipeline.datasets.manifest import read_manifest, read_masks
from pipeline.runtime.stage import run_stage
from pipeline.stages.train_segmentation import train_network
from pipeline.training.run import TrainingRun

if TYPE_CHECKING:
    snakemake: Any


def train_upper_bound(
    *,
    manifest: Path,
    classes: Path,
    masks: Path,
    pretrained: list[Path],
    settings: Mapping[str, Any],
    seed: int,
    weights: Path,
    history: Path,
    threads: int,
    code: str,
    gpu: int = 1,
) -> None:
    """Train on the masks of the train split; no other training reads masks.

    Network, settings and seed are those of `train_segmentation`. Pixels of the value 255 in a
    mask do not count in the loss.

    Parameters
    ----------
    masks : Path
        The list of the ground-truth masks, with the meaning of their values.
    pretrained, settings, weights, history
        As in :func:`pipeline.stages.train_segmentation.train_segmentation`.
    manifest, classes, seed, threads, code, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If a training image has no mask, or batch norm would see one image at a time.
    """
    data = read_manifest(manifest, classes)
    records, known = data.of_split("train"), read_masks(masks)
    require_all_masks([record.id for record in records], known)
    train_network(
        TrainingRun.start(
            settings, seed, code, weights=weights, history=history, threads=threads, gpu=gpu
        ),
        records,
        {record.id: known[record.id] for record in records},
        classes=len(data.classes) + 1,
        pretrained=pretrained,
        inputs=[manifest, classes, masks],
    )


if __name__ == "__main__":
    run_stage(train_upper_bound, snakemake)
