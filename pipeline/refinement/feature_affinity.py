"""Affinities between neighboring cells from frozen features: nothing is trained.

The affinity of two cells is the cosine of their feature vectors, and 0 where the cosine is
negative, as in the affinity matrix of Melas-Kyriazi et al. 2022, "Deep Spectral Methods: A
Surprisingly Strong Baseline for Unsupervised Semantic Segmentation and Localization", section 3.2.
TokenCut (Wang et al. 2022, eq. 3) replaces a threshold's two sides by 1 and 1e-5; here the walk's
exponent makes small affinities smaller.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from pipeline.refinement.affinity import FlatGrid


@torch.no_grad()
def cosine_affinities(sources: Iterable[Iterable[Tensor]], grid: FlatGrid) -> Tensor:
    """Compute the affinity of each cell of an image to each of its neighbors from features.

    The affinity is the mean of the cosines of all sources, or 0 if the mean is negative. The mean
    is the cosine of concatenated feature vectors if those of each source are first divided by
    their norm, so that no source outweighs another by its number of channels or their range.

    Parameters
    ----------
    sources : iterable of iterable of (C, H, W) float tensor
        The features of each layer, in parts of any number of channels. Parts are processed one at
        a time: a layer of thousands of channels is never held at the size of the grid.
    grid : FlatGrid
        Of H x W cells.

    Returns
    -------
    (D, H, W) float32 tensor
        Affinities in [0, 1], one slice for each of the D directions of the grid; 0 beyond the
        border. Cells whose features are all 0 have an affinity of 0 to all others.
    """
    cosines = [_cosines(parts, grid) for parts in sources]
    mean = torch.stack(cosines).mean(dim=0) if len(cosines) > 1 else cosines[0]
    return grid.unflatten(mean.clamp_(0, 1))


def _cosines(parts: Iterable[Tensor], grid: FlatGrid) -> Tensor:
    """Return the (D, cells) cosines of one source; 0 beyond the border."""
    starts = [grid.margin + grid.shift(dy, dx) for dy, dx in grid.directions]
    products, squares = torch.zeros(len(starts), grid.cells), torch.zeros(grid.cells)
    for part in parts:
        products, squares = products.to(part.device), squares.to(part.device)
        flat = grid.flatten(part.float(), wall=0.0)
        here = flat[:, grid.margin : grid.margin + grid.cells]
        squares += here.square().sum(dim=0)
        for product, start in zip(products, starts, strict=True):
            product.add_((here * flat[:, start : start + grid.cells]).sum(dim=0))
    norms = grid.flatten(grid.unflatten(squares.sqrt()), wall=0.0)
    here = norms[grid.margin : grid.margin + grid.cells]
    for product, start in zip(products, starts, strict=True):
        # The product of two norms may underflow although neither is 0.
        product.div_(here.clamp(min=_TINY)).div_(norms[start : start + grid.cells].clamp(min=_TINY))
    return products


_TINY = torch.finfo(torch.float32).tiny
