"""Class-specific units (Zhou et al. 2016, section 5): which features speak for a class.

A unit is a channel of the features under the class layer. Those of the highest weight in a
class are its words for it; the pictures that excite a unit the most say what it stands for.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from pipeline.models.classifier import CamClassifier


def class_units(model: CamClassifier, count: int) -> tuple[Tensor, Tensor]:
    """Give the units of the highest weight in each class.

    Parameters
    ----------
    model : CamClassifier
    count : int
        Units of each class; at most as many as there are.

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
    """Give the activations of some units.

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
        On the CPU.
    """
    features: Tensor = model.backbone.forward_features(image)  # type: ignore[operator]
    return features[0, units.to(features.device)].float().cpu()


def most_exciting(activations: Iterable[Tensor], count: int) -> Tensor:
    """Rank images by how much they excite each unit.

    Parameters
    ----------
    activations : iterable of (U,) float tensor
        The mean of every unit's map, for each image: what average pooling hands on to the
        class layer. Maxima would tie, as many networks bound their activations (ReLU6).
    count : int
        Images of each unit; at most as many as there are.

    Returns
    -------
    (U, count) int64 tensor
        Positions of the images, strongest first.
    """
    table = torch.stack(list(activations))
    ranked = table.argsort(dim=0, descending=True, stable=True)
    return ranked[:count].T
