"""What a classifier is trained for, and how it is judged without masks."""

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
from pipeline.training.loop import Step
from pipeline.training.puzzle import alpha_at, merge, reconstruction_loss, tile

#: Images per forward pass of the validation.
VALIDATION_BATCH = 16


def classification_step(puzzle: Mapping[str, Any] | None) -> Step:
    """Give the loss of a batch: classification alone, or with the puzzle module.

    Puzzle-CAM (Jo and Yu 2021, eq. 7): L = L_cls + L_p-cls + alpha L_re, where both
    classification losses are multi-label soft margin and the second one is of the pooled
    maps of the tiles put together again.

    Parameters
    ----------
    puzzle : mapping or None
        Section ``puzzle`` of a classifier; None for a plain classifier.
    """
    return _plain_step if puzzle is None else _puzzle_step(puzzle)


def _plain_step(
    model: nn.Module, batch: Batch, _share: float, _weights: Tensor
) -> dict[str, Tensor]:
    images, targets = batch
    return {"loss": F.multilabel_soft_margin_loss(model(images).logits.float(), targets)}


def _puzzle_step(puzzle: Mapping[str, Any]) -> Step:
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


def validated_epochs(settings: Mapping[str, Any]) -> set[int]:
    """Choose the epochs after which a classifier is scored by the labels of the val split.

    Parameters
    ----------
    settings : mapping
        Keys ``epochs``, ``selection`` and ``validate_every``: a number of epochs, 0 for never, or
        None for every epoch where they are compared, and the last one alone otherwise.

    Returns
    -------
    set of int
        Numbers from 0. The last epoch is among them, unless none is.
    """
    epochs, every = settings["epochs"], settings["validate_every"]
    if every is None:
        every = 1 if settings["selection"] == "best_val_map" else epochs
    return {*range(every - 1, epochs, every), epochs - 1} if every else set()


def label_validation(
    manifest: Manifest, records: Sequence[Record], size: int, fabric: Fabric
) -> Callable[[nn.Module], dict[str, float]]:
    """Give a function that scores a classifier by the image-level labels of held-out images.

    Parameters
    ----------
    manifest : Manifest
    records : sequence of Record
        Held-out images.
    size : int
        Side of the square that images are resized to.
    fabric : Fabric
        The processes that share the images.

    Returns
    -------
    callable
        Maps a classifier in evaluation mode to ``{"val_map": mAP}``, the same in every process.
    """
    targets = manifest.targets(records)
    own = records[fabric.global_rank :: fabric.world_size]

    @torch.no_grad()
    def validate(model: nn.Module) -> dict[str, float]:
        # Of every process as many rows, so that they can be gathered.
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
    """Put the rows that processes have in turns into one (total, C) array."""
    if fabric.world_size == 1:
        return rows.numpy()
    everyone = cast(Tensor, fabric.all_gather(rows.to(fabric.device)))
    return everyone.transpose(0, 1).flatten(0, 1)[:total].cpu().numpy()


def mean_average_precision(targets: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Mean over classes of the average precision; classes without an image are left out.

    Parameters
    ----------
    targets : (N, C) float array
        Labels, 0 or 1.
    scores : (N, C) float array

    Returns
    -------
    float
        In [0, 1]; NaN where no class has an image.
    """
    present = targets.any(axis=0)
    values = [average_precision_score(targets[:, k], scores[:, k]) for k in np.flatnonzero(present)]
    return float(np.mean(values)) if values else float("nan")


def _square(model: Any, record: Record, size: int) -> NDArray[np.float32]:
    return network_input(read_rgb(record.image), (size, size), model)
