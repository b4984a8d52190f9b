"""Train the boundary network, whose boundaries the random walk does not cross."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.datasets.manifest import files_by_id, read_manifest
from pipeline.io.arrays import read_made_label
from pipeline.io.images import strided_size
from pipeline.models.boundary import STRIDE, create_boundary_network, save_boundary_network
from pipeline.refinement.affinity import affinity_loss, count_pairs
from pipeline.runtime.device import loader_workers, make_fabric
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage
from pipeline.training.augmentation import training_transform
from pipeline.training.batches import Batch
from pipeline.training.checkpoint import fingerprint_of
from pipeline.training.loop import Recipe, Step, train, write_history
from pipeline.training.samples import SegmentedImages
from pipeline.training.supervision import require_pairs

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)


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
    manifest, classes : Path
        Images, and the class names.
    classifier : Path
        The classifier whose backbone is used.
    labels : list of Path
        Folders of confident labels ``ID.png``; together they cover the train split.
    pretrained : list of Path
        At most one local file of backbone weights.
    settings : mapping
        The configuration's section ``affinity``.
    seed : int
        Seed of all random choices.
    weights, history : Path
        Outputs: the network (safetensors) and one row per epoch (CSV).
    threads : int
        Number of CPU threads.
    code : str
        Digest of the code; checkpoints of other code are not used.
    gpu : int
        Number of GPUs to train on; without a GPU, the CPU is used.

    Raises
    ------
    UserError
        If an image has no confident labels, or the labels have no pairs to train on.
    """
    data = read_manifest(manifest, classes)
    records = data.of_split("train")
    files = files_by_id([record.id for record in records], labels)
    long_side = settings["augmentation"]["resize"][1]
    looked = progress(files.values(), total=len(files), what="confident labels checked")
    require_pairs(
        map(read_made_label, looked),
        settings["radius"],
        STRIDE,
        long_side,
        crop=settings["augmentation"]["crop"],
        pairs=settings["pairs"],
    )
    fabric = make_fabric(settings["precision"], threads, gpu)
    torch.manual_seed(seed)
    model, description = create_boundary_network(
        classifier,
        settings["features"],
        next(iter(pretrained), None),
        crop=settings["augmentation"]["crop"],
        interpolation=settings["augmentation"]["interpolation"],
    )
    transform = training_transform(settings["augmentation"], model.mean, model.std)
    logger.info("%d images on %s", len(records), fabric.device)
    checkpoint = weights.with_name("checkpoint.safetensors")
    inputs = [manifest, classes, classifier, *pretrained, *files.values()]
    state, rows = train(
        model,
        model.head,
        SegmentedImages(records, files, transform),
        _step(settings["radius"], settings["pairs"]),
        Recipe(settings, seed),
        fabric=fabric,
        checkpoint=checkpoint,
        fingerprint=fingerprint_of(dict(settings), seed, code, *inputs),
        workers=loader_workers(fabric, threads),
        counts=lambda labels: count_pairs(
            _cells(labels), settings["radius"], pairs=settings["pairs"]
        ),
    )
    if not fabric.is_global_zero:
        return
    save_boundary_network(weights, state, description)
    write_history(history, rows)
    checkpoint.unlink(missing_ok=True)


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
