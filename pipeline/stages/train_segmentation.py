"""Train the segmentation network on pseudo-labels."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.datasets.corrected.table import corrected_of, read_corrected
from pipeline.datasets.manifest import Record, files_by_id, read_manifest
from pipeline.datasets.masks import Mask
from pipeline.datasets.review import read_left_out, without_left_out
from pipeline.errors import UserError
from pipeline.models.backbone import frozen_module
from pipeline.models.segmentation_network import (
    create_segmentation_network,
    labeled_weight,
    save_segmentation_network,
    segmentation_loss,
)
from pipeline.runtime.stage import run_stage
from pipeline.training.batches import Batch, divide
from pipeline.training.class_balance import class_weights, count_pixels
from pipeline.training.run import TrainingRun
from pipeline.training.samples import SegmentedImages, TrainingLabel, read_labels
from pipeline.training.supervision import require_foreground
from pipeline.training.task import Step, Task

if TYPE_CHECKING:
    snakemake: Any


def train_segmentation(
    *,
    manifest: Path,
    classes: Path,
    labels: list[Path],
    left_out: list[Path],
    corrected: list[Path],
    pretrained: list[Path],
    settings: Mapping[str, Any],
    seed: int,
    weights: Path,
    history: Path,
    threads: int,
    code: str,
    gpu: int = 1,
) -> None:
    """Train on the pseudo-labels of the train split; ground-truth masks are not among the inputs.

    Parameters
    ----------
    labels : list of Path
        Folders of label images ``ID.png``; together they cover the train split.
    left_out : list of Path
        At most one table of the images that were judged bad; their pseudo-labels are not used.
    corrected : list of Path
        At most one table of corrected masks, which replace pseudo-labels. An image with one is
        used even if its pseudo-label was judged bad.
    pretrained : list of Path
        At most one local file of backbone weights.
    settings : mapping
        The configuration's section ``segmentation``.
    weights, history : Path
        Outputs: the network (safetensors) and one row per epoch (CSV).
    manifest, classes, seed, threads, code, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If an image has no pseudo-label, the pseudo-labels show no class, or batch norm would
        see one image at a time.
    """
    data = read_manifest(manifest, classes)
    masks = read_corrected(corrected)
    unused = read_left_out(left_out) - masks.keys()
    records = without_left_out(data.of_split("train"), unused, "pseudo_labels")
    made = [record.id for record in records if record.id not in masks]
    files: dict[str, TrainingLabel] = {**files_by_id(made, labels), **corrected_of(records, masks)}
    require_foreground(read_labels(files.values(), "pseudo-labels checked"))
    train_network(
        TrainingRun.start(
            settings, seed, code, weights=weights, history=history, threads=threads, gpu=gpu
        ),
        records,
        files,
        classes=len(data.classes) + 1,
        pretrained=pretrained,
        inputs=[manifest, classes, *left_out, *corrected],
    )


def train_network(
    run: TrainingRun,
    records: Sequence[Record],
    labels: Mapping[str, TrainingLabel],
    *,
    classes: int,
    pretrained: Sequence[Path],
    inputs: Sequence[Path],
) -> None:
    """Train a segmentation network on images with label images, and write it.

    Parameters
    ----------
    run : TrainingRun
        Its settings are the configuration's section ``segmentation``.
    records : sequence of Record
        The training images.
    labels : mapping of str to Path or Mask
        Label image of each record, by id.
    classes : int
        Number of classes, background included.
    pretrained : sequence of Path
        At most one local file of backbone weights.
    inputs : sequence of Path
        Further files that determine the result.

    Raises
    ------
    UserError
        If batch norm would see one image at a time.
    """
    settings = run.settings
    if settings["decoder_norm"] == "batch":
        _require_two_together(settings, len(records), run.fabric.world_size)
    model = create_segmentation_network(settings, classes, next(iter(pretrained), None))
    of_classes = _class_weights(settings["class_balance"], labels.values(), classes)
    task = Task(
        model,
        nn.ModuleList([model.network.decoder, model.network.segmentation_head]),
        SegmentedImages(records, labels, run.transform(model)),
        _step_of(of_classes),
        frozen=[frozen_module(model.encoder, name) for name in settings["frozen"]],
        counts=lambda labels: labeled_weight(labels, of_classes)[None],
    )
    files = [label.path if isinstance(label, Mask) else label for label in labels.values()]
    run.train(
        task,
        inputs=[*inputs, *pretrained, *files],
        save=partial(save_segmentation_network, settings=settings, classes=classes),
    )


def _require_two_together(settings: Mapping[str, Any], images: int, processes: int) -> None:
    shares = (settings["batch_size"], settings["accumulate"], processes)
    together = divide(images, *shares).part
    if settings["batch_norm"] == "synchronized":
        together *= processes
    if together < 2:
        raise UserError(
            f"batch norm would see one image at a time: {images} training images, batch_size "
            f"{shares[0]}, accumulate {shares[1]}, {processes} devices: expected two or more "
            "together; lower accumulate, or set decoder_norm: group"
        )


def _class_weights(power: float, labels: Collection[TrainingLabel], classes: int) -> Tensor | None:
    """Return class weights from shares of the foreground; None if the power is 0."""
    if not power:
        return None
    counts = count_pixels(read_labels(labels, "pixels of train"), classes)
    return torch.from_numpy(class_weights(counts, power))


def _step_of(of_classes: Tensor | None) -> Step:
    def step(model: nn.Module, batch: Batch, _share: float, weights: Tensor) -> dict[str, Tensor]:
        images, labels = batch
        balance = None if of_classes is None else of_classes.to(labels.device)
        return {"loss": weights[0] * segmentation_loss(model(images), labels, balance)}

    return step


if __name__ == "__main__":
    run_stage(train_segmentation, snakemake)
