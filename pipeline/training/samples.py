"""Training samples: a decoded, augmented image with its target."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from pipeline.datasets.manifest import Manifest, Record
from pipeline.datasets.masks import Mask
from pipeline.io.arrays import read_made_label
from pipeline.io.images import read_rgb
from pipeline.runtime.progress import progress
from pipeline.training.augmentation import as_image, as_mask, seeded

#: File of a pseudo-label, or the ground-truth mask that an upper bound learns instead.
TrainingLabel = Path | Mask


class LabeledImages:
    """Images with their image-level labels.

    Parameters
    ----------
    manifest : Manifest
    records : sequence of Record
        The images.
    transform : v2.Transform
        Random augmentation.
    """

    def __init__(
        self, manifest: Manifest, records: Sequence[Record], transform: v2.Transform
    ) -> None:
        self.records = records
        self.targets = torch.from_numpy(manifest.targets(records))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def sample(self, index: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return a (3, crop, crop) float32 image and its (C,) float32 labels."""
        image = as_image(read_rgb(self.records[index].image))
        return seeded(self.transform, seed, image).as_subclass(Tensor), self.targets[index]


class SegmentedImages:
    """Images with their pseudo-labels or masks.

    Parameters
    ----------
    records : sequence of Record
        The images.
    labels : mapping of str to Path or Mask
        Label image of each record, by id. Pixels of the value 255 have no label.
    transform : v2.Transform
        Random augmentation of image and label together.
    """

    def __init__(
        self,
        records: Sequence[Record],
        labels: Mapping[str, TrainingLabel],
        transform: v2.Transform,
    ) -> None:
        self.records = records
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def sample(self, index: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return a (3, crop, crop) float32 image and its (crop, crop) int64 label image."""
        record = self.records[index]
        image = read_rgb(record.image)
        label = _read_label(self.labels[record.id], (image.shape[0], image.shape[1]))
        image, mask = seeded(self.transform, seed, as_image(image), as_mask(label))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor).long()


def read_labels(labels: Collection[TrainingLabel], what: str) -> Iterator[NDArray[np.uint8]]:
    """Yield the (H, W) label images of training samples, and log the progress of ``what``."""
    return map(_read_label, progress(labels, total=len(labels), what=what))


def _read_label(label: TrainingLabel, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    return label.read(size) if isinstance(label, Mask) else read_made_label(label, size)
