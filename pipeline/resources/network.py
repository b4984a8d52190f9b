"""A network as the cost of jobs sees it: its settings, and its operations."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Side of the square that operations are counted on.
PROBE = 256
#: Operations of the backward pass through trained layers, relative to the forward pass.
BACK = 2


@dataclass(frozen=True)
class Network:
    """All settings that the cost of a network depends on.

    Attributes
    ----------
    backbone : str
        A timm model name.
    output_stride : int, optional
        None: 16, or the backbone's own.
    decoder : {"separable", "full"}, optional
        Decoder of :class:`pipeline.models.segmentation_network.SegmentationNetwork`. None: the
        network is a classifier.
    architecture : str, optional
        Architecture of a segmentation network.
    architecture_options : str, optional
        Further arguments of the architecture, as JSON.
    last_layer : str or tuple of str, optional
        Last layers of the backbone, see :func:`pipeline.models.backbone.create_backbone`.
    frozen : tuple of str
        Frozen modules. They have to be the first ones, so that no gradient passes them.
    """

    backbone: str
    output_stride: int | None = None
    decoder: str | None = None
    architecture: str | None = None
    last_layer: str | tuple[str, ...] | None = None
    frozen: tuple[str, ...] = ()
    architecture_options: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Network":
        """Return the network of a section of the configuration.

        Parameters
        ----------
        settings : mapping
            An entry of ``classifiers``, or the section ``segmentation``, which has a decoder.
        """
        last = settings.get("last_layer")
        options = settings.get("architecture_options")
        return cls(
            settings["backbone"],
            settings["output_stride"],
            settings.get("decoder"),
            settings.get("architecture"),
            tuple(last) if isinstance(last, list) else last,
            tuple(settings.get("frozen", ())),
            json.dumps(options, sort_keys=True) if options else None,
        )

    @property
    def name(self) -> str:
        """The backbone without the tag of its weights: resnet50 of resnet50.tv_in1k."""
        return self.backbone.split(".")[0]


@dataclass(frozen=True)
class Operations:
    """Operations of a network for each pixel of its input. They are twice the multiply-adds.

    Attributes
    ----------
    forward : float
        Operations of a forward pass of the whole network.
    learning : float
        Operations of those modules that are not frozen.
    parameters : int
        Number of parameters of the whole network.
    channels : int
        Number of output channels: those of the features for the network of a classifier.
    stride : float
        Pixels of the input per cell of the output, along one side.
    attention : float
        Operations of a forward pass for each pair of pixels of its input: attention compares all
        tokens of an image. They are not among ``forward``.
    learning_attention : float
        Those of modules that are not frozen.
    """

    forward: float
    learning: float
    parameters: int
    channels: int
    stride: float
    attention: float = 0.0
    learning_attention: float = 0.0

    def inference(self, pixels: float, pairs: float) -> float:
        """Return the operations of forward passes over so many pixels and pairs of pixels."""
        return self.forward * pixels + self.attention * pairs

    def training(self, pixels: float, pairs: float) -> float:
        """Return the operations of training steps: forward, and backward through what learns."""
        learned = self.learning * pixels + self.learning_attention * pairs
        return self.inference(pixels, pairs) + BACK * learned
