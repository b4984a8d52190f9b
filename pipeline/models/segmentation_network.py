"""The segmentation network: DeepLabV3+ (Chen et al. 2018), or another architecture, on timm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.io.arrays import read_network, write_weights
from pipeline.io.images import FILTER, interpolation_of
from pipeline.models.architectures import DEEPLAB, create_architecture, default_architecture
from pipeline.models.backbone import (
    STRIDE,
    create_backbone,
    has_output_stride,
    initialize_backbone,
    normalization,
    require_known,
    restore,
)
from pipeline.models.decoder import FullDeepLab
from pipeline.models.strides import remove_dilation

#: Settings that a network is rebuilt from.
SHAPE = (
    "backbone", "architecture", "architecture_options", "output_stride", "dilation", "decoder",
    "atrous_rates", "decoder_norm",
)  # fmt: skip
#: Number of groups in group norm, as in the published code of Puzzle-CAM.
GROUPS = 4
#: Defaults of segmentation-models-pytorch.
ATROUS_RATES = (12, 24, 36)


class SegmentationNetwork(nn.Module):
    """An encoder and a decoder for images of any size.

    Parameters
    ----------
    backbone : str
        A timm model name.
    classes : int
        Number of classes with the background.
    output_stride : int, optional
        Pixels per cell of the encoder's last feature map: 8 or 16 (the default) with DeepLabV3+,
        and the encoder's own with other architectures.
    architecture : str, optional
        ``"deeplabv3plus"``, or a key of :data:`pipeline.models.architectures.ARCHITECTURES`. By
        default :func:`pipeline.models.architectures.default_architecture`. All parameters below
        are those of DeepLabV3+, except ``decoder_norm``.
    options : mapping, optional
        Further arguments of another architecture.
    dilation : bool
        See :func:`pipeline.models.backbone.create_backbone`.
    decoder : {"separable", "full"}
        Separable convolutions, as in segmentation-models-pytorch, or full ones
        (:class:`pipeline.models.decoder.FullDeepLab`).
    atrous_rates : sequence of three int
        Dilation rates of the parallel convolutions after the encoder. Chen et al. use 6, 12 and
        18 at an output stride of 16, and twice as much at 8.
    decoder_norm : {"batch", "group"}
        Normalization in the decoder.

    Raises
    ------
    UserError
        If the architecture cannot have the backbone, the output stride or an option.
    """

    #: Filter that images are resized with, in training and inference.
    interpolation = FILTER

    def __init__(
        self,
        backbone: str,
        classes: int,
        output_stride: int | None = None,
        *,
        architecture: str | None = None,
        options: Mapping[str, Any] | None = None,
        dilation: bool = True,
        decoder: str = "separable",
        atrous_rates: Sequence[int] = ATROUS_RATES,
        decoder_norm: str = "batch",
    ) -> None:
        super().__init__()
        require_known(backbone)
        architecture = architecture or default_architecture(backbone)
        self.network: Any
        if architecture == DEEPLAB:
            if not has_output_stride(backbone):
                raise UserError(
                    f"backbone {backbone}: deeplabv3plus needs an encoder whose output stride can "
                    f"be set, expected architecture {default_architecture(backbone)}, or a "
                    "backbone such as resnet50"
                )
            if options:
                raise UserError(
                    f"architecture_options has {', '.join(options)}, expected none: the settings "
                    "of deeplabv3plus are decoder, atrous_rates, output_stride and dilation"
                )
            # Reports an invalid stride with a better message than segmentation-models-pytorch.
            probe = create_backbone(backbone, output_stride=output_stride or STRIDE)
            make: Any = FullDeepLab if decoder == "full" else _separable
            self.network = make(backbone, classes, output_stride or STRIDE, atrous_rates)
            # The separable decoder upsamples by whole factors: it needs multiples of the strides.
            self.multiple = 1 if decoder == "full" else 32
        else:
            if output_stride is not None:
                raise UserError(
                    f"output_stride is {output_stride}, expected null: {architecture} has that of "
                    "its encoder"
                )
            with torch.device("meta"):  # only for its normalization
                probe = create_backbone(backbone)
            self.network, self.multiple = create_architecture(
                architecture, backbone, classes, options or {}
            )
        self.mean, self.std = normalization(probe)
        if not dilation:
            remove_dilation(self.encoder)
        if decoder_norm == "group":
            _use_group_norm(self.network.decoder)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) normalized images to (N, classes, H, W) logits."""
        height, width = images.shape[-2:]
        # Zero is the mean color.
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        padded = F.pad(images, padding)
        logits: Tensor = self.network(padded)
        if logits.shape[2:] != padded.shape[2:]:  # DPT, whose patches have another side
            logits = F.interpolate(logits, padded.shape[2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    @property
    def encoder(self) -> nn.Module:
        """The timm network, with timm's parameter names, or with ``_`` for some dots."""
        model: nn.Module = self.network.encoder.model
        return model.model if isinstance(model, FeatureGetterNet) else model


def _separable(
    backbone: str, classes: int, output_stride: int, atrous_rates: Sequence[int]
) -> nn.Module:
    """Create the DeepLabV3+ of segmentation-models-pytorch."""
    network: nn.Module = smp.DeepLabV3Plus(
        encoder_name=f"tu-{backbone}",
        encoder_weights=None,
        encoder_output_stride=output_stride,
        decoder_atrous_rates=tuple(atrous_rates),
        classes=classes,
    )
    return network


def create_segmentation_network(
    settings: Mapping[str, Any], classes: int, weights: Path | None = None
) -> SegmentationNetwork:
    """Create a segmentation network from its section of the configuration.

    Parameters
    ----------
    settings : mapping
        Keys ``backbone``, ``pretrained``, ``output_stride``, ``architecture``,
        ``architecture_options``, ``dilation``, ``decoder``, ``atrous_rates`` and ``decoder_norm``.
    classes : int
        Number of classes with the background.
    weights : Path, optional
        Pretrained backbone, needed where ``pretrained`` is true.
    """
    model = SegmentationNetwork(
        settings["backbone"],
        classes,
        settings["output_stride"],
        architecture=settings["architecture"],
        options=settings["architecture_options"],
        dilation=settings["dilation"],
        decoder=settings["decoder"],
        atrous_rates=settings["atrous_rates"],
        decoder_norm=settings["decoder_norm"],
    )
    initialize_backbone(model.encoder, weights, pretrained=settings["pretrained"])
    model.interpolation = interpolation_of(settings)
    return model


def save_segmentation_network(
    path: Path, state: Mapping[str, Tensor], settings: Mapping[str, Any], classes: int
) -> None:
    """Write the state of a segmentation network and the settings that it is rebuilt from."""
    backbone = settings["backbone"]
    # Names, so that the file means the same with later versions of the libraries.
    architecture = settings["architecture"] or default_architecture(backbone)
    stride = (settings["output_stride"] or STRIDE) if architecture == DEEPLAB else None
    description = {key: settings[key] for key in SHAPE} | {
        "architecture": architecture,
        "output_stride": stride,
        "classes": classes,
    }
    write_weights(path, state, description | {"interpolation": interpolation_of(settings)})


def load_segmentation_network(path: Path) -> SegmentationNetwork:
    """Read a network that :func:`save_segmentation_network` wrote, in evaluation mode."""
    state, description = read_network(path, (*SHAPE, "classes", "interpolation"))
    model = create_segmentation_network(description | {"pretrained": False}, description["classes"])
    restore(model, state, path)
    return model.eval()


def _use_group_norm(module: nn.Module) -> None:
    """Replace all batch norm inside a module by group norm."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(GROUPS, child.num_features))
        else:
            _use_group_norm(child)


def segmentation_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, ignore: int = 255
) -> Tensor:
    """Compute the mean cross entropy over all pixels that are not ignored; 0 if all are ignored.

    Parameters
    ----------
    logits : (N, C, H, W) float tensor
    labels : (N, H, W) int64 tensor
        Class numbers, or ``ignore``.
    weights : (C,) float32 tensor, optional
        Weight of the pixels of each class in the mean; 1 by default.
    """
    total = F.cross_entropy(logits.float(), labels, weights, ignore_index=ignore, reduction="sum")
    weight = labeled_weight(labels, weights, ignore)
    # If all pixels are ignored, the total is zero as well.
    return total / torch.where(weight > 0, weight, 1)


def labeled_weight(labels: Tensor, weights: Tensor | None = None, ignore: int = 255) -> Tensor:
    """Return the denominator of the mean in :func:`segmentation_loss` as a () tensor.

    It is the number of pixels that are not ignored, or the sum of their weights.
    """
    kept = labels != ignore
    return kept.sum() if weights is None else weights[labels[kept]].sum()
