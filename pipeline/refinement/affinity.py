"""Affinities between neighboring cells, and the loss of the boundary network.

Ahn, Cho and Kwak 2019, "Weakly Supervised Learning of Instance Segmentation with
Inter-pixel Relations" (IRN), section 4.2: the affinity of two cells is high if there is no
boundary between them, a = 1 - (largest boundary value on the straight path between them), eq. 5.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Label of uncertain cells.
UNKNOWN = 255
#: Keeps logarithms of affinities finite.
EPSILON = 1e-5


@dataclass(frozen=True)
class FlatGrid:
    """A grid of cells stored row by row, with walls between the rows.

    A step in a given direction is the same shift for every cell. All pairs of cells in one
    direction are therefore two slices of one array. Steps beyond the border end in a wall.

    Attributes
    ----------
    height, width : int
        Number of cells in each direction.
    radius : int
        Cells closer to each other than this are neighbors.
    """

    height: int
    width: int
    radius: int

    @property
    def pitch(self) -> int:
        """Number of cells in a row, including walls."""
        return self.width + self.radius - 1

    @property
    def cells(self) -> int:
        """Number of cells, including walls at the ends of rows."""
        return self.height * self.pitch

    @property
    def margin(self) -> int:
        """Number of wall cells before the first and after the last row: the largest shift."""
        return (self.radius - 1) * (self.pitch + 1)

    @cached_property
    def directions(self) -> tuple[tuple[int, int], ...]:
        """Steps (rows, columns) to the neighbors that follow in reading order."""
        reach = range(1 - self.radius, self.radius)
        ahead = [(0, dx) for dx in range(1, self.radius)]
        ahead += [(dy, dx) for dy in range(1, self.radius) for dx in reach]
        return tuple((dy, dx) for dy, dx in ahead if dy * dy + dx * dx < self.radius**2)

    def shift(self, dy: int, dx: int) -> int:
        """Return the distance between two cells in the flat array."""
        return dy * self.pitch + dx

    def flatten(self, values: Tensor, wall: float) -> Tensor:
        """Reshape (..., H, W) values to (..., margin + cells + margin) with walls of a value."""
        rows = F.pad(values, (0, self.radius - 1), value=wall).flatten(-2)
        return F.pad(rows, (self.margin, self.margin), value=wall)

    def unflatten(self, values: Tensor) -> Tensor:
        """Reshape (..., cells) values to (..., H, W) without walls."""
        return values.reshape(*values.shape[:-1], self.height, self.pitch)[..., : self.width]


def path_rows(dy: int, dx: int) -> list[tuple[int, int]]:
    """Return the cells of the straight path between two cells, as one run for each row.

    The path consists of the cells in the bounding box of the two ends whose centers are closer
    than 1 to the line, as in the published code of IRN.

    Parameters
    ----------
    dy, dx : int
        Step from the first cell to the last one; ``dy`` is not negative.

    Returns
    -------
    list of (int, int)
        First column, relative to the first cell, and length of the run in each of the rows
        0 to ``dy``.

    Examples
    --------
    >>> path_rows(1, 2)
    [(0, 3), (0, 3)]
    """
    columns = range(min(0, dx), max(0, dx) + 1)
    rows = []
    for y in range(dy + 1):
        run = [x for x in columns if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]
        rows.append((run[0], len(run)))
    return rows


def path_maxima(boundaries: Tensor, grid: FlatGrid) -> Tensor:
    """Compute the largest boundary value on the path from each cell to each of its neighbors.

    Parameters
    ----------
    boundaries : (B, margin + cells + margin) float tensor
        Flat boundary maps. Walls have the largest value.
    grid : FlatGrid

    Returns
    -------
    (D, B, cells) float tensor
        One slice for each of the D directions. Gradients go to the largest value of a path, or
        to the first of several equal values.
    """
    maxima: Tensor = _PathMaxima.apply(boundaries, grid)
    return maxima


def affinities(boundaries: Tensor, grid: FlatGrid) -> Tensor:
    """Compute the affinity of each cell of an image to each of its neighbors.

    This function has no gradients. It processes one direction at a time and needs little more
    memory than its result.

    Parameters
    ----------
    boundaries : (H, W) float tensor
        Boundary map in [0, 1].
    grid : FlatGrid

    Returns
    -------
    (D, cells) float tensor
        Affinities in [0, 1]; 0 beyond the border.
    """
    flat = grid.flatten(boundaries, wall=1.0)
    runs = [flat]
    for length in range(2, grid.radius + 1):
        runs.append(torch.maximum(runs[-1][:-1], flat[length - 1 :]))
    found = boundaries.new_zeros((len(grid.directions), grid.cells))
    for largest, (dy, dx) in zip(found, grid.directions, strict=True):
        for row, (column, length) in enumerate(path_rows(dy, dx)):
            start = grid.margin + grid.shift(row, column)
            run = runs[length - 1][start : start + grid.cells]
            torch.maximum(largest, run, out=largest)
    return found.neg_().add_(1)


class _PathMaxima(torch.autograd.Function):
    """Maxima over paths. It stores the positions of the maxima, not all compared values.

    A path has one horizontal run in each row, so maxima over runs are computed once for all
    directions. Directions that cross the same number of rows are processed together.
    """

    @staticmethod
    def forward(ctx: Any, boundaries: Tensor, grid: FlatGrid) -> Tensor:
        values, places = _runs_with_places(boundaries, grid.radius)
        maxima, winners = [], []
        for dy in range(grid.radius):
            paths = [path_rows(dy, dx) for y, dx in grid.directions if y == dy]
            best, place = _row_of(values, grid, paths, 0), _row_of(places, grid, paths, 0)
            for row in range(1, dy + 1):
                other = _row_of(values, grid, paths, row)
                larger = other > best
                best = torch.where(larger, other, best)
                place = torch.where(larger, _row_of(places, grid, paths, row), place)
            maxima.append(best)
            winners.append(place)
        ctx.save_for_backward(torch.cat(winners))
        ctx.length = boundaries.shape[1]
        return torch.cat(maxima)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (winners,) = ctx.saved_tensors
        batch = gradient.shape[1]
        total = gradient.new_zeros((batch, ctx.length))
        by_image = winners.transpose(0, 1).reshape(batch, -1).long()
        total.scatter_add_(1, by_image, gradient.transpose(0, 1).reshape(batch, -1))
        return total, None


def _runs_with_places(boundaries: Tensor, longest: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the maxima over horizontal runs of each length, and their positions."""
    where = torch.arange(boundaries.shape[1], dtype=torch.int32, device=boundaries.device)
    values, places = [boundaries], [where.expand_as(boundaries)]
    for length in range(2, longest + 1):
        last, at = boundaries[:, length - 1 :], where[length - 1 :]
        larger = last > values[-1][:, :-1]
        values.append(torch.where(larger, last, values[-1][:, :-1]))
        places.append(torch.where(larger, at, places[-1][:, :-1]))
    return values, places


