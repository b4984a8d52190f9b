"""Showing a classifier what a map holds important, and asking what it still recognizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.io.arrays import ClassMaps
from pipeline.io.images import fitted_size, network_input
from pipeline.metrics.faithfulness import (
    curve_area,
    deletion_images,
    explanation_images,
    insertion_images,
)
from pipeline.models.classifier import CamClassifier
from pipeline.refinement.labels import upsampled
from pipeline.runtime.device import channels_last

#: Confidences from (N, C) logits, by name.
CONFIDENCES = {"sigmoid": torch.sigmoid, "softmax": lambda logits: logits.softmax(dim=1)}
#: Pixels that pass the network together: memory grows with them.
PIXELS_AT_ONCE = 2**22


@dataclass(frozen=True)
class JudgedPair:
    """One class of one image: confidences, and areas under the curves (None without them)."""

    id: str
    label: str
    whole: float
    explained: float
    deletion: float | None
    insertion: float | None


@dataclass(frozen=True)
class Judge:
    """Judges the maps of one image after another.

    Attributes
    ----------
    model : CamClassifier
        In evaluation mode.
    confidence : {"sigmoid", "softmax"}
        What a score becomes.
    steps : int
        Of the deletion and insertion curves; 0 for none.
    max_size : int or None
        Long side that larger images are shrunk to.
    """

    model: CamClassifier
    confidence: str
    steps: int
    max_size: int | None

    @torch.no_grad()
    def __call__(
        self, image_id: str, photograph: NDArray[np.uint8], maps: ClassMaps, classes: Sequence[str]
    ) -> list[JudgedPair]:
        """Judge the map of every class of an image; ``classes`` are the names of all."""
        size = fitted_size((photograph.shape[0], photograph.shape[1]), self.max_size)
        scaled = network_input(photograph, size, self.model)
        device = next(self.model.parameters()).device
        image = torch.from_numpy(scaled).to(device)
        values = torch.stack([_resized(full, size) for full in upsampled(maps)]).to(device)
        own = torch.from_numpy(maps.classes - 1).to(device)
        hidden = explanation_images(
            image.expand(len(own), *image.shape), values, self.model.mean, self.model.std
        )
        confidences = self._confidences(torch.cat([image[None], hidden]))[:, own]
        return [
            JudgedPair(
                image_id,
                classes[int(number)],
                float(confidences[0, index]),
                float(confidences[1 + index, index]),
                *self._areas(image, values[index], int(number)),
            )
            for index, number in enumerate(own)
        ]

    def _areas(
        self, image: Tensor, values: Tensor, number: int
    ) -> tuple[float, float] | tuple[None, None]:
        if not self.steps:
            return None, None
        deleted = deletion_images(image, values, self.steps)
        inserted = insertion_images(image, values, self.steps)
        curves = [self._confidences(part)[:, number] for part in (deleted, inserted)]
        deletion, insertion = (curve_area(curve.cpu().numpy()) for curve in curves)
        return deletion, insertion

    def _confidences(self, images: Tensor) -> Tensor:
        together = max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
        parts = [self.model(channels_last(part)).logits for part in images.split(together)]  # type: ignore[no-untyped-call]
        confidences: Tensor = CONFIDENCES[self.confidence](torch.cat(parts).float())
        return confidences


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> Tensor:
    height, width = size
    small = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small)
