"""Fusion of an attribution method's maps over image scales and flips."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.attribution import Attribution
from pipeline.images import strided_size
from pipeline.metrics.agreement import map_agreement
from pipeline.models.classifier import CamClassifier
from pipeline.views import views_of


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

    Returns
    -------
    maps : (K, ceil(H / stride), ceil(W / stride)) float16 array
        In [0, 1]; a class without any evidence stays 0.
    agreement : (K,) float32 array
        How much the single scales and flips agree
        (:func:`pipeline.metrics.agreement.map_agreement`).
    """
    size = strided_size((image.shape[0], image.shape[1]), stride)
    if len(classes) == 0:
        return np.zeros((0, *size), dtype=np.float16), np.zeros(0, dtype=np.float32)
    wanted = torch.as_tensor(classes - 1, device=next(model.parameters()).device)
    views = views_of(
        model, image, lambda batch: attribution(model, batch, wanted),
        scales=scales, flip=flip, max_size=max_size,
    )  # fmt: skip
    single = torch.cat([_resampled(maps, size) for maps in views])
    fused = _to_unit_maximum(single.sum(dim=0)).cpu().numpy().astype(np.float16)
    return fused, map_agreement(single.cpu().numpy())


def _resampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    # A map of single pixels must be averaged over a cell, not sampled at its centre.
    shrinks = maps.shape[2] > size[0] or maps.shape[3] > size[1]
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=shrinks)


def _to_unit_maximum(maps: Tensor) -> Tensor:
    """Divide each of (K, h, w) maps by its maximum; a map of zeros stays one."""
    peaks = maps.amax(dim=(1, 2), keepdim=True)
    return maps / torch.where(peaks > 0, peaks, 1)
