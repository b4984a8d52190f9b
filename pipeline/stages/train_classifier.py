"""Train a classifier on image-level labels, optionally as a Puzzle-CAM."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.datasets.manifest import Manifest, read_manifest
from pipeline.errors import UserError
from pipeline.models.backbone import find_module
from pipeline.models.classifier import continue_classifier, create_classifier, save_classifier
from pipeline.runtime.device import loader_workers, make_fabric
from pipeline.runtime.stage import run_stage
from pipeline.training.augmentation import training_transform
from pipeline.training.checkpoint import fingerprint_of
from pipeline.training.loop import Recipe, train, write_history
from pipeline.training.losses import classification_step, label_validation
from pipeline.training.samples import LabeledImages
from pipeline.training.supervision import require_contrast
from pipeline.training.validation import validated_epochs

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
    manifest, classes : Path
        Images with their labels, and the class names.
    pretrained : list of Path
        At most one file to start from: backbone weights, or another classifier.
    settings : mapping
        One entry of the configuration's ``classifiers``.
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
        If all train images have the same labels, or the best epoch is to be selected on a val
        split without labels.
    """
    data = read_manifest(manifest, classes)
    require_contrast(data.targets(data.of_split("train")), data.classes)
    validated = _validated_epochs(data, settings)
    fabric = make_fabric(settings["precision"], threads, gpu)
    torch.manual_seed(seed)
    if settings["init_from"]:
        model = continue_classifier(settings, len(data.classes), pretrained[0])
    else:
        model = create_classifier(settings, len(data.classes), next(iter(pretrained), None))
    transform = training_transform(settings["augmentation"], model.mean, model.std)
    samples = LabeledImages(data, data.of_split("train"), transform)
    logger.info("%d images, %d classes, on %s", len(samples), len(data.classes), fabric.device)
    checkpoint = weights.with_name("checkpoint.safetensors")
    state, rows = train(
        model,
        model.class_layer,
        samples,
        classification_step(settings["puzzle"]),
        Recipe(settings, seed, "val_map" if settings["selection"] == "best_val_map" else None),
        fabric=fabric,
        checkpoint=checkpoint,
        fingerprint=fingerprint_of(dict(settings), seed, code, manifest, classes, *pretrained),
        workers=loader_workers(fabric, threads),
        frozen=[find_module(model.backbone, name) for name in settings["frozen"]],
        validate=label_validation(data, data.of_split("val"), settings["eval_size"], fabric),
        validated=validated,
    )
    if not fabric.is_global_zero:
        return
    save_classifier(weights, state, settings, len(data.classes))
    write_history(history, rows)
    checkpoint.unlink(missing_ok=True)


def _validated_epochs(data: Manifest, settings: Mapping[str, Any]) -> set[int]:
    """Return the epochs to validate: none if no val image has a label."""
    if any(record.labels for record in data.of_split("val")):
        return validated_epochs(settings)
    if settings["selection"] == "best_val_map":
        raise UserError(
            "selection is best_val_map and no val image has a label, expected labels to compare "
            "epochs by: label val images, or set `selection: last`"
        )
    logger.info("no val image has a label: training without validation")
    return set()


if __name__ == "__main__":
    run_stage(train_classifier, snakemake)
