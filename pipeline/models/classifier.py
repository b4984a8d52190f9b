"""A multi-label classifier whose class scores are pooled class maps (CAM as a layer)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.io.arrays import read_network, write_weights
from pipeline.io.images import FILTER, interpolation_of
from pipeline.models.adl import insert_adl
from pipeline.models.backbone import (
    create_backbone,
    find_stride,
    initialize_backbone,
    normalization,
    restore,
)

#: Settings that a classifier is rebuilt from.
KEYS = (
    "backbone", "output_stride", "dilation", "last_layer", "pooling", "bias", "classes",
    "interpolation",
)  # fmt: skip


class ClassScores(NamedTuple):
    """Output of :class:`CamClassifier`.

    Attributes
    ----------
    logits : (N, C) float tensor
        One unnormalized score per class.
    maps : (N, C, h, w) float tensor
        Class maps before ReLU; pooling them gives the logits.
    """

    logits: Tensor
    maps: Tensor


class CamClassifier(nn.Module):
    """Backbone, 1x1 class convolution and global pooling.

    With average pooling the class maps are the class activation maps of Zhou et al. 2016
    ("Learning Deep Features for Discriminative Localization", eq. 2): a linear layer on
    pooled features equals the pooled 1x1 convolution of the features. Maximum pooling is
    that paper's comparison (Oquab et al. 2015).

    Parameters
    ----------
    backbone : nn.Module
        A timm network (:func:`pipeline.models.backbone.create_backbone`).
    classes : int
        Number of classes without the background.
    pooling : {"gap", "gmp"}
        Global average or maximum pooling.
    bias : bool
        Add a constant to the pooled score of each class. The maps do not include it, as in the
        paper.
    adl : mapping, optional
        Arguments of :func:`pipeline.models.adl.insert_adl`.
    interpolation : {"bilinear", "bicubic"}
        Filter that images are resized with, in training and inference.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        pooling: str = "gap",
        *,
        bias: bool = False,
        adl: Mapping[str, Any] | None = None,
        interpolation: str = FILTER,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(int(backbone.num_features), classes, 1, bias=False)  # type: ignore[arg-type]
        self.bias = nn.Parameter(torch.zeros(classes)) if bias else None
        self.adl = insert_adl(backbone, **adl) if adl else None
        self.pooling = pooling
        self.mean, self.std = normalization(backbone)
        self.interpolation = interpolation

    @property
    def class_layer(self) -> nn.Module:
        """The part without pretrained weights: the class convolution and the constant."""
        layer = nn.Module()
        layer.add_module("convolution", self.head)
        layer.register_parameter("constant", self.bias)
        return layer

    def forward(self, images: Tensor) -> ClassScores:
        """Map (N, 3, H, W) normalized images to class scores and class maps."""
        maps = self.head(self.backbone.forward_features(images))  # type: ignore[operator]
        return ClassScores(self.pool(maps), maps)

    def pool(self, maps: Tensor) -> Tensor:
        """Pool (N, C, h, w) class maps to (N, C) logits."""
        pooled = maps.mean(dim=(2, 3)) if self.pooling == "gap" else maps.amax(dim=(2, 3))
        return pooled if self.bias is None else pooled + self.bias


def create_classifier(
    settings: Mapping[str, Any], classes: int, weights: Path | None = None
) -> CamClassifier:
    """Create a classifier from its section of the configuration.

    Parameters
    ----------
    settings : mapping
        Keys ``backbone``, ``pretrained``, ``output_stride`` and ``pooling``, and optionally
        ``dilation``, ``last_layer``, ``bias``, ``adl``, ``augmentation`` or ``interpolation``, and
        ``class_layer_init``: ``"uniform"`` (PyTorch's) or ``"he"`` (He et al. 2015, "Delving Deep
        into Rectifiers", eq. 10: normal distribution with variance 2 / channels).
    classes : int
        Number of classes without the background.
    weights : Path, optional
        Pretrained backbone, needed where ``pretrained`` is true.

    Returns
    -------
    CamClassifier

    See Also
    --------
    continue_classifier : Starts from the weights of another classifier, including the class layer.
    """
    backbone = create_backbone(
        settings["backbone"],
        output_stride=settings["output_stride"],
        dilation=settings.get("dilation", True),
        last_layer=settings.get("last_layer"),
    )
    initialize_backbone(backbone, weights, pretrained=settings["pretrained"])
    adl = settings.get("adl")
    model = CamClassifier(
        backbone,
        classes,
        settings["pooling"],
        bias=settings.get("bias", False),
        adl={key: adl[key] for key in ("points", "threshold", "drop_rate")} if adl else None,
        interpolation=interpolation_of(settings),
    )
    if settings.get("class_layer_init") == "he":
        nn.init.kaiming_normal_(model.head.weight)
    return model


def create_probe(
    settings: Mapping[str, Any], classes: int, weights: Path | None, seed: int
) -> CamClassifier:
    """Create the network of a linear probe, whose class layer is not fitted yet.

    Parameters
    ----------
    settings : mapping
        An entry of the configuration's ``classifiers`` of kind ``linear-probe``.
    classes : int
        Number of classes without the background.
    weights : Path or None
        Pretrained backbone.
    seed : int
        Seed of the weights of a backbone without pretrained weights.
    """
    torch.manual_seed(seed)
    return create_classifier({**settings, "pooling": "gap"}, classes, weights)


def save_classifier(
    path: Path, state: Mapping[str, Tensor], settings: Mapping[str, Any], classes: int
) -> None:
    """Write the state of a classifier and the settings that it is rebuilt from.

    Dropout layers are left out: they have no parameters and do nothing in inference.
    """
    backbone = settings["backbone"]
    description = {
        "backbone": backbone,
        # The number, so that the file means the same with a later version of timm.
        "output_stride": find_stride(backbone, settings["output_stride"]),
        "pooling": settings["pooling"],
        "dilation": settings.get("dilation", True),
        "last_layer": settings.get("last_layer"),
        "bias": "bias" in state,
        "classes": classes,
        "interpolation": interpolation_of(settings),
    }
    write_weights(path, state, description)


def continue_classifier(settings: Mapping[str, Any], classes: int, path: Path) -> CamClassifier:
    """Create a classifier with the weights of another classifier, including the class layer.

    Parameters
    ----------
    settings : mapping
        See :func:`create_classifier`. The backbone must be that of the other classifier.
    classes : int
        Number of classes without the background.
    path : Path
        File that :func:`save_classifier` wrote.

    Raises
    ------
    UserError
        If the weights do not fit these settings.
    """
    state, description = read_network(path, KEYS)
    return _rebuilt({**settings, "bias": description["bias"]}, classes, state, path)


def load_classifier(path: Path) -> CamClassifier:
    """Read a classifier that :func:`save_classifier` wrote, in evaluation mode."""
    state, description = read_network(path, KEYS)
    return _rebuilt(description, description["classes"], state, path).eval()


def _rebuilt(
    settings: Mapping[str, Any], classes: int, state: Mapping[str, Tensor], path: Path
) -> CamClassifier:
    """Create a classifier and load its state."""
    model = create_classifier({**settings, "pretrained": False}, classes)
    restore(model, state, path)
    return model
