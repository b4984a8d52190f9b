"""Fusion of an attribution method's maps over image scales and flips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.attribution import Attribution
from pipeline.io.images import fitted_size, network_stride, scaled_size, strided_size
from pipeline.metrics.agreement import map_agreement
from pipeline.models.classifier import CamClassifier
from pipeline.models.views import views_of


@dataclass(frozen=True)
class FusedMaps:
    """Maps of an image's K classes, fused over scales and flips.

    Attributes
    ----------
    values : (K, ceil(H / stride), ceil(W / stride)) float16 array
        In [0, 1]; a class without any evidence stays 0.
    agreement : (K,) float32 array
        How much the single scales and flips agree
        (:func:`pipeline.metrics.agreement.map_agreement`).
    full : (K, H, W) float16 array or None
        The same at the image's resolution.
    """

    values: NDArray[np.float16]
    agreement: NDArray[np.float32]
    full: NDArray[np.float16] | None = None


def fuse(
    attribution: Attribution,
    model: CamClassifier,
    image: NDArray[np.uint8],
    classes: NDArray[np.int64],
    *,
    scales: Sequence[float],
    flip: bool,
    max_size: int | None,
    stride: int,
    full_resolution: bool = False,
) -> FusedMaps:
    """Sum a method's maps over scales and flips and bring every class to a maximum of 1.

    Parameters
    ----------
    attribution : callable
        One of :data:`pipeline.attribution.METHODS`.
    model : CamClassifier
        In evaluation mode.
    image : (H, W, 3) uint8 array
    classes : (K,) int64 array
        Class numbers from 1.
    scales : sequence of float
        Factors on the image's size.
    flip : bool
        Add the maps of the mirrored image, mirrored back.
    max_size : int or None
        Long side that larger images are shrunk to before scaling.
    stride : int
        Pixels of the image per cell of the result.
    full_resolution : bool
        Fuse them at the image's resolution as well, as the published code of Puzzle-CAM does: all
        scales' maps are brought to the next multiples of the network's stride and cut to the image.
    """
    size = (image.shape[0], image.shape[1])
    cells = strided_size(size, stride)
    if len(classes) == 0:
        none = np.zeros((0, *size), dtype=np.float16) if full_resolution else None
        empty = np.zeros((0, *cells), dtype=np.float16)
        return FusedMaps(empty, np.zeros(0, dtype=np.float32), none)
    wanted = torch.as_tensor(classes - 1, device=next(model.parameters()).device)
    views = views_of(
        model, image, lambda batch: attribution(model, batch, wanted),
        scales=scales, flip=flip, max_size=max_size,
    )  # fmt: skip
    maps = list(views)
    single = torch.cat([_resampled(view, cells) for view in maps])
    full = None
    if full_resolution:
        largest = scaled_size(fitted_size(size, max_size), max(scales))
        rows, columns = maps[list(scales).index(max(scales))].shape[2:]
        full = _stored(_full_sum(maps, size, network_stride(largest, (rows, columns))))
    return FusedMaps(_stored(single.sum(dim=0)), map_agreement(single.cpu().numpy()), full)


def fused_maps(
    attribution: Attribution,
    model: CamClassifier,
    image: NDArray[np.uint8],
    classes: NDArray[np.int64],
    *,
    scales: Sequence[float],
    flip: bool,
    max_size: int | None,
    stride: int,
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Return the ``values`` and the ``agreement`` of :func:`fuse`."""
    found = fuse(
        attribution, model, image, classes,
        scales=scales, flip=flip, max_size=max_size, stride=stride,
    )  # fmt: skip
    return found.values, found.agreement


def _full_sum(views: Sequence[Tensor], size: tuple[int, int], side: int) -> Tensor:
    """Bring all views' maps to the next multiples of a cell, add them, and cut the image out."""
    height, width = (side * cells for cells in strided_size(size, side))
    full = sum(_resampled(view.sum(dim=0, keepdim=True), (height, width)) for view in views)
    return cast(Tensor, full)[0, :, : size[0], : size[1]]


def _stored(maps: Tensor) -> NDArray[np.float16]:
    return _to_unit_maximum(maps).cpu().numpy().astype(np.float16)


def _resampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    # A map of single pixels must be averaged over a cell, not sampled at its center.
    shrinks = maps.shape[2] > size[0] or maps.shape[3] > size[1]
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=shrinks)


def _to_unit_maximum(maps: Tensor) -> Tensor:
    """Divide each of (K, h, w) maps by its maximum; a map of zeros stays one."""
    peaks = maps.amax(dim=(1, 2), keepdim=True)
    return maps / torch.where(peaks > 0, peaks, 1)
