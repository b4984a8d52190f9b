"""Attribution methods: from a classifier to per-class maps.

A method is a function of a classifier, a batch of images and the numbers of the wanted
classes, and gives one map of non-negative evidence per image and class. Its own settings are
keyword arguments.
"""

from collections.abc import Callable

from torch import Tensor

from pipeline.attribution.cam import cam
from pipeline.attribution.grad_cam import grad_cam, grad_cam_pp
from pipeline.attribution.saliency import saliency
from pipeline.models.classifier import CamClassifier

#: Maps (model, (N, 3, H, W) images, (K,) classes from 0) to (N, K, h, w) maps, not below zero.
Attribution = Callable[[CamClassifier, Tensor, Tensor], Tensor]

#: Methods by the name they have in the configuration.
METHODS: dict[str, Callable[..., Tensor]] = {
    "cam": cam,
    "grad-cam": grad_cam,
    "grad-cam-pp": grad_cam_pp,
    "saliency": saliency,
}
