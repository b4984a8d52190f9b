"""Attribution methods: class maps from a classifier.

A method is a function of a classifier, a batch of images and class indices. It returns one map
of non-negative evidence for each image and class. Settings of a method are keyword arguments.
"""

from collections.abc import Callable

from torch import Tensor

from pipeline.attribution.cam import cam
from pipeline.attribution.grad_cam import grad_cam, grad_cam_pp
from pipeline.attribution.saliency import saliency
from pipeline.models.classifier import CamClassifier

#: Maps (model, (N, 3, H, W) images, (K,) classes from 0) to (N, K, h, w) non-negative maps.
Attribution = Callable[[CamClassifier, Tensor, Tensor], Tensor]

#: Methods by their name in the configuration.
METHODS: dict[str, Callable[..., Tensor]] = {
    "cam": cam,
    "grad-cam": grad_cam,
    "grad-cam-pp": grad_cam_pp,
    "saliency": saliency,
}
