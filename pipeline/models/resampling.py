"""Resampling of feature maps whose cells lie at their measured centers."""

from math import ceil

import torch
from torch import Tensor

from pipeline.models.cell_centers import CellCenters, Centers


def resampling_weights(
    result: tuple[int, int],
    pixels: tuple[float, float],
    cells: tuple[int, int],
    image: tuple[int, int],
    centers: CellCenters,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of linear interpolation between the centers of a feature map's cells.

    With them, ``rows @ features @ columns.T`` is the resampled map.

    Parameters
    ----------
    result : (int, int)
        Rows and columns of the result.
    pixels : (float, float)
        Height and width of a cell of the result, in pixels of the network's input.
    cells : (int, int)
        Rows and columns of the feature map.
    image : (int, int)
        Height and width of the network's input.
    centers : CellCenters
        Centers of the feature map's cells.

    Returns
    -------
    rows : (result rows, rows) float32 tensor
    columns : (result columns, columns) float32 tensor
    mirrored : (result columns, columns) float32 tensor
        The columns for a map of the mirror image that is mirrored back: its cells lie in reverse
        order, from the other border.
    """
    vertical, plain = centers.of_side(image[0], 0), centers.of_side(image[1], 1)
    last = plain.first + (cells[1] - 1) * plain.pitch
    mirrored = plain._replace(first=image[1] - 1 - last)
    rows = _weights(result[0], pixels[0], cells[0], vertical)
    columns, others = (_weights(result[1], pixels[1], cells[1], side) for side in (plain, mirrored))
    return rows, columns, others


def _weights(count: int, stride: float, cells: int, centers: Centers) -> Tensor:
    """Return the weights of linear interpolation between the centers of cells along one side.

    Parameters
    ----------
    count : int
        Number of cells of the result.
    stride : float
        Pixels of the network's input per cell of the result.
    cells : int
        Number of cells of the map. Outside its first and last center the map is constant.
    centers : Centers
        Positions of the map's cells in the network's input.

    Returns
    -------
    (count, cells) float32 tensor
        Rows sum to 1.
    """
    # A finer map must be averaged over each cell, not sampled at its center.
    samples = max(1, ceil(stride / centers.pitch))
    pixels = (torch.arange(count * samples, dtype=torch.float64) + 0.5) * stride / samples - 0.5
    places = ((pixels - centers.first) / centers.pitch).clamp(0, cells - 1)
    distances = (places[:, None] - torch.arange(cells)).abs()
    weights = (1 - distances).clamp(min=0)
    return weights.view(count, samples, cells).mean(dim=1).float()
