"""Train the boundary network, whose boundaries the random walk does not cross."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.datasets.manifest import files_by_id, read_manifest
from pipeline.io.images import strided_size
from pipeline.models.boundary import STRIDE, create_boundary_network, save_boundary_network
from pipeline.refinement.affinity import affinity_loss, count_pairs
from pipeline.runtime.stage import run_stage
from pipeline.training.batches import Batch
from pipeline.training.pair_supervision import require_pairs
from pipeline.training.run import TrainingRun
from pipeline.training.samples import SegmentedImages, read_labels
from pipeline.training.task import Step, Task

if TYPE_CHECKING:
    snakemake: Any


def train_affinity(
    *,
    manifest: Path,
    classes: Path,
    classifier: Path,
    labels: list[Path],
    pretrained: list[Path],
    settings: Mapping[str, Any],
    seed: int,
    weights: Path,
    history: Path,
    threads: int,
    code: str,
    gpu: int = 1,
) -> None:
    """Train on the confident labels of the train split; masks are not among the inputs.

    Parameters
    ----------
    classifier : Path
        The classifier whose backbone is used.
    labels : list of Path
        Folders of confident labels ``ID.png``; together they cover the train split.
    pretrained : list of Path
        At most one local file of backbone weights.
    settings : mapping
        The configuration's section ``affinity``.
    weights, history : Path
        Outputs: the network (safetensors) and one row per epoch (CSV).
    manifest, classes, seed, threads, code, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If an image has no confident labels, or the labels have no pairs to train on.
    """
    data = read_manifest(manifest, classes)
    records = data.of_split("train")
    files = files_by_id([record.id for record in records], labels)
    require_pairs(
        read_labels(files.values(), "confident labels checked"),
        settings["radius"],
        STRIDE,
        settings["augmentation"]["resize"][1],
        crop=settings["augmentation"]["crop"],
        pairs=settings["pairs"],
    )
    run = TrainingRun.start(
        settings, seed, code, weights=weights, history=history, threads=threads, gpu=gpu
    )
    model, description = create_boundary_network(
        classifier,
        settings["features"],
        next(iter(pretrained), None),
        crop=settings["augmentation"]["crop"],
        interpolation=settings["augmentation"]["interpolation"],
    )
    task = Task(
        model,
        model.head,
        SegmentedImages(records, files, run.transform(model)),
        _step(settings["radius"], settings["pairs"]),
        counts=lambda labels: count_pairs(
            _cells(labels), settings["radius"], pairs=settings["pairs"]
        ),
    )
    run.train(
        task,
        inputs=[manifest, classes, classifier, *pretrained, *files.values()],
        save=partial(save_boundary_network, description=description),
    )


def _step(radius: int, pairs: str) -> Step:
    def step(model: nn.Module, batch: Batch, _share: float, weights: Tensor) -> dict[str, Tensor]:
        images, labels = batch
        return affinity_loss(model(images), _cells(labels), radius, weights, pairs=pairs)

    return step


def _cells(labels: Tensor) -> Tensor:
    """Resize (B, H, W) labels to the size of the network's boundary maps."""
    size = strided_size((labels.shape[1], labels.shape[2]), STRIDE)
    return F.interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0]


if __name__ == "__main__":
    run_stage(train_affinity, snakemake)
