"""The losses of classifiers, and their validation by image-level labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.datasets.manifest import Manifest, Record
from pipeline.io.images import network_input, read_rgb
from pipeline.runtime.device import channels_last
from pipeline.runtime.progress import progress
from pipeline.training.batches import Batch
from pipeline.training.puzzle import alpha_at, merge, reconstruction_loss, tile
from pipeline.training.task import Step

#: Images per forward pass of the validation.
VALIDATION_BATCH = 16


def classification_step(puzzle: Mapping[str, Any] | None) -> Step:
    """Return the function that computes the losses of a batch, with or without the puzzle module.

    Puzzle-CAM (Jo and Yu 2021, eq. 7): L = L_cls + L_p-cls + alpha L_re. Both classification
    losses are multi-label soft margin losses. L_cls is computed on the whole images, L_p-cls on
    the pooled maps that are merged from the tiles.

    Parameters
    ----------
    puzzle : mapping or None
        Section ``puzzle`` of a classifier; None for a plain classifier.

    Returns
    -------
    callable
        The ``step`` of a :class:`pipeline.training.task.Task`.
    """
    return _plain_step if puzzle is None else _puzzle_step(puzzle)


def _plain_step(
    model: nn.Module, batch: Batch, _share: float, _weights: Tensor
) -> dict[str, Tensor]:
    """Compute the classification loss of a batch."""
    images, targets = batch
    return {"loss": F.multilabel_soft_margin_loss(model(images).logits.float(), targets)}


def _puzzle_step(puzzle: Mapping[str, Any]) -> Step:
    """Return the step of Puzzle-CAM."""

    def step(model: nn.Module, batch: Batch, share: float, _weights: Tensor) -> dict[str, Tensor]:
        images, targets = batch
        pieces = puzzle["pieces"]
        logits, full = model(images)
        merged = merge(model(channels_last(tile(images, pieces))).maps, pieces).float()
        alpha = alpha_at(share, puzzle["alpha"], puzzle["ramp"])
        loss_cls = F.multilabel_soft_margin_loss(logits.float(), targets)
        loss_p_cls = F.multilabel_soft_margin_loss(model.pool(merged), targets)  # type: ignore[operator]
        loss_re = reconstruction_loss(
            full.float(), merged, targets, reduction=puzzle["reconstruction"], norm=puzzle["norm"]
        )
        return {
            "loss": loss_cls + loss_p_cls + alpha * loss_re,
            "loss_cls": loss_cls,
            "loss_p_cls": loss_p_cls,
            "loss_re": loss_re,
            "alpha": torch.tensor(alpha),
        }

    return step


def label_validation(
    manifest: Manifest, records: Sequence[Record], size: int, fabric: Fabric
) -> Callable[[nn.Module], dict[str, float]]:
    """Return a function that scores a classifier on the image-level labels of held-out images.

    Parameters
    ----------
    manifest : Manifest
    records : sequence of Record
        Held-out images.
    size : int
        Side of the square that images are resized to.
    fabric : Fabric
        The processes that divide the images among them.

    Returns
    -------
    callable
        Maps a classifier in evaluation mode to ``{"val_map": mAP}``. All processes get the same
        value.
    """
    targets = manifest.targets(records)
    own = records[fabric.global_rank :: fabric.world_size]

    @torch.no_grad()
    def validate(model: nn.Module) -> dict[str, float]:
        # All processes have the same number of rows, as gathering requires.
        scores = torch.zeros(-(-len(records) // fabric.world_size), targets.shape[1])
        starts = range(0, len(own), VALIDATION_BATCH)
        unit = f"batches of {VALIDATION_BATCH}"
        for start in progress(starts, total=len(starts), what="validation", unit=unit):
            batch = [_square(model, r, size) for r in own[start : start + VALIDATION_BATCH]]
            images = channels_last(torch.from_numpy(np.stack(batch)).to(fabric.device))
            scores[start : start + len(batch)] = model(images).logits.float().cpu()
        found = _gathered(scores, len(records), fabric)
        return {"val_map": mean_average_precision(targets, found)}

    return validate


def _gathered(rows: Tensor, total: int, fabric: Fabric) -> NDArray[np.float32]:
    """Gather the interleaved rows of all processes into one (total, C) array."""
    if fabric.world_size == 1:
        return rows.numpy()
    everyone = cast(Tensor, fabric.all_gather(rows.to(fabric.device)))
    return everyone.transpose(0, 1).flatten(0, 1)[:total].cpu().numpy()


def mean_average_precision(targets: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Compute the mean average precision over the classes that have an image.

    Parameters
    ----------
    targets : (N, C) float array
        Labels, 0 or 1.
    scores : (N, C) float array

    Returns
    -------
    float
        The mAP, in [0, 1]; NaN if no class has an image.
    """
    present = targets.any(axis=0)
    values = [average_precision_score(targets[:, k], scores[:, k]) for k in np.flatnonzero(present)]
    return float(np.mean(values)) if values else float("nan")


def _square(model: Any, record: Record, size: int) -> NDArray[np.float32]:
    """Read an image as a square input of the model."""
    return network_input(read_rgb(record.image), (size, size), model)
