"""Views of an image as network inputs: scales, each with its mirror image."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.io.images import fitted_size, network_input, scaled_size
from pipeline.runtime.device import channels_last


@dataclass(frozen=True)
class Views:
    """The views of an image that a network is applied to. The default is the image itself.

    Attributes
    ----------
    scales : tuple of float
        Factors on the image's size.
    flip : bool
        Whether each scale has a second view, the mirror image.
    max_size : int or None
        Long side in pixels that larger images are shrunk to before scaling; None for no limit.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    max_size: int | None = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Views":
        """Create views from a section of the configuration; a key that it lacks has its default."""
        return cls(
            tuple(settings.get("scales", cls.scales)),
            settings.get("flip", cls.flip),
            settings.get("max_size", cls.max_size),
        )

    @property
    def count(self) -> int:
        """Number of views of an image."""
        return len(self.scales) * (1 + self.flip)

    def input_size(self, size: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """Return (height, width) of the network's input for an image of a size, at a scale."""
        return scaled_size(fitted_size(size, self.max_size), scale)

    def batch(self, model: Any, image: NDArray[np.uint8], scale: float = 1.0) -> Tensor:
        """Return the views of an image at one scale, as an input of a network.

        Parameters
        ----------
        model : nn.Module
            Images are prepared with its ``interpolation``, ``mean``, ``std`` and device.
        image : (H, W, 3) uint8 array
        scale : float
            Factor on the image's size.

        Returns
        -------
        (1 or 2, 3, h, w) float32 tensor
            The image and, with ``flip``, its mirror image. On the model's device.
        """
        size = self.input_size((image.shape[0], image.shape[1]), scale)
        device = next(model.parameters()).device
        batch = torch.from_numpy(network_input(image, size, model))[None].to(device)
        return torch.cat([batch, batch.flip(3)]) if self.flip else batch

    def aligned(self, outputs: Tensor) -> Tensor:
        """Mirror the output of the mirror image back.

        Parameters
        ----------
        outputs : (1 or 2, ..., w) tensor
            Outputs of a network for :meth:`batch`.
        """
        return torch.cat([outputs[:1], outputs[1:].flip(-1)]) if self.flip else outputs

    def outputs(
        self, model: Any, image: NDArray[np.uint8], apply: Callable[[Tensor], Tensor]
    ) -> Iterator[Tensor]:
        """Yield the aligned outputs of a network for each scale of an image.

        Parameters
        ----------
        model, image
            See :meth:`batch`.
        apply : callable
            Maps (N, 3, h, w) images to (N, C, h', w').

        Yields
        ------
        (1 or 2, C, h', w') tensor
            Output of one scale. With ``flip``, the second item is the output of the mirror image,
            mirrored back.
        """
        for scale in self.scales:
            yield self.aligned(apply(channels_last(self.batch(model, image, scale))))
