"""Faithfulness of class maps: confidences of a classifier on images that a map changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.io.arrays import ClassMaps
from pipeline.metrics.faithfulness import (
    curve_area,
    deletion_images,
    explanation_images,
    insertion_images,
)
from pipeline.models.classifier import CamClassifier
from pipeline.models.views import Views
from pipeline.refinement.labels import upsampled
from pipeline.runtime.device import channels_last

#: Functions from (N, C) logits to confidences, by name.
CONFIDENCES = {"sigmoid": torch.sigmoid, "softmax": lambda logits: logits.softmax(dim=1)}
#: Pixels in one forward pass. Memory grows with them.
PIXELS_AT_ONCE = 2**22


@dataclass(frozen=True)
class FaithfulnessPair:
    """The faithfulness of one class map of one image.

    Attributes
    ----------
    id, label : str
        Image and class.
    whole, explained : float
        Confidence in the class on the image, and on the image multiplied with the map.
    deletion, insertion : float or None
        Areas under the curves; None if they are not computed.
    """

    id: str
    label: str
    whole: float
    explained: float
    deletion: float | None
    insertion: float | None


@dataclass(frozen=True)
class FaithfulnessEvaluator:
    """Evaluates the class maps of one image after another.

    Attributes
    ----------
    model : CamClassifier
        In evaluation mode.
    confidence : {"sigmoid", "softmax"}
        Function that turns scores into confidences.
    steps : int
        Steps of the deletion and insertion curves; 0 for no curves.
    max_size : int or None
        Long side that larger images are shrunk to.
    """

    model: CamClassifier
    confidence: str
    steps: int
    max_size: int | None

    @torch.no_grad()
    def __call__(
        self, image_id: str, pixels: NDArray[np.uint8], maps: ClassMaps, classes: Sequence[str]
    ) -> list[FaithfulnessPair]:
        """Evaluate all class maps of an image; ``classes`` are the names of all classes."""
        image = Views(max_size=self.max_size).batch(self.model, pixels)[0]
        size = (image.shape[1], image.shape[2])
        values = torch.stack([_resized(full, size) for full in upsampled(maps)]).to(image.device)
        indices = torch.from_numpy(maps.classes - 1).to(image.device)
        explanations = explanation_images(
            image.expand(len(indices), *image.shape), values, self.model.mean, self.model.std
        )
        confidences = self._confidences(torch.cat([image[None], explanations]))[:, indices]
        return [
            FaithfulnessPair(
                image_id,
                classes[int(number)],
                float(confidences[0, index]),
                float(confidences[1 + index, index]),
                *self._areas(image, values[index], int(number)),
            )
            for index, number in enumerate(indices)
        ]

    def _areas(
        self, image: Tensor, values: Tensor, number: int
    ) -> tuple[float, float] | tuple[None, None]:
        """Return the areas under the deletion and insertion curves of one class."""
        if not self.steps:
            return None, None
        deleted = deletion_images(image, values, self.steps)
        inserted = insertion_images(image, values, self.steps)
        curves = [self._confidences(part)[:, number] for part in (deleted, inserted)]
        deletion, insertion = (curve_area(curve.cpu().numpy()) for curve in curves)
        return deletion, insertion

    def _confidences(self, images: Tensor) -> Tensor:
        """Return the (N, C) confidences of images."""
        batch_size = max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
        parts = [self.model(channels_last(part)).logits for part in images.split(batch_size)]  # type: ignore[no-untyped-call]
        confidences: Tensor = CONFIDENCES[self.confidence](torch.cat(parts).float())
        return confidences


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> Tensor:
    """Resize a map to (height, width) by area averaging."""
    height, width = size
    small = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small)
