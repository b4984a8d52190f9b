"""Segmentation architectures of segmentation-models-pytorch with timm backbones.

Pavel Iakubovskii, "Segmentation Models Pytorch", https://github.com/qubvel-org/segmentation_models.pytorch.
"""

import inspect
import warnings
from collections.abc import Mapping
from math import lcm
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from torch import nn

from pipeline.errors import UserError
from pipeline.models.backbone import has_output_stride
from pipeline.models.grid import find_grid

#: Architectures by their name in the configuration, other than DeepLabV3+.
ARCHITECTURES: dict[str, Any] = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "manet": smp.MAnet,
    "linknet": smp.Linknet,
    "fpn": smp.FPN,
    "pspnet": smp.PSPNet,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
    "dpt": smp.DPT,
}
DEEPLAB = "deeplabv3plus"
#: Arguments of an architecture that the pipeline sets.
OWN = {"self", "encoder_name", "encoder_weights", "in_channels", "classes", "kwargs"}
OWN |= {"activation", "aux_params", "upsampling"}
#: Decoders double the resolution five times.
FACTOR = 32
#: Stride that DPT's decoder is built for, whatever the side of the patches.
DPT_STRIDE = 16


def default_architecture(backbone: str) -> str:
    """Return the architecture for a backbone if the configuration names none.

    Returns
    -------
    str
        DeepLabV3+ for networks whose output stride can be set, DPT (Ranftl, Bochkovskiy and Koltun
        2021, "Vision Transformers for Dense Prediction") for plain transformers, and UPerNet (Xiao
        et al. 2018, "Unified Perceptual Parsing for Scene Understanding") for all others.
    """
    if has_output_stride(backbone):
        return DEEPLAB
    return "dpt" if is_plain(backbone) else "upernet"


def is_plain(backbone: str) -> bool:
    """Return whether all stages of a network have the same stride."""
    reductions = find_grid(backbone).reductions
    return len(reductions) > 1 and len(set(reductions)) == 1


def check_options(architecture: str, options: Mapping[str, Any]) -> None:
    """Check the names of options of an architecture.

    Raises
    ------
    UserError
        If the architecture has no option of a name.
    """
    known = set(inspect.signature(ARCHITECTURES[architecture].__init__).parameters) - OWN
    for name in options:
        if name not in known:
            raise UserError(
                f"architecture_options has {name!r}, expected options of {architecture} in "
                f"segmentation-models-pytorch: {', '.join(sorted(known))}"
            )


def create_architecture(
    architecture: str, backbone: str, classes: int, options: Mapping[str, Any]
) -> tuple[nn.Module, int]:
    """Create a segmentation network of segmentation-models-pytorch, with random weights.

    Parameters
    ----------
    architecture : str
        A key of :data:`ARCHITECTURES`.
    backbone : str
        A timm model name.
    classes : int
        Number of classes with the background.
    options : mapping
        Further arguments of the architecture.

    Returns
    -------
    network : nn.Module
    multiple : int
        Sides of images must be a multiple of this number of pixels.

    Raises
    ------
    UserError
        If the architecture does not support the backbone or an option.
    """
    check_options(architecture, options)
    arguments, multiple = _encoder(backbone)
    if architecture == "dpt":
        arguments |= {"num_classes": 0}
    elif is_plain(backbone):
        raise UserError(
            f"architecture is {architecture}, expected dpt for {backbone}: all its blocks have the "
            "same stride"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about prefix tokens
            network = ARCHITECTURES[architecture](
                encoder_name=f"tu-{backbone}",
                encoder_weights=None,
                classes=classes,
                **options,
                **arguments,
            )
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"architecture {architecture} with {backbone} and {dict(options)}: {error}"
        ) from error
    if architecture == "dpt":
        _use_patches(network, options)
    return network, multiple


def _encoder(backbone: str) -> tuple[dict[str, Any], int]:
    """Return arguments of timm for images of any size, and the multiple that images need."""
    grid = find_grid(backbone)
    arguments = {key: value for key, value in grid.arguments.items() if key != "global_pool"}
    # DPT halves the grid of patches once.
    factor = 2 * grid.stride if is_plain(backbone) else FACTOR
    return arguments, lcm(factor, grid.multiple)


def _use_patches(network: Any, options: Mapping[str, Any]) -> None:
    """Rebuild DPT's decoder for the stride that it is built for, in place.

    The side of a patch decides only by how much the output is enlarged at the end.
    """
    encoder = network.encoder
    if encoder.output_stride == DPT_STRIDE:
        return
    made = inspect.signature(smp.DPT.__init__).bind_partial(**options)
    made.apply_defaults()
    network.decoder = DPTDecoder(
        encoder_out_channels=encoder.out_channels,
        encoder_output_strides=[DPT_STRIDE] * len(encoder.out_channels),
        encoder_has_prefix_tokens=encoder.has_prefix_tokens,
        readout=made.arguments["decoder_readout"],
        intermediate_channels=made.arguments["decoder_intermediate_channels"],
        fusion_channels=made.arguments["decoder_fusion_channels"],
    )
    network.initialize()
