"""Affinities of neighboring cells along straight paths, and the loss that teaches them.

Ahn, Cho and Kwak 2019, "Weakly Supervised Learning of Instance Segmentation with
Inter-pixel Relations" (IRN), section 4.2: two cells belong together as far as no edge lies
between them, a = 1 - (the largest edge on the straight path between them), eq. 5.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Cell labels of which nothing is known.
UNKNOWN = 255
#: Keeps logarithms of affinities finite.
EPSILON = 1e-5


@dataclass(frozen=True)
class FlatGrid:
    """A grid of cells written row after row, with walls between the rows.

    A step in a given direction is the same shift everywhere, so that all pairs of that
    direction are two slices of one array. Steps over the border end in a wall.

    Attributes
    ----------
    height, width : int
        Cells.
    radius : int
        Cells nearer to each other than this are neighbors.
    """

    height: int
    width: int
    radius: int

    @property
    def pitch(self) -> int:
        """Cells from one row to the next, walls included."""
        return self.width + self.radius - 1

    @property
    def cells(self) -> int:
        """Number of cells, walls at the ends of rows included."""
        return self.height * self.pitch

    @property
    def margin(self) -> int:
        """Cells of wall before the first and after the last row: the largest shift."""
        return (self.radius - 1) * (self.pitch + 1)

    @cached_property
    def directions(self) -> tuple[tuple[int, int], ...]:
        """Steps (rows, columns) to the neighbors that follow in reading order."""
        reach = range(1 - self.radius, self.radius)
        ahead = [(0, dx) for dx in range(1, self.radius)]
        ahead += [(dy, dx) for dy in range(1, self.radius) for dx in reach]
        return tuple((dy, dx) for dy, dx in ahead if dy * dy + dx * dx < self.radius**2)

    def shift(self, dy: int, dx: int) -> int:
        """Distance of two cells in the flat array."""
        return dy * self.pitch + dx

    def flatten(self, values: Tensor, wall: float) -> Tensor:
        """Turn (..., H, W) values into (..., margin + cells + margin), with walls of a value."""
        rows = F.pad(values, (0, self.radius - 1), value=wall).flatten(-2)
        return F.pad(rows, (self.margin, self.margin), value=wall)

    def unflatten(self, values: Tensor) -> Tensor:
        """Turn (..., cells) values into (..., H, W); the walls are left out."""
        return values.reshape(*values.shape[:-1], self.height, self.pitch)[..., : self.width]


def path_rows(dy: int, dx: int) -> list[tuple[int, int]]:
    """Give the cells of the straight path from a cell to another, as one run a row.

    The path holds the cells of the two ends' bounding box whose centers are nearer than 1
    to the line (the published code of IRN).

    Parameters
    ----------
    dy, dx : int
        Step from the first cell to the last one; ``dy`` not below 0.

    Returns
    -------
    list of (int, int)
        First column, relative to the first cell, and length of the run in each of the rows
        0 to ``dy``.
    """
    columns = range(min(0, dx), max(0, dx) + 1)
    rows = []
    for y in range(dy + 1):
        run = [x for x in columns if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]
        rows.append((run[0], len(run)))
    return rows


def path_maxima(edges: Tensor, grid: FlatGrid) -> Tensor:
    """Take the largest edge on the path from every cell to each of its neighbors.

    Parameters
    ----------
    edges : (B, margin + cells + margin) float tensor
        Flat edge maps; walls hold the largest value.
    grid : FlatGrid

    Returns
    -------
    (D, B, cells) float tensor
        One slice for each of the D directions. Gradients go to the largest edge of a path,
        of several equal ones to the first.
    """
    maxima: Tensor = _PathMaxima.apply(edges, grid)
    return maxima


def affinities(edges: Tensor, grid: FlatGrid) -> Tensor:
    """Give the affinity of every cell of one image to each of its neighbors.

    Without gradients, one direction at a time: it needs little more memory than its result.

    Parameters
    ----------
    edges : (H, W) float tensor
        In [0, 1].
    grid : FlatGrid

    Returns
    -------
    (D, cells) float tensor
        In [0, 1]; 0 over the border.
    """
    flat = grid.flatten(edges, wall=1.0)
    runs = [flat]
    for length in range(2, grid.radius + 1):
        runs.append(torch.maximum(runs[-1][:-1], flat[length - 1 :]))
    found = edges.new_zeros((len(grid.directions), grid.cells))
    for largest, (dy, dx) in zip(found, grid.directions, strict=True):
        for row, (column, length) in enumerate(path_rows(dy, dx)):
            start = grid.margin + grid.shift(row, column)
            run = runs[length - 1][start : start + grid.cells]
            torch.maximum(largest, run, out=largest)
    return found.neg_().add_(1)


class _PathMaxima(torch.autograd.Function):
    """Maxima over paths; remembers where each was, not all that was compared.

    A path is one horizontal run a row, so that maxima over runs, made once, serve all
    directions. Directions that cross as many rows are treated together.
    """

    @staticmethod
    def forward(ctx: Any, edges: Tensor, grid: FlatGrid) -> Tensor:
        values, places = _runs_with_places(edges, grid.radius)
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
        ctx.length = edges.shape[1]
        return torch.cat(maxima)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (winners,) = ctx.saved_tensors
        batch = gradient.shape[1]
        total = gradient.new_zeros((batch, ctx.length))
        by_image = winners.transpose(0, 1).reshape(batch, -1).long()
        total.scatter_add_(1, by_image, gradient.transpose(0, 1).reshape(batch, -1))
        return total, None


def _runs_with_places(edges: Tensor, longest: int) -> tuple[list[Tensor], list[Tensor]]:
    where = torch.arange(edges.shape[1], dtype=torch.int32, device=edges.device)
    values, places = [edges], [where.expand_as(edges)]
    for length in range(2, longest + 1):
        last, at = edges[:, length - 1 :], where[length - 1 :]
        larger = last > values[-1][:, :-1]
        values.append(torch.where(larger, last, values[-1][:, :-1]))
        places.append(torch.where(larger, at, places[-1][:, :-1]))
    return values, places


def _row_of(
    runs: list[Tensor], grid: FlatGrid, paths: list[list[tuple[int, int]]], row: int
) -> Tensor:
    """Gather one row's runs of several paths: (D, B, cells)."""
    slices = []
    for path in paths:
        column, length = path[row]
        start = grid.margin + grid.shift(row, column)
        slices.append(runs[length - 1][:, start : start + grid.cells])
    return torch.stack(slices)


