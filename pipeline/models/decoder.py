"""The decoder of DeepLabV3+ with full convolutions, as in Puzzle-CAM's published code."""

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPP
from torch import Tensor, nn
from torch.nn import functional as F

#: Channels of the decoder, and channels of the encoder's features at stride 4 after reduction.
CHANNELS, FINE_CHANNELS = 256, 48
#: Index of the features at stride 4 among the encoder's features of strides 1 to 32.
FINE = 2


class FullDeepLab(nn.Module):
    """DeepLabV3+ with full convolutions, for images of any size.

    Parts have the same names as in the network of segmentation-models-pytorch. That network
    has separable convolutions, and its feature sizes must differ by whole factors.

    Parameters
    ----------
    backbone : str
        A timm model name.
    classes : int
        Number of classes with the background.
    output_stride : int
        Pixels per cell of the encoder's last feature map, 8 or 16.
    atrous_rates : sequence of three int
        Dilation rates of the parallel convolutions after the encoder.
    """

    def __init__(
        self, backbone: str, classes: int, output_stride: int, atrous_rates: Sequence[int]
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            f"tu-{backbone}", weights=None, output_stride=output_stride
        )
        self.decoder = FullDecoder(self.encoder.out_channels, atrous_rates)
        self.segmentation_head = nn.Conv2d(CHANNELS, classes, 1)
        for part in [*self.decoder.modules(), self.segmentation_head]:
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) normalized images to (N, classes, H, W) logits."""
        logits = self.segmentation_head(self.decoder(self.encoder(images)))
        return _resized(logits, images)


class FullDecoder(nn.Module):
    """Atrous spatial pyramid pooling, and two 3x3 convolutions at stride 4.

    Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
    Segmentation", figure 2, with the dropout and the ASPP of DeepLabV3.

    Parameters
    ----------
    channels : sequence of int
        Channels of the encoder's features at each stride.
    atrous_rates : sequence of three int
    """

    def __init__(self, channels: Sequence[int], atrous_rates: Sequence[int]) -> None:
        super().__init__()
        self.aspp = ASPP(channels[-1], CHANNELS, atrous_rates, separable=False, dropout=0.5)
        self.fine = _convolution(channels[FINE], FINE_CHANNELS, size=1)
        self.fused = nn.Sequential(
            *_convolution(CHANNELS + FINE_CHANNELS, CHANNELS, size=3),
            nn.Dropout(0.5),
            *_convolution(CHANNELS, CHANNELS, size=3),
            nn.Dropout(0.1),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features of strides 1 to 32 to (N, 256, h, w) features at stride 4."""
        fine = self.fine(features[FINE])
        coarse = _resized(self.aspp(features[-1]), fine)
        fused: Tensor = self.fused(torch.cat([coarse, fine], dim=1))
        return fused


def _convolution(before: int, after: int, *, size: int) -> nn.Sequential:
    """Create a convolution with batch norm and ReLU."""
    convolution = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def _resized(values: Tensor, like: Tensor) -> Tensor:
    """Resize maps to the height and width of other maps, aligned at corner pixels."""
    return F.interpolate(values, like.shape[-2:], mode="bilinear", align_corners=True)
