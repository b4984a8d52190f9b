"""Training images of published code and of this pipeline."""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.datasets.manifest import Manifest, Record
from pipeline.io.images import IMAGE_FORMATS, open_image
from pipeline.training.augmentation import training_transform
from pipeline.training.samples import LabeledImages

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Published values for crops of 512. They are scaled for other crops.
LONG_SIDES, CROP = (320, 640), 512
CLASSES = tuple(f"class {number}" for number in range(1, 21))


def long_sides(crop: int) -> list[int]:
    """Return the range of long sides for a crop."""
    return [side * crop // CROP for side in LONG_SIDES]


class PublishedImages(Dataset[tuple[Tensor, Tensor]]):
    """The published training set: Pillow resizes and mirrors, NumPy normalizes and crops."""

    def __init__(self, files: Sequence[Path], crop: int) -> None:
        self.files, self.crop = files, crop
        self.low, self.high = long_sides(crop)
        self.mean, self.std = np.array(MEAN, np.float32), np.array(STD, np.float32)
        manifest = manifest_of(files)
        self.targets = torch.from_numpy(manifest.targets(manifest.records))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a (3, crop, crop) float32 image and its (C,) float32 labels."""
        with open_image(self.files[index], IMAGE_FORMATS) as photograph:
            image = self._resized(photograph.convert("RGB"))
        if random.getrandbits(1):
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        values = (np.asarray(image, np.float32) / 255 - self.mean) / self.std
        cropped = self._cropped(values.astype(np.float32, copy=False)).transpose(2, 0, 1).copy()
        return torch.from_numpy(cropped), self.targets[index]

    def _resized(self, image: Image.Image) -> Image.Image:
        scale = random.randint(self.low, self.high) / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)

    def _cropped(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        frame = np.zeros((self.crop, self.crop, 3), np.float32)
        source, target = zip(*(self._span(side) for side in values.shape[:2]), strict=True)
        frame[target] = values[source]
        return frame

    def _span(self, side: int) -> tuple[slice, slice]:
        """Draw the position of a crop in an image, or of an image in a frame, along one side."""
        length, spare = min(side, self.crop), random.randint(0, abs(side - self.crop))
        inside, outside = slice(spare, spare + length), slice(0, length)
        return (inside, outside) if side > self.crop else (outside, inside)


def manifest_of(files: Sequence[Path]) -> Manifest:
    """Create a manifest of the files with arbitrary labels."""
    labels = [(CLASSES[n % 20], CLASSES[(n + 7) % 20]) for n in range(len(files))]
    records = (
        Record(f"{number}", file, 1, 1, "train", names)
        for number, (file, names) in enumerate(zip(files, labels, strict=True))
    )
    return Manifest(CLASSES, tuple(records))


def our_images(files: Sequence[Path], crop: int) -> LabeledImages:
    """Return the training set of this pipeline."""
    settings = {"resize": long_sides(crop), "crop": crop, "flip": True}
    settings |= {"color_jitter": 0, "hide_and_seek": None}
    manifest = manifest_of(files)
    return LabeledImages(manifest, manifest.records, training_transform(settings, MEAN, STD))


def published_loader(
    files: Sequence[Path], options: argparse.Namespace, workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return the loader of published code for one epoch."""
    return DataLoader(
        PublishedImages(files, options.crop),
        batch_size=options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=options.device == "cuda",
    )


def repeated(files: Sequence[Path], count: int) -> list[Path]:
    """Repeat the files up to a given count."""
    return [files[number % len(files)] for number in range(count)]