def _row_of(
    runs: list[Tensor], grid: FlatGrid, paths: list[list[tuple[int, int]]], row: int
) -> Tensor:
    """Collect the (D, B, cells) runs of several paths in one row."""
    slices = []
    for path in paths:
        column, length = path[row]
        start = grid.margin + grid.shift(row, column)
        slices.append(runs[length - 1][:, start : start + grid.cells])
    return torch.stack(slices)


def affinity_loss(
    boundaries: Tensor,
    labels: Tensor,
    radius: int,
    weights: Tensor | None = None,
    *,
    pairs: str,
) -> dict[str, Tensor]:
    """Compute the loss of boundary maps from pairs of cells with confident labels.

    Pairs with the same label should have an affinity of 1, pairs with different labels 0. IRN,
    eq. 6, with the weights of its published code: half the sum of the negative term and the mean
    of the background and the foreground term. Each term is the mean cross entropy over its
    pairs, and 0 in a batch without such pairs.

    Parameters
    ----------
    boundaries : (B, h, w) float tensor
        Boundary maps in [0, 1].
    labels : (B, h, w) integer tensor
        0 background, class numbers, 255 uncertain.
    radius : int
        Pairs closer than this count.
    weights : (3,) float tensor, optional
        Weights of the terms (background, foreground, negative) if the labels are one part of a
        step; see ``counts`` of :class:`pipeline.training.task.Task`.
    pairs : {"inner", "all"}
        ``inner`` leaves out pairs whose first cell in reading order has neighbors beyond the
        left, right or lower border, as in the published code of IRN; ``all`` uses all pairs.

    Returns
    -------
    dict of str to () tensor
        ``loss`` and its terms ``loss_background``, ``loss_foreground``, ``loss_negative``.
    """
    grid = FlatGrid(boundaries.shape[1], boundaries.shape[2], radius)
    affinity = 1 - path_maxima(grid.flatten(boundaries.float(), wall=1.0), grid)
    chosen = _pairs(labels, grid, pairs)
    attraction = -torch.log(affinity + EPSILON)
    repulsion = -torch.log(1 + EPSILON - affinity)
    background = _mean_over(attraction, chosen[0])
    foreground = _mean_over(attraction, chosen[1])
    negative = _mean_over(repulsion, chosen[2])
    if weights is not None:
        background, foreground, negative = torch.stack([background, foreground, negative]) * weights
    return {
        "loss": ((background + foreground) / 2 + negative) / 2,
        "loss_background": background,
        "loss_foreground": foreground,
        "loss_negative": negative,
    }


