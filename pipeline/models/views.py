"""Views of an image as network inputs: scales, each with its mirror image."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.io.images import fitted_size, network_input, scaled_size
from pipeline.runtime.device import channels_last


def views_of(
    model: Any,
    image: NDArray[np.uint8],
    apply: Callable[[Tensor], Tensor],
    *,
    scales: Sequence[float],
    flip: bool,
    max_size: int | None,
) -> Iterator[Tensor]:
    """Yield the output of a network for each scale of an image and its mirror image.

    Parameters
    ----------
    model : nn.Module
        Images are prepared with its ``interpolation``, ``mean``, ``std`` and device.
    image : (H, W, 3) uint8 array
    apply : callable
        Maps (N, 3, h, w) images to (N, C, h', w').
    scales : sequence of float
        Factors on the image's size.
    flip : bool
        Also apply it to the mirrored image.
    max_size : int or None
        Long side that larger images are shrunk to before scaling.

    Yields
    ------
    (1 or 2, C, h', w') tensor
        Output of one scale. With ``flip``, the second item is the output of the mirrored image,
        mirrored back.
    """
    device = next(model.parameters()).device
    base = fitted_size((image.shape[0], image.shape[1]), max_size)
    for scale in scales:
        scaled = network_input(image, scaled_size(base, scale), model)
        batch = torch.from_numpy(scaled)[None].to(device)
        if flip:
            batch = torch.cat([batch, batch.flip(3)])
        found = apply(channels_last(batch))
        yield torch.cat([found[:1], found[1:].flip(3)]) if flip else found
