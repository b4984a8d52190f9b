"""How far a class map says what a classifier looks at: no ground truth is needed.

A picture is shown to the classifier once whole and once with what a map holds unimportant
taken out; the confidence in the class says what was lost.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

#: Share of an image's long side that the blur of the insertion curve has as its deviation:
#: 5 pixels of 224, as in the paper's code.
BLUR = 5 / 224


def explanation_images(
    images: Tensor, maps: Tensor, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Multiply images with maps: what a map holds unimportant turns black.

    Chattopadhay et al. 2018, "Grad-CAM++", section 5.1: E = L o I, of the image in [0, 1].

    Parameters
    ----------
    images : (N, 3, H, W) float tensor
        Normalized images.
    maps : (N, H, W) float tensor
        In [0, 1].
    mean, std : sequence of 3 float
        The normalization.

    Returns
    -------
    (N, 3, H, W) float tensor
        Normalized again.
    """
    center, scale = (torch.tensor(part, device=images.device).view(3, 1, 1) for part in (mean, std))
    return ((images * scale + center) * maps[:, None] - center) / scale


def deletion_images(image: Tensor, values: Tensor, steps: int) -> Tensor:
    """Replace more and more of an image by the mean color, the map's highest pixels first.

    Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
    "causal metrics".

    Parameters
    ----------
    image : (3, H, W) float tensor
        Normalized, so that zero is the mean color.
    values : (H, W) float tensor
        The map; pixels of equal value go in reading order.
    steps : int

    Returns
    -------
    (steps + 1, 3, H, W) float tensor
        The image at shares 0, 1 / steps, ..., 1 of the pixels.
    """
    return torch.where(_first_pixels(values, steps), torch.zeros_like(image), image)


def insertion_images(image: Tensor, values: Tensor, steps: int) -> Tensor:
    """Put more and more of an image into its blurred copy, the map's highest pixels first.

    The twin of :func:`deletion_images`; it ends with the whole image.
    """
    deviation = BLUR * max(image.shape[1:])
    # The picture is reflected at its edges, which gives no more than its side.
    kernel = [2 * min(round(2 * deviation), side - 1) + 1 for side in reversed(image.shape[1:])]
    blurred = gaussian_blur(image, kernel, [deviation])
    return torch.where(_first_pixels(values, steps), image, blurred)


def _first_pixels(values: Tensor, steps: int) -> Tensor:
    """Mark a growing share of the highest pixels: (steps + 1, 1, H, W) bool."""
    order = values.flatten().argsort(descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    counts = torch.linspace(0, len(order), steps + 1, device=order.device).round()
    return (place < counts[:, None]).view(steps + 1, 1, *values.shape)


def curve_area(confidences: NDArray[np.floating]) -> float:
    """Give the area under a deletion or insertion curve of evenly spaced shares in [0, 1]."""
    return float(np.trapezoid(confidences, dx=1 / (len(confidences) - 1)))


def drops(whole: NDArray[np.floating], explained: NDArray[np.floating]) -> NDArray[np.float64]:
    """Give the share of the confidence that each pair loses, 0 where it gains.

    Chattopadhay et al. 2018, section 5.1: max(0, Y - O) / Y, whose mean is the Average Drop.

    Parameters
    ----------
    whole, explained : (P,) float array
        Confidence in the class, in [0, 1], of the image and of its explanation (Y and O).

    Returns
    -------
    (P,) float64 array
        In [0, 1]; 0 where there was no confidence to lose.
    """
    lost = np.clip(np.asarray(whole, np.float64) - explained, 0, None)
    shares: NDArray[np.float64] = np.divide(
        lost, whole, out=np.zeros_like(lost), where=np.asarray(whole) > 0
    )
    return shares


def increase_share(whole: NDArray[np.floating], explained: NDArray[np.floating]) -> float:
    """Give the share of pairs whose explanation raises the confidence (Increase in Confidence)."""
    return float((np.asarray(explained) > np.asarray(whole)).mean())


def win_shares(lost: NDArray[np.floating]) -> NDArray[np.float64]:
    """Give the share of pairs on which each method loses the least confidence.

    Chattopadhay et al. 2018, section 5.1 (Win %), for any number of methods.

    Parameters
    ----------
    lost : (M, P) float array
        Drops of M methods on the same P pairs; P at least 1.

    Returns
    -------
    (M,) float64 array
        They sum to 1: methods that tie share a pair.
    """
    least = lost == lost.min(axis=0)
    shares: NDArray[np.float64] = (least / least.sum(axis=0)).mean(axis=1)
    return shares