def count_pairs(labels: Tensor, radius: int, *, pairs: str) -> Tensor:
    """Count the pairs in each term of :func:`affinity_loss`.

    Parameters
    ----------
    labels : (B, h, w) integer tensor
        0 background, class numbers, 255 uncertain.
    radius : int
        Pairs closer than this count.
    pairs : {"inner", "all"}
        See :func:`affinity_loss`.

    Returns
    -------
    (3,) integer tensor
        Numbers of background, foreground and negative pairs.

    Examples
    --------
    >>> labels = torch.tensor([[[0, 0, 1, 255]]], dtype=torch.uint8)
    >>> count_pairs(labels, 2, pairs="all").tolist()  # background, foreground, different
    [1, 0, 1]
    """
    grid = FlatGrid(labels.shape[1], labels.shape[2], radius)
    return torch.stack([kind.sum() for kind in _pairs(labels, grid, pairs)])


def _pairs(labels: Tensor, grid: FlatGrid, pairs: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mark background pairs, foreground pairs and negative pairs, each in a (D, B, cells) mask."""
    labels = labels.to(torch.uint8)
    flat = grid.flatten(labels, wall=UNKNOWN)
    first = labels if pairs == "all" else _without_border(labels, grid.radius - 1)
    here = grid.flatten(first, wall=UNKNOWN)[None, :, grid.margin : grid.margin + grid.cells]
    starts = [grid.margin + grid.shift(dy, dx) for dy, dx in grid.directions]
    there = torch.stack([flat[:, start : start + grid.cells] for start in starts])
    known = (here != UNKNOWN) & (there != UNKNOWN)
    same = known & (here == there)
    return same & (here == 0), same & (here != 0), known & (here != there)


def _without_border(labels: Tensor, reach: int) -> Tensor:
    """Mark cells as uncertain that are closer than ``reach`` to the left, right or lower border."""
    height, width = labels.shape[-2:]
    inner = torch.full_like(labels, UNKNOWN)
    inside = (..., slice(0, max(0, height - reach)), slice(reach, max(reach, width - reach)))
    inner[inside] = labels[inside]
    return inner


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values; 0 if there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
