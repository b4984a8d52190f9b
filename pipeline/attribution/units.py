"""Class-specific units (Zhou et al. 2016, section 5): the most important features of each class.

A unit is a channel of the features before the class layer. The units with the highest weights
are evidence for a class. The images with the highest activations show what a unit detects.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from pipeline.models.classifier import CamClassifier


def class_units(model: CamClassifier, count: int) -> tuple[Tensor, Tensor]:
    """Select the units with the highest weights for each class.

    Parameters
    ----------
    model : CamClassifier
    count : int
        Largest number of units for each class.

    Returns
    -------
    units : (C, count) int64 tensor
        Highest weight first.
    weights : (C, count) float tensor
    """
    weights = model.head.weight.detach().flatten(1).float()
    found = weights.topk(min(count, weights.shape[1]), dim=1)
    return found.indices.cpu(), found.values.cpu()


@torch.no_grad()
def unit_maps(model: CamClassifier, image: Tensor, units: Tensor) -> Tensor:
    """Compute the activation maps of some units.

    Parameters
    ----------
    model : CamClassifier
        In evaluation mode.
    image : (1, 3, H, W) float tensor
        Normalized.
    units : (U,) int64 tensor

    Returns
    -------
    (U, h, w) float tensor
        Activations, on the CPU.
    """
    features: Tensor = model.backbone.forward_features(image)  # type: ignore[operator]
    return features[0, units.to(features.device)].float().cpu()


def most_active_images(activations: Iterable[Tensor], count: int) -> Tensor:
    """Select the images with the highest activations of each unit.

    Parameters
    ----------
    activations : iterable of (U,) float tensor
        The mean activation of each unit, for each image. This is the input of the class layer
        with average pooling. Maxima would often be equal, since many networks bound their
        activations (ReLU6).
    count : int
        Largest number of images for each unit.

    Returns
    -------
    (U, count) int64 tensor
        Positions of the images, highest activation first.

    Examples
    --------
    >>> means = [torch.tensor([1.0, 5.0]), torch.tensor([3.0, 4.0])]
    >>> most_active_images(iter(means), 1).tolist()  # the image of the highest mean, for each unit
    [[1], [0]]
    """
    table = torch.stack(list(activations))
    ranked = table.argsort(dim=0, descending=True, stable=True)
    return ranked[:count].T
