"""Check before the training of a boundary network that its labels contain something to learn."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.io.arrays import IGNORE
from pipeline.io.images import scaled_size, strided_size
from pipeline.refinement.affinity import count_pairs

Label = NDArray[np.uint8]


def require_pairs(
    labels: Iterable[Label], radius: int, stride: int, long_side: int, *, crop: int, pairs: str
) -> None:
    """Check that the confident labels have pairs of cells with equal and with different labels.

    Parameters
    ----------
    labels : iterable of (H, W) uint8 array
        Confident labels of the training images, 255 for uncertain pixels. Reading stops when
        pairs of both kinds are found.
    radius : int
        The network learns from pairs of cells that are closer than this.
    stride : int
        Pixels per cell.
    long_side : int
        Largest long side of the resized training images.
    crop : int
        Side of the training crops in pixels. Smaller labels are padded with 255.
    pairs : {"inner", "all"}
        As in :func:`pipeline.refinement.affinity.affinity_loss`.

    Raises
    ------
    UserError
        If one of the two kinds of pairs is missing.
    """
    count, found = 0, torch.zeros(3, dtype=torch.int64)
    for label in labels:
        found += count_pairs(_cells(label, stride, long_side, crop), radius, pairs=pairs)
        count += 1
        background, foreground, negative = found.tolist()
        if background + foreground and negative:
            return
    missing = "pairs with different labels" if found.any() else "pairs"
    raise UserError(
        f"the {count} confident labels have no {missing} closer than {radius} cells, so no "
        "boundary can be learned: lower affinity.confident_labels.foreground, raise "
        "affinity.confident_labels.background or affinity.radius, or train the classifier longer"
    )


def _cells(label: Label, stride: int, long_side: int, crop: int) -> torch.Tensor:
    """Return the (1, h, w) cells of a label with all the padding that a crop can show."""
    size = scaled_size((label.shape[0], label.shape[1]), long_side / max(label.shape))
    tensor = torch.from_numpy(label)[None, None].float()
    resized = F.interpolate(tensor, size, mode="nearest-exact")
    # Crops are padded at random: on each side by between 0 and all that the label lacks.
    rows, columns = (max(0, crop - side) for side in size)
    padded = F.pad(resized, [columns, columns, rows, rows], value=IGNORE)
    cells = strided_size((size[0] + 2 * rows, size[1] + 2 * columns), stride)
    return F.interpolate(padded, cells, mode="nearest-exact")[:, 0]
