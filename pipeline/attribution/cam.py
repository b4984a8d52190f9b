"""Class activation maps (Zhou et al. 2016)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.classifier import CamClassifier


@torch.no_grad()
def cam(model: CamClassifier, images: Tensor, classes: Tensor) -> Tensor:
    """Return the positive part of the class activation maps of some classes.

    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", eq. 2: the
    features weighted by the class layer. The network's 1x1 class convolution computes this sum.

    Parameters
    ----------
    model : CamClassifier
        In evaluation mode.
    images : (N, 3, H, W) float tensor
        Normalized images.
    classes : (K,) int64 tensor
        Class indices from 0.

    Returns
    -------
    (N, K, h, w) float tensor
        Non-negative maps at the output stride of the backbone.
    """
    maps: Tensor = model(images).maps
    return maps[:, classes].float().relu()


@torch.no_grad()
def cam_of_features(model: CamClassifier, features: Tensor, classes: Tensor) -> Tensor:
    """Return the maps of :func:`cam` from features of the backbone.

    Parameters
    ----------
    model : CamClassifier
    features : (N, F, h, w) float32 tensor
    classes : (K,) int64 tensor
        Class indices from 0.

    Returns
    -------
    (N, K, h, w) float32 tensor
    """
    return F.conv2d(features, model.head.weight[classes]).relu()
