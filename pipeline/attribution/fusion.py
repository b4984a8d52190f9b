"""Fusion of class maps over image scales and flips."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.attribution import Attribution
from pipeline.io.images import network_stride, strided_size
from pipeline.metrics.agreement import map_agreement
from pipeline.models.cell_centers import CellCenters
from pipeline.models.classifier import CamClassifier
from pipeline.models.resampling import resampling_weights
from pipeline.models.views import Views


@dataclass(frozen=True)
class FusedMaps:
    """Class maps of an image's K classes, fused over scales and flips.

    Attributes
    ----------
    values : (K, ceil(H / stride), ceil(W / stride)) float16 array
        Maps in [0, 1]. The map of a class without evidence is 0.
    agreement : (K,) float32 array
        Agreement between the scales and flips
        (:func:`pipeline.metrics.agreement.map_agreement`).
    full : (K, H, W) float16 array or None
        The maps at the resolution of the image.
    """

    values: NDArray[np.float16]
    agreement: NDArray[np.float32]
    full: NDArray[np.float16] | None = None


def fuse(
    attribution: Attribution,
    model: CamClassifier,
    image: NDArray[np.uint8],
    classes: NDArray[np.int64],
    views: Views,
    *,
    stride: int,
    full_resolution: bool = False,
    centers: CellCenters | None = None,
) -> FusedMaps:
    """Sum the maps of a method over scales and flips, and divide each class by its maximum.

    Parameters
    ----------
    attribution : callable
        One of :data:`pipeline.attribution.METHODS`.
    model : CamClassifier
        In evaluation mode.
    image : (H, W, 3) uint8 array
    classes : (K,) int64 array
        Class numbers from 1.
    views : Views
        Scales, mirror images and largest size.
    stride : int
        Pixels of the image per cell of the result.
    full_resolution : bool
        Also fuse the maps at the resolution of the image, as in the published code of Puzzle-CAM:
        the maps of all scales are resized to the next multiple of the network's stride and cropped
        to the image. With ``centers`` they are resampled at the image's pixels instead.
    centers : CellCenters, optional
        Centers of the cells of the method's maps. With them, the map of each view is resampled with
        its cells at their centers before it is mirrored back. Without them, its cells are evenly
        distributed over the image.

    Returns
    -------
    FusedMaps
    """
    indices = torch.as_tensor(classes - 1, device=next(model.parameters()).device)
    outputs = views.outputs(model, image, lambda batch: attribution(model, batch, indices))
    return fuse_views(
        list(outputs) if len(classes) else [],
        (image.shape[0], image.shape[1]),
        views,
        stride=stride,
        full_resolution=full_resolution,
        centers=centers,
    )


def fuse_views(
    maps: Sequence[Tensor],
    size: tuple[int, int],
    views: Views,
    *,
    stride: int,
    full_resolution: bool = False,
    centers: CellCenters | None = None,
) -> FusedMaps:
    """Fuse the maps of all views of an image.

    Parameters
    ----------
    maps : sequence of (1 or 2, K, h, w) tensor
        Of each scale: the map of the image and, if there are two, that of its mirror image,
        mirrored back. Empty for an image without a class.
    size : (int, int)
        Height H and width W of the image.
    views, stride, full_resolution, centers
        See :func:`fuse`.

    Returns
    -------
    FusedMaps
    """
    cells = strided_size(size, stride)
    if len(maps) == 0:
        none = np.zeros((0, *size), dtype=np.float16) if full_resolution else None
        empty = np.zeros((0, *cells), dtype=np.float16)
        return FusedMaps(empty, np.zeros(0, dtype=np.float32), none)
    full = None
    if centers is not None:
        inputs = [views.input_size(size, scale) for scale in views.scales]
        resampled = partial(_at_centers, maps, inputs, size, centers=centers)
        single = torch.cat(list(resampled(stride=stride)))
        if full_resolution:
            full = _stored(cast(Tensor, sum(view.sum(dim=0) for view in resampled(stride=1))))
    else:
        single = torch.cat([_resampled(view, cells) for view in maps])
        if full_resolution:
            largest = max(views.scales)
            rows, columns = maps[views.scales.index(largest)].shape[2:]
            side = network_stride(views.input_size(size, largest), (rows, columns))
            full = _stored(_full_sum(maps, size, side))
    return FusedMaps(_stored(single.sum(dim=0)), map_agreement(single.cpu().numpy()), full)


def _at_centers(
    maps: Sequence[Tensor],
    inputs: Sequence[tuple[int, int]],
    size: tuple[int, int],
    *,
    stride: int,
    centers: CellCenters,
) -> Iterator[Tensor]:
    """Resample the maps of each scale with their cells at their centers.

    Parameters
    ----------
    maps : sequence of (1 or 2, K, h, w) tensor
        Of each scale: the map of the image and, if there are two, that of its mirror image,
        mirrored back.
    inputs : sequence of (int, int)
        Height and width of the network's input at each scale.
    size : (int, int)
        Height H and width W of the image.
    stride : int
        Pixels of the image per cell of the result.
    centers : CellCenters

    Yields
    ------
    (1 or 2, K, ceil(H / stride), ceil(W / stride)) float32 tensor
    """
    result = strided_size(size, stride)
    for view, sides in zip(maps, inputs, strict=True):
        pixels = (stride * sides[0] / size[0], stride * sides[1] / size[1])
        shape = (view.shape[2], view.shape[3])
        rows, plain, mirrored = resampling_weights(result, pixels, shape, sides, centers)
        columns = torch.stack([plain, mirrored][: len(view)])
        yield rows.to(view.device) @ view.float() @ columns.to(view.device).mT[:, None]


def _full_sum(views: Sequence[Tensor], size: tuple[int, int], side: int) -> Tensor:
    """Resize the maps of all views to the next multiple of a cell, sum them, and crop the sum."""
    height, width = (side * cells for cells in strided_size(size, side))
    full = sum(_resampled(view.sum(dim=0, keepdim=True), (height, width)) for view in views)
    return cast(Tensor, full)[0, :, : size[0], : size[1]]


def _stored(maps: Tensor) -> NDArray[np.float16]:
    """Return maps with a maximum of 1 as a float16 array."""
    return _to_unit_maximum(maps).cpu().numpy().astype(np.float16)


def _resampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (N, K, h, w) maps by bilinear interpolation."""
    # A map of pixels must be averaged over each cell, not sampled at its center.
    shrinks = maps.shape[2] > size[0] or maps.shape[3] > size[1]
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=shrinks)


def _to_unit_maximum(maps: Tensor) -> Tensor:
    """Divide each of (K, h, w) maps by its maximum; maps of zeros do not change."""
    peaks = maps.amax(dim=(1, 2), keepdim=True)
    return maps / torch.where(peaks > 0, peaks, 1)
