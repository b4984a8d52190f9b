"""Gradient saliency maps (Simonyan, Vedaldi and Zisserman 2013)."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import torch
from torch import Tensor

from pipeline.models.classifier import CamClassifier

#: Pixels in one backward pass. Memory grows with them.
PIXELS_AT_ONCE = 2**20


def saliency(
    model: CamClassifier,
    images: Tensor,
    classes: Tensor,
    *,
    crops: int = 5,
    crop_share: float = 0.875,
    smooth_grad: Mapping[str, Any] | None = None,
) -> Tensor:
    """Compute the absolute derivative of class scores with respect to the image.

    Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 3.1: one
    back-propagation of the unnormalized score for each class, the maximum over the color
    channels, and the mean over several crops. The maps of the crops are added at their position
    in the image. :func:`pipeline.attribution.fusion.fuse` adds the mirrored images, so that
    five crops become the ten of the paper.

    Parameters
    ----------
    model : CamClassifier
        In evaluation mode. The gradients of its parameters do not change.
    images : (N, 3, H, W) float tensor
        Normalized images.
    classes : (K,) int64 tensor
        Class indices from 0.
    crops : {1, 5}
        The whole image, or its four corners and its center.
    crop_share : float
        Side of a crop as a share of the image side. It is at least 0.5, so that five crops cover
        the image.
    smooth_grad : mapping, optional
        SmoothGrad (Smilkov et al. 2017, section 3.2): the signed derivatives are averaged over
        ``samples`` copies of each crop with Gaussian noise. Its standard deviation is ``noise``
        times the value range of the crop.

    Returns
    -------
    (N, K, H, W) float tensor
        Non-negative maps with one value per pixel.
    """
    windows = crop_windows((images.shape[2], images.shape[3]), crops, crop_share)
    views = torch.cat([images[:, :, rows, columns] for rows, columns in windows])
    batch_size = max(1, PIXELS_AT_ONCE // (views.shape[2] * views.shape[3]))
    strengths = [
        _derivatives(model, part, classes, smooth_grad).abs().amax(dim=2)
        for part in torch.split(views, batch_size)
    ]
    total = images.new_zeros((len(images), len(classes), *images.shape[2:]))
    covered = images.new_zeros(images.shape[2:])
    by_window = torch.cat(strengths).view(len(windows), *total.shape[:2], *views.shape[2:])
    for (rows, columns), maps in zip(windows, by_window, strict=True):
        total[:, :, rows, columns] += maps
        covered[rows, columns] += 1
    return total / covered


def crop_windows(size: tuple[int, int], crops: int, share: float) -> list[tuple[slice, slice]]:
    """Return the crops of an image: the whole image for 1, four corners and the center for 5.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    crops : {1, 5}
    share : float
        Side of a crop as a share of the image side, rounded up to a pixel.

    Returns
    -------
    list of (slice, slice)
        Rows and columns of each crop. All crops have the same size.
    """
    if crops == 1:
        return [(slice(0, size[0]), slice(0, size[1]))]
    height, width = (ceil(side * share) for side in size)
    bottom, right = size[0] - height, size[1] - width
    corners = [(0, 0), (0, right), (bottom // 2, right // 2), (bottom, 0), (bottom, right)]
    return [(slice(y, y + height), slice(x, x + width)) for y, x in corners]


def _derivatives(
    model: CamClassifier, images: Tensor, classes: Tensor, smooth_grad: Mapping[str, Any] | None
) -> Tensor:
    """Return (N, K, 3, H, W) signed derivatives of class scores, averaged over noise."""
    if smooth_grad is None:
        return _gradients(model, images, classes)
    draw = torch.Generator(images.device).manual_seed(0)
    low, high = images.amin(dim=(1, 2, 3)), images.amax(dim=(1, 2, 3))
    deviation = (smooth_grad["noise"] * (high - low)).view(-1, 1, 1, 1)
    total = images.new_zeros((len(images), len(classes), *images.shape[1:]))
    for _ in range(smooth_grad["samples"]):
        noise = torch.randn(images.shape, generator=draw, device=images.device)
        total += _gradients(model, images + deviation * noise, classes)
    mean: Tensor = total / smooth_grad["samples"]
    return mean


def _gradients(model: CamClassifier, images: Tensor, classes: Tensor) -> Tensor:
    """Return (N, K, 3, H, W) signed derivatives of class scores."""
    # In evaluation mode images are independent, so the sum yields the derivative of each image.
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        scores = model(inputs).logits[:, classes].float().sum(dim=0)
        found = [torch.autograd.grad(score, inputs, retain_graph=True)[0] for score in scores]
    gradients: Tensor = torch.stack(found, dim=1)
    return gradients
