"""Train a classifier on image-level labels, optionally as a Puzzle-CAM."""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.manifest import Manifest, read_manifest
from pipeline.errors import UserError
from pipeline.models.backbone import frozen_module
from pipeline.models.classifier import continue_classifier, create_classifier, save_classifier
from pipeline.runtime.stage import run_stage
from pipeline.training.epochs import number_of_epochs, validated_epochs
from pipeline.training.losses import classification_step, label_validation
from pipeline.training.run import TrainingRun
from pipeline.training.samples import LabeledImages
from pipeline.training.supervision import require_contrast
from pipeline.training.task import Task

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)


def train_classifier(
    *,
    manifest: Path,
    classes: Path,
    pretrained: list[Path],
    settings: Mapping[str, Any],
    seed: int,
    weights: Path,
    history: Path,
    threads: int,
    code: str,
    gpu: int = 1,
) -> None:
    """Train a classifier on the train split; masks are not among the inputs.

    Parameters
    ----------
    pretrained : list of Path
        At most one file to start from: backbone weights, or another classifier.
    settings : mapping
        One entry of the configuration's ``classifiers``.
    weights, history : Path
        Outputs: the network (safetensors) and one row per epoch (CSV).
    manifest, classes, seed, threads, code, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If all train images have the same labels, or the best epoch is to be selected on a val
        split without labels.
    """
    data = read_manifest(manifest, classes)
    # Before devices are claimed and processes start.
    require_contrast(data.targets(data.of_split("train")), data.classes)
    validated = _validated_epochs(data, settings)
    run = TrainingRun.start(
        settings, seed, code, weights=weights, history=history, threads=threads, gpu=gpu
    )
    run.train(
        classifier_task(run, data, pretrained, validated),
        inputs=[manifest, classes, *pretrained],
        save=partial(save_classifier, settings=settings, classes=len(data.classes)),
        select_by="val_map" if settings["selection"] == "best_val_map" else None,
    )


def classifier_task(
    run: TrainingRun, data: Manifest, pretrained: Sequence[Path], validated: Collection[int]
) -> Task:
    """Return the training task of a classifier, with its validation on image-level labels.

    Parameters
    ----------
    run : TrainingRun
        Its settings are one entry of the configuration's ``classifiers``.
    data : Manifest
    pretrained : sequence of Path
        At most one file to start from: backbone weights, or another classifier.
    validated : collection of int
        Numbers of the epochs, from 0, after which the classifier is validated.
    """
    settings, records = run.settings, data.of_split("train")
    if settings["init_from"]:
        model = continue_classifier(settings, len(data.classes), pretrained[0])
    else:
        model = create_classifier(settings, len(data.classes), next(iter(pretrained), None))
    return Task(
        model,
        model.class_layer,
        LabeledImages(data, records, run.transform(model)),
        classification_step(settings["puzzle"]),
        frozen=[frozen_module(model.backbone, name) for name in settings["frozen"]],
        validate=label_validation(data, data.of_split("val"), settings["eval_size"], run.fabric),
        validated=validated,
    )


def _validated_epochs(data: Manifest, settings: Mapping[str, Any]) -> set[int]:
    """Return the epochs to validate: none if no val image has a label."""
    if any(record.labels for record in data.of_split("val")):
        return validated_epochs(settings, number_of_epochs(settings, len(data.of_split("train"))))
    if settings["selection"] == "best_val_map":
        raise UserError(
            "selection is best_val_map and no val image has a label, expected labels to compare "
            "epochs by: label val images, or set `selection: last`"
        )
    logger.info("no val image has a label: training without validation")
    return set()


if __name__ == "__main__":
    run_stage(train_classifier, snakemake)
