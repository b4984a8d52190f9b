"""Applying a segmentation network to one image, over scales and flips."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.device import channels_last
from pipeline.images import fitted_size, normalise, resize, scaled_size
from pipeline.models.segmenter import Segmenter


@torch.no_grad()
def class_probabilities(
    model: Segmenter,
    image: NDArray[np.uint8],
    *,
    scales: Sequence[float],
    flip: bool,
    max_size: int | None,
) -> NDArray[np.float32]:
    """Average a segmentation network's class probabilities over scales and flips.

    Parameters
    ----------
    model : Segmenter
        In evaluation mode.
    image : (H, W, 3) uint8 array
    scales : sequence of float
        Factors on the image's size.
    flip : bool
        Also average over the mirrored image.
    max_size : int or None
        Long side that larger images are shrunk to before scaling.

    Returns
    -------
    (C, H, W) float32 array
        Probabilities at the image's full resolution, background first; they sum to 1.
    """
    size = (image.shape[0], image.shape[1])
    device = next(model.parameters()).device
    fused: list[torch.Tensor] = []
    for scale in scales:
        scaled = resize(image, scaled_size(fitted_size(size, max_size), scale))
        batch = torch.from_numpy(normalise(scaled, model.mean, model.std))[None].to(device)
        if flip:
            batch = torch.cat([batch, batch.flip(3)])
        probabilities = model(channels_last(batch)).float().softmax(dim=1)
        if flip:
            probabilities = (probabilities[:1] + probabilities[1:].flip(3)) / 2
        full = F.interpolate(probabilities, size, mode="bilinear", align_corners=False)
        fused.append(full[0])
    return torch.stack(fused).mean(dim=0).cpu().numpy()
