"""Faithfulness: how well a class map describes what a classifier uses, without ground truth.

The classifier scores an image with and without the parts that the map marks as unimportant. The
change of the confidence in the class measures the faithfulness of the map.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

#: Standard deviation of the insertion curve's blur as a share of the long side of the image:
#: 5 pixels of 224, as in the code of the paper.
BLUR = 5 / 224


def explanation_images(
    images: Tensor, maps: Tensor, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Multiply images with maps, which turns unimportant regions black.

    Chattopadhay et al. 2018, "Grad-CAM++", section 5.1: E = L o I, of the image in [0, 1].

    Parameters
    ----------
    images : (N, 3, H, W) float tensor
        Normalized images.
    maps : (N, H, W) float tensor
        Maps in [0, 1].
    mean, std : sequence of 3 float
        The normalization.

    Returns
    -------
    (N, 3, H, W) float tensor
        Normalized images.
    """
    center, scale = (torch.tensor(part, device=images.device).view(3, 1, 1) for part in (mean, std))
    return ((images * scale + center) * maps[:, None] - center) / scale


def deletion_images(image: Tensor, values: Tensor, steps: int) -> Tensor:
    """Replace growing parts of an image by the mean color, highest map values first.

    Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
    "causal metrics".

    Parameters
    ----------
    image : (3, H, W) float tensor
        Normalized, so that zero is the mean color.
    values : (H, W) float tensor
        The map. Pixels of equal value are replaced in reading order.
    steps : int

    Returns
    -------
    (steps + 1, 3, H, W) float tensor
        The image with shares 0, 1 / steps, ..., 1 of its pixels replaced.
    """
    return torch.where(_first_pixels(values, steps), torch.zeros_like(image), image)


def insertion_images(image: Tensor, values: Tensor, steps: int) -> Tensor:
    """Insert growing parts of an image into its blurred copy, highest map values first.

    Parameters and result are those of :func:`deletion_images`. The last item is the whole image.
    """
    deviation = BLUR * max(image.shape[1:])
    # The image is padded by reflection, which is limited to its side.
    kernel = [2 * min(round(2 * deviation), side - 1) + 1 for side in reversed(image.shape[1:])]
    blurred = gaussian_blur(image, kernel, [deviation])
    return torch.where(_first_pixels(values, steps), image, blurred)


def _first_pixels(values: Tensor, steps: int) -> Tensor:
    """Mark growing shares of the pixels, highest first, in (steps + 1, 1, H, W) bool masks."""
    order = values.flatten().argsort(descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    counts = torch.linspace(0, len(order), steps + 1, device=order.device).round()
    return (place < counts[:, None]).view(steps + 1, 1, *values.shape)


def curve_area(confidences: NDArray[np.floating]) -> float:
    """Compute the area under a deletion or insertion curve at evenly spaced shares in [0, 1].

    Examples
    --------
    >>> float(curve_area(np.array([1.0, 0.5, 0.0])))
    0.5
    """
    return float(np.trapezoid(confidences, dx=1 / (len(confidences) - 1)))


def drops(whole: NDArray[np.floating], explained: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the relative drop of the confidence for each pair of image and class.

    Chattopadhay et al. 2018, section 5.1: max(0, Y - O) / Y. The mean is the Average Drop.

    Parameters
    ----------
    whole, explained : (P,) float array
        Confidence in the class, in [0, 1], for the image (Y) and for its explanation (O).

    Returns
    -------
    (P,) float64 array
        Drops in [0, 1]; 0 if the confidence rises or was 0.

    Examples
    --------
    >>> drops(np.array([0.8, 0.5]), np.array([0.6, 0.9])).round(3).tolist()
    [0.25, 0.0]
    """
    lost = np.clip(np.asarray(whole, np.float64) - explained, 0, None)
    shares: NDArray[np.float64] = np.divide(
        lost, whole, out=np.zeros_like(lost), where=np.asarray(whole) > 0
    )
    return shares


def increase_share(whole: NDArray[np.floating], explained: NDArray[np.floating]) -> float:
    """Compute the share of pairs whose explanation raises the confidence (Increase)."""
    return float((np.asarray(explained) > np.asarray(whole)).mean())


def win_shares(lost: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the share of pairs on which each method loses the least confidence.

    Chattopadhay et al. 2018, section 5.1 (Win %), for any number of methods.

    Parameters
    ----------
    lost : (M, P) float array
        Drops of M methods on the same P pairs; P at least 1.

    Returns
    -------
    (M,) float64 array
        Shares. They sum to 1, since tied methods share a pair.
    """
    least = lost == lost.min(axis=0)
    shares: NDArray[np.float64] = (least / least.sum(axis=0)).mean(axis=1)
    return shares
