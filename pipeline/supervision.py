"""Checks before a training that what it learns from carries any signal.

Without them a network would be trained for hours on a loss of 0, or towards a constant.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.affinity import count_pairs
from pipeline.artifacts import BACKGROUND, IGNORE
from pipeline.errors import UserError
from pipeline.images import scaled_size, strided_size

Label = NDArray[np.uint8]


def require_contrast(targets: NDArray[np.floating[Any]], classes: Sequence[str]) -> None:
    """Refuse image-level labels that are the same for every training image.

    Parameters
    ----------
    targets : (N, C) float array
        Labels of the training images, 0 or 1.
    classes : sequence of C str
        Names of the classes.

    Raises
    ------
    UserError
        If no class is on some images and not on others: a classifier then learns a constant,
        whatever the images show.
    """
    if (targets == targets[:1]).all():
        names = ", ".join(name for name, on in zip(classes, targets[0], strict=True) if on)
        raise UserError(
            f"all {len(targets)} training images have the same labels ({names or 'none'}), "
            "expected a class that some have and others lack: a classifier of these is right "
            "without a look at the images; add images without the class, with empty labels, or "
            "of other classes"
        )


def require_foreground(labels: Iterable[Label]) -> None:
    """Refuse pseudo-labels without a single pixel of a class.

    Parameters
    ----------
    labels : iterable of (H, W) uint8 array
        Pseudo-labels of the training images; read only up to the first pixel of a class.

    Raises
    ------
    UserError
        If there is none.
    """
    count, known = 0, False
    for label in labels:
        if ((label != BACKGROUND) & (label != IGNORE)).any():
            return
        known = known or bool((label == BACKGROUND).any())
        count += 1
    if known:
        raise UserError(
            f"the {count} pseudo-labels show background alone, expected pixels of classes to "
            "learn from: lower the refinement's background.value (or choose it by `mean` or "
            "`otsu`), lower its unsure_below, or train the classifier for longer"
        )
    raise UserError(
        f"no pixel of the {count} pseudo-labels is known (all are {IGNORE}), expected some to "
        "learn from: lower the refinement's unsure_below"
    )


def require_pairs(
    labels: Iterable[Label], radius: int, stride: int, long_side: int, *, crop: int, pairs: str
) -> None:
    """Refuse confident labels without pairs of cells, of one label and of two.

    Parameters
    ----------
    labels : iterable of (H, W) uint8 array
        Confident labels of the training images, 255 where unsure; read only up to the first
        pairs of both kinds.
    radius : int
        Pairs of cells nearer than this are learned from.
    stride : int
        Pixels per cell.
    long_side : int
        What images are resized to in training, at most.
    crop : int
        Pixels along a side of training's crops. Around smaller labels they hold 255.
    pairs : {"inner", "all"}
        As of :func:`pipeline.affinity.affinity_loss`.

    Raises
    ------
    UserError
        If there are no pairs of one of the kinds.
    """
    count, found = 0, torch.zeros(3, dtype=torch.int64)
    for label in labels:
        found += count_pairs(_cells(label, stride, long_side, crop), radius, pairs=pairs)
        count += 1
        background, foreground, negative = found.tolist()
        if background + foreground and negative:
            return
    lacking = "of two labels" if found.any() else "at all"
    raise UserError(
        f"the {count} confident labels have no pairs {lacking} nearer than {radius} cells, "
        "so that no edge can be learned: lower affinity.labels.foreground, raise "
        "affinity.labels.background or affinity.radius, or train the classifier for longer"
    )


def _cells(label: Label, stride: int, long_side: int, crop: int) -> torch.Tensor:
    """Return a label's (1, h, w) cells, with around it all that a crop can show there."""
    size = scaled_size((label.shape[0], label.shape[1]), long_side / max(label.shape))
    tensor = torch.from_numpy(label)[None, None].float()
    resized = F.interpolate(tensor, size, mode="nearest-exact")
    # Crops are padded at random: on each side by between 0 and all that the label lacks.
    rows, columns = (max(0, crop - side) for side in size)
    padded = F.pad(resized, [columns, columns, rows, rows], value=IGNORE)
    cells = strided_size((size[0] + 2 * rows, size[1] + 2 * columns), stride)
    return F.interpolate(padded, cells, mode="nearest-exact")[:, 0]
