"""Random walk over affinities: spreads class maps up to boundaries.

Ahn and Kwak 2018 (AffinityNet), section 3.4, in the form of IRN (Ahn, Cho and Kwak 2019): maps x
become x T^n with n = 2^t steps. T is the elementwise power beta of the affinity matrix, with each
column divided by its sum D. Published code squares a dense matrix t times. T is similar to the
symmetric matrix S = D^(1/2) T D^(-1/2), whose spectrum is in [-1, 1]. T^n can therefore be
approximated by a polynomial of low degree in S. S is a stencil, and a product with it costs time
and memory in proportion to the number of cells.
"""

from collections.abc import Sequence
from math import comb

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.refinement.affinity import FlatGrid, affinities


def chebyshev_coefficients(steps: int, tolerance: float) -> list[float]:
    """Return the Chebyshev coefficients of x^n, truncated at a tolerance.

    x^n = sum over k of c_k T_k(x), k of the parity of n, c_k = 2^(1-n) C(n, (n - k) / 2), and
    half of that for k = 0. These are the probabilities that a walk of n fair steps on a line
    ends at distance k. Their sum beyond K is therefore below 2 exp(-K^2 / (2 n)) by Hoeffding's
    inequality (Sachdeva and Vishnoi 2014, "Faster Algorithms via Approximation Theory",
    theorem 3.3). The kept coefficients are scaled to sum to 1. Constant maps then stay constant,
    and the error at most doubles.

    Parameters
    ----------
    steps : int
        The power n, 0 or more.
    tolerance : float
        Largest error of the polynomial anywhere in [-1, 1]; 0 keeps all terms.

    Returns
    -------
    list of float
        c_0 to c_K. Coefficients of the other parity are 0.

    Examples
    --------
    >>> [round(c, 3) for c in chebyshev_coefficients(2, 0)]  # x ** 2 = (T_0 + T_2) / 2
    [0.5, 0.0, 0.5]
    """
    parity = steps % 2
    total = 2**steps
    kept = [0] * parity + [comb(steps, steps // 2) * (1 + parity)]
    tail = total - kept[-1]
    # The error is at most 2 tail / kept sum. Integers are used since 2^n may exceed any float.
    share, whole = tolerance.as_integer_ratio()
    while tail and 2 * tail * whole > share * (total - tail):
        kept += [0, 2 * comb(steps, (steps - len(kept) - 1) // 2)]
        tail -= kept[-1]
    return [term / (total - tail) for term in kept]


class TransitionMatrix:
    """The transition matrix T of affinities, stored as the symmetric stencil S.

    Parameters
    ----------
    weights : (D, cells) float32 tensor
        Affinities in [0, 1] in each of the D directions of the grid, and 0 beyond its border. They
        are overwritten.
    grid : FlatGrid
    beta : float
        Exponent of the affinities.

    Attributes
    ----------
    degrees : (H, W) float32 tensor
        D: the column sums before normalization, at least 1.
    """

    def __init__(self, weights: Tensor, grid: FlatGrid, *, beta: float) -> None:
        self._grid = grid
        self._weights = list(weights.pow_(beta))
        # The affinity of a cell to itself is 1, so D = 1 + the weights of its neighbors.
        flat = weights.new_zeros((1, self._grid.cells + 2 * self._grid.margin))
        here, *there = self._slices(flat)
        for weight, neighbor in zip(self._weights, there, strict=True):
            here.add_(weight)
            neighbor.add_(weight)
        self.degrees = self._grid.unflatten(1 + here[0])
        self._diagonal = -here[0] / (1 + here[0])
        here, *there = self._slices((1 + flat).rsqrt())
        for weight, neighbor in zip(self._weights, there, strict=True):
            weight.mul_(here[0] * neighbor[0])

    @classmethod
    def of_boundaries(cls, boundaries: Tensor, *, radius: int, beta: float) -> "TransitionMatrix":
        """Return the transition matrix of a boundary map.

        Parameters
        ----------
        boundaries : (H, W) float32 tensor
            Boundary map in [0, 1].
        radius : int
            Cells closer than this are neighbors.
        beta : float
            Exponent of the affinities.
        """
        grid = FlatGrid(boundaries.shape[0], boundaries.shape[1], radius)
        return cls(affinities(boundaries, grid), grid, beta=beta)

    def walk(self, maps: Tensor, steps: int) -> Tensor:
        """Compute x T^n by n products; the reference for :meth:`spread`.

        Parameters
        ----------
        maps : (K, H, W) float32 tensor
            x.
        steps : int
            n.

        Returns
        -------
        (K, H, W) float32 tensor
        """
        iterate, change = self._symmetric(maps)
        for _ in range(steps):
            change[0].zero_()
            self._add_difference(iterate, change, 1)
            iterate[0].add_(change[0])
        return self._restored(iterate[0])

    def spread(self, maps: Tensor, coefficients: Sequence[float]) -> Tensor:
        """Compute x p(T) for a polynomial p = sum of c_k T_k; the degree is the number of products.

        Parameters
        ----------
        maps : (K, H, W) float32 tensor
            x.
        coefficients : sequence of float
            c_0, c_1, ...

        Returns
        -------
        (K, H, W) float32 tensor
        """
        iterate, change = self._symmetric(maps)
        total = iterate[0] * coefficients[0]
        for degree, coefficient in enumerate(coefficients[1:], start=1):
            # T_(k+1) = 2 S T_k - T_(k-1), written as
            # T_(k+1) - T_k = (T_k - T_(k-1)) + 2 (S - 1) T_k.
            # In this form rounding errors do not accumulate where S is nearly 1.
            self._add_difference(iterate, change, 1 if degree == 1 else 2)
            iterate[0].add_(change[0])
            if coefficient:
                total.add_(iterate[0], alpha=coefficient)
        return self._restored(total)

    def _symmetric(self, maps: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the slices of x D^(1/2), and slices of zeros of the same size."""
        flat = self._grid.flatten(maps * self.degrees.sqrt(), wall=0)
        return self._slices(flat), self._slices(torch.zeros_like(flat))

    def _restored(self, cells: Tensor) -> Tensor:
        """Return the maps x of x D^(1/2)."""
        return self._grid.unflatten(cells) * self.degrees.rsqrt()

    def _add_difference(
        self, source: Sequence[Tensor], target: Sequence[Tensor], factor: float
    ) -> None:
        """Add ``factor`` (S - 1) source to target, in place; weights apply in both directions."""
        target[0].addcmul_(self._diagonal, source[0], value=factor)
        for weight, from_, to in zip(self._weights, source[1:], target[1:], strict=True):
            target[0].addcmul_(weight, from_, value=factor)
            to.addcmul_(weight, source[0], value=factor)

    def _slices(self, flat: Tensor) -> list[Tensor]:
        """Return a slice of the cells, then one slice of their neighbors for each direction."""
        grid = self._grid
        starts = [0] + [grid.shift(dy, dx) for dy, dx in grid.directions]
        return [flat[:, grid.margin + s : grid.margin + s + grid.cells] for s in starts]


def confident_markers(maps: Tensor, *, foreground: float, background: float) -> Tensor:
    """Select the markers of a random walk: the confident cells of every class and the background.

    Parameters
    ----------
    maps : (K, H, W) float tensor
        In [0, 1].
    foreground : float
        A cell is a marker of a class above this share of the class's maximum, if no other
        class is stronger there.
    background : float
        A cell is a marker of the background where all maps are below this.

    Returns
    -------
    (K + 1, H, W) float32 tensor
        0 or 1; the background is last.
    """
    strongest = torch.cat([maps.new_zeros((1, *maps.shape[1:])), maps]).amax(dim=0)
    own = foreground * maps.amax(dim=(1, 2), keepdim=True)
    objects = (maps > own) & (maps == strongest)
    return torch.cat([objects, (strongest < background)[None]]).float()


def class_probabilities(walked: Tensor) -> Tensor:
    """Return the probability of each class after a marker-based random walk.

    A class's probability is its part of everything that reached a cell, background included.
    It approximates the random walker of Grady 2006, but markers are not held fixed and the walk
    ends after a number of steps. The published walk divides by the image's maximum instead:
    regions enclosed by boundaries, small objects above all, then stay dim because little of any
    class reaches them.

    Parameters
    ----------
    walked : (K + 1, H, W) float32 tensor
        Markers of K classes and of the background after a walk. The polynomial's error may have
        left values just below zero: they count as zero.

    Returns
    -------
    (K, H, W) float32 tensor
        In [0, 1]; 0 where nothing arrived.
    """
    arrived = walked.clamp(min=0)
    total = arrived.sum(dim=0)
    return arrived[:-1] / torch.where(total > 0, total, 1)


@torch.no_grad()
def random_walk(
    maps: Sequence[Tensor],
    boundaries: Sequence[Tensor],
    *,
    radius: int,
    beta: float,
    steps: int,
    tolerance: float,
) -> list[Tensor]:
    """Spread the class maps of several images by a random walk that stops at boundaries.

    Each map x becomes x (1 - boundaries) T^n. The error e of the polynomial is bounded in the
    degree-weighted norm: ``|e D^(1/2)| <= tolerance |x D^(1/2)|``.

    Parameters
    ----------
    maps : sequence of (K, H, W) float32 tensor
        Non-negative maps of each image, with any K, H and W. They do not change.
    boundaries : sequence of (H, W) float32 tensor
        Boundary maps in [0, 1].
    radius : int
        Cells closer than this are neighbors.
    beta : float
        Exponent of the affinities.
    steps : int
        n, 2^t in the papers.
    tolerance : float
        Tolerance of the polynomial; 0 runs all steps one by one.

    Returns
    -------
    list of (K, H, W) float32 tensor
        Maps after the walk, not normalized.
    """
    # A batch is one tall image with walls between its images.
    width = max(item.shape[1] for item in boundaries)
    wall = radius - 1
    tall_boundaries = torch.cat(
        [F.pad(e, (0, width - e.shape[1], 0, wall), value=1.0) for e in boundaries]
    ).float()
    started = [x.float() * (1 - e) for x, e in zip(maps, boundaries, strict=True)]
    transition = TransitionMatrix.of_boundaries(tall_boundaries, radius=radius, beta=beta)
    return _spread(started, transition, wall, width, steps, tolerance)


@torch.no_grad()
def affinity_walk(
    maps: Sequence[Tensor],
    weights: Sequence[Tensor],
    *,
    radius: int,
    beta: float,
    steps: int,
    tolerance: float,
) -> list[Tensor]:
    """Spread the class maps of several images by a random walk over given affinities.

    Each map x becomes x T^n. There are no boundaries that a map could start on, so that, unlike in
    :func:`random_walk`, all of it walks.

    Parameters
    ----------
    maps : sequence of (K, H, W) float32 tensor
        Non-negative maps of each image, with any K, H and W. They do not change.
    weights : sequence of (D, H, W) float32 tensor
        Affinities of each image in [0, 1], 0 beyond its border: see
        :func:`pipeline.refinement.feature_affinity.cosine_affinities`. They do not change.
    radius, beta, steps, tolerance
        See :func:`random_walk`. The radius is that of the affinities.

    Returns
    -------
    list of (K, H, W) float32 tensor
        Maps after the walk, not normalized.
    """
    width, wall = max(item.shape[2] for item in weights), radius - 1
    # Padding copies, so the affinities of the images are not overwritten.
    tall = torch.cat(
        [F.pad(item, (0, width - item.shape[2] + wall, 0, wall)) for item in weights], dim=1
    )
    grid = FlatGrid(tall.shape[1], width, radius)
    transition = TransitionMatrix(tall.flatten(1), grid, beta=beta)
    return _spread([x.float() for x in maps], transition, wall, width, steps, tolerance)


def _spread(
    maps: Sequence[Tensor],
    transition: TransitionMatrix,
    wall: int,
    width: int,
    steps: int,
    tolerance: float,
) -> list[Tensor]:
    """Walk over the tall image of a batch, and return the maps of its images."""
    classes = max(item.shape[0] for item in maps)
    tall = torch.cat(
        [F.pad(x, (0, width - x.shape[2], 0, wall, 0, classes - x.shape[0])) for x in maps], dim=1
    )
    if tolerance:
        spread = transition.spread(tall, chebyshev_coefficients(steps, tolerance))
    else:
        spread = transition.walk(tall, steps)
    heights = [x.shape[1] + wall for x in maps]
    return [
        part[: x.shape[0], : x.shape[1], : x.shape[2]]
        for part, x in zip(torch.split(spread, heights, dim=1), maps, strict=True)
    ]