def affinity_loss(
    edges: Tensor,
    labels: Tensor,
    radius: int,
    weights: Tensor | None = None,
    *,
    pairs: str = "inner",
) -> dict[str, Tensor]:
    """Teach edges from confident labels: pairs of one label attract, of two labels repel.

    IRN, eq. 6, with the weights of its published code: half of (the mean of the background
    and the foreground attraction, plus the repulsion); each term is the mean cross entropy
    over its own pairs, and 0 in a batch that has none.

    Parameters
    ----------
    edges : (B, h, w) float tensor
        In [0, 1].
    labels : (B, h, w) integer tensor
        0 background, class numbers, 255 unknown.
    radius : int
        Pairs nearer than this count.
    weights : (3,) float tensor, optional
        Of the terms (background, foreground, negative), where these are a part of a step's
        labels: see :func:`pipeline.training.loop.train`.
    pairs : {"inner", "all"}
        Leave out pairs whose first cell in reading order has neighbors beyond the left, the
        right or the lower border, as the published code of IRN does, or take all pairs.

    Returns
    -------
    dict of str to () tensor
        ``loss`` and its terms ``loss_background``, ``loss_foreground``, ``loss_negative``.
    """
    grid = FlatGrid(edges.shape[1], edges.shape[2], radius)
    affinity = 1 - path_maxima(grid.flatten(edges.float(), wall=1.0), grid)
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


def count_pairs(labels: Tensor, radius: int, *, pairs: str = "inner") -> Tensor:
    """Give what the terms of :func:`affinity_loss` are means over: a (3,) integer tensor.

    Parameters
    ----------
    labels : (B, h, w) integer tensor
        0 background, class numbers, 255 unknown.
    radius : int
        Pairs nearer than this count.
    pairs : {"inner", "all"}
        As of :func:`affinity_loss`.
    """
    grid = FlatGrid(labels.shape[1], labels.shape[2], radius)
    return torch.stack([kind.sum() for kind in _pairs(labels, grid, pairs)])


def _pairs(labels: Tensor, grid: FlatGrid, pairs: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mark the pairs within the background, within one class, and of two labels: (D, B, cells)."""
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
    """Make cells unknown that are nearer than ``reach`` to the left, right or lower border."""
    height, width = labels.shape[-2:]
    inner = torch.full_like(labels, UNKNOWN)
    inside = (..., slice(0, max(0, height - reach)), slice(reach, max(reach, width - reach)))
    inner[inside] = labels[inside]
    return inner


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
