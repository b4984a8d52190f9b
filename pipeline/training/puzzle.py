"""The puzzle module of Puzzle-CAM (Jo and Yu 2021): tile, merge and compare class maps."""

from collections.abc import Callable
from math import isqrt

import torch
from torch import Tensor


def tile(images: Tensor, pieces: int) -> Tensor:
    """Cut images into non-overlapping tiles.

    Parameters
    ----------
    images : (N, C, H, W) tensor
        H and W divisible by the square root of ``pieces``.
    pieces : int
        Number of tiles per image; a square number.

    Returns
    -------
    (pieces * N, C, H / sqrt(pieces), W / sqrt(pieces)) tensor
        The top left tiles of all images first, then the next tiles in reading order.

    Raises
    ------
    ValueError
        If H or W is not divisible, or ``pieces`` is not a square number.
    """
    side = isqrt(pieces)
    n, c, height, width = images.shape
    if side * side != pieces or height % side or width % side:
        raise ValueError(
            f"images are {height}x{width}, expected multiples of {side} for {pieces} tiles"
        )
    grid = images.reshape(n, c, side, height // side, side, width // side)
    return grid.permute(2, 4, 0, 1, 3, 5).reshape(-1, c, height // side, width // side)


def merge(tiles: Tensor, pieces: int) -> Tensor:
    """Merge tiles into whole maps; the inverse of :func:`tile`.

    Parameters
    ----------
    tiles : (pieces * N, C, h, w) tensor
    pieces : int

    Returns
    -------
    (N, C, h * sqrt(pieces), w * sqrt(pieces)) tensor
    """
    side = isqrt(pieces)
    _, c, height, width = tiles.shape
    grid = tiles.reshape(side, side, -1, c, height, width)
    return grid.permute(2, 3, 0, 4, 1, 5).reshape(-1, c, side * height, side * width)


def reconstruction_loss(
    full: Tensor, merged: Tensor, targets: Tensor, *, reduction: str, norm: str
) -> Tensor:
    """Compute the distance between the class maps of whole images and of their merged tiles.

    Both maps are raw: before ReLU and not normalized (Jo and Yu 2021, eq. 6).

    Parameters
    ----------
    full, merged : (N, C, h, w) float tensor
        Class maps.
    targets : (N, C) float tensor
        Image-level labels, 0 or 1.
    reduction : {"masked_mean", "present_mean", "all_mean", "none"}
        ``masked_mean`` sets absent classes to zero and averages over all classes, as in the
        paper; ``present_mean`` averages over the present classes only; ``all_mean`` compares
        all classes; ``none`` returns zero.
    norm : {"l1", "l2"}
        Absolute or squared difference.

    Returns
    -------
    () float tensor
    """
    return REDUCTIONS[reduction](NORMS[norm](full - merged).mean(dim=(2, 3)), targets)


def alpha_at(progress: float, alpha: float, ramp: float) -> float:
    """Return the weight of the reconstruction loss, which rises linearly to ``alpha``.

    Parameters
    ----------
    progress : float
        Share of all steps that are done, in [0, 1].
    alpha : float
        Final weight.
    ramp : float
        Share of the steps over which the weight rises; 0 for no ramp.
    """
    return alpha if progress >= ramp else alpha * progress / ramp


NORMS: dict[str, Callable[[Tensor], Tensor]] = {"l1": torch.abs, "l2": torch.square}

REDUCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "masked_mean": lambda distance, targets: (distance * targets).mean(),
    "present_mean": lambda distance, targets: (
        (distance * targets).sum() / targets.sum().clamp(min=1)
    ),
    "all_mean": lambda distance, _: distance.mean(),
    "none": lambda distance, _: distance.new_zeros(()),
}
