"""Random transforms of training images and their label images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from pipeline.io.arrays import IGNORE
from pipeline.io.images import FILTER, interpolation_of, scaled_size


class RandomLongSide(v2.Transform):  # type: ignore[misc]
    """Resize so that the long side is a random number of pixels in [low, high].

    The other side is scaled by the same factor and rounded. ``interpolation`` names the filter.
    """

    def __init__(self, low: int, high: int, interpolation: str = FILTER) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.interpolation = InterpolationMode(interpolation)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw one long side for an image and its label."""
        return {"long_side": int(torch.randint(self.low, self.high + 1, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize one input; label images use nearest-neighbor interpolation."""
        height, width = inpt.shape[-2:]
        size = list(scaled_size((height, width), params["long_side"] / max(height, width)))
        if isinstance(inpt, tv_tensors.Mask):
            return _resize_label(inpt, size)
        return F.resize(inpt, size=size, interpolation=self.interpolation, antialias=True)


def _resize_label(label: tv_tensors.Mask, size: list[int]) -> tv_tensors.Mask:
    """Resize a label image by nearest neighbor, aligned at pixel centers.

    torchvision aligns masks at pixel corners but images at pixel centers. Its masks are
    therefore shifted by half a pixel to the lower right of the image.
    """
    plain = label.as_subclass(Tensor)[None]
    resized = F.resize(plain, size=size, interpolation=InterpolationMode.NEAREST_EXACT)
    return tv_tensors.wrap(resized[0], like=label)


class NormalizedCrop(v2.Transform):  # type: ignore[misc]
    """Cut out a random square and normalize it; smaller images are placed at random and padded.

    Images are padded with the mean color, which is 0 after normalization. Padding before the
    normalization would round the mean to 8 bits, an error of up to .008 with ImageNet's values.
    Labels are padded with 255 (ignored).

    Parameters
    ----------
    size : int
        Height and width of the square.
    mean, std : sequence of 3 float
        RGB normalization of images in [0, 1].
    jitter : v2.ColorJitter, optional
        Random change of colors, applied to the cropped pixels only.
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        jitter: v2.ColorJitter | None = None,
    ) -> None:
        super().__init__()
        self.size, self.mean, self.std = size, list(mean), list(std)
        self.jitter = jitter

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the first row and column of the square; they are negative where it is padded."""
        colors = self.jitter.make_params(flat_inputs) if self.jitter else {}
        spare = [side - self.size for side in flat_inputs[0].shape[-2:]]
        drawn = [int(torch.randint(abs(more) + 1, ())) if more else 0 for more in spare]
        # For a smaller image, a draw of 0 puts all padding first, as in torchvision.
        start = [at + min(0, more) for at, more in zip(drawn, spare, strict=True)]
        return {"start": start, "colors": colors}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut, normalize and pad one input."""
        spans = list(zip(params["start"], inpt.shape[-2:], strict=True))
        rows, columns = (slice(max(0, at), at + self.size) for at, _ in spans)
        inside = inpt[..., rows, columns]
        (top, bottom), (left, right) = (
            (max(0, -at), max(0, at + self.size - side)) for at, side in spans
        )
        padding = [left, right, top, bottom]
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.wrap(pad(inside, padding, value=IGNORE), like=inpt)
        if self.jitter:
            inside = self.jitter.transform(inside, params["colors"])
        values = F.normalize(F.to_dtype(inside, torch.float32, scale=True), self.mean, self.std)
        return tv_tensors.wrap(pad(values, padding), like=inpt)


class HideAndSeek(v2.Transform):  # type: ignore[misc]
    """Hide random patches of a normalized image, so that the network learns all object parts.

    Singh and Lee 2017, "Hide-and-Seek: Forcing a Network to be Meticulous for Weakly-supervised
    Object and Action Localization", section 3.1. The image is divided into a grid of square
    patches, and each patch is hidden with a given probability. Hidden pixels get the mean color,
    so that activations keep the distribution that they have on whole images. Label images do
    not change.

    Parameters
    ----------
    sizes : sequence of int
        Possible sides of a patch in pixels; one is drawn for each image. 0 hides nothing.
    probability : float
        Probability that a patch is hidden.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, sizes: Sequence[int], probability: float) -> None:
        super().__init__()
        self.sizes, self.probability = sizes, probability

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the side of the patches and select the visible ones."""
        size = self.sizes[int(torch.randint(len(self.sizes), ()))]
        if not size:
            return {"visible": None}
        height, width = flat_inputs[0].shape[-2:]
        visible = torch.rand(-(-height // size), -(-width // size)) >= self.probability
        pixels = visible.repeat_interleave(size, dim=0).repeat_interleave(size, dim=1)
        return {"visible": pixels[:height, :width]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Hide the patches of one image."""
        visible = params["visible"]
        return inpt if visible is None else tv_tensors.wrap(inpt * visible, like=inpt)


def training_transform(
    settings: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]
) -> v2.Transform:
    """Build the random transform of an ``augmentation`` section.

    Parameters
    ----------
    settings : mapping
        Keys ``resize`` (range of the long side), ``crop``, ``flip``, ``color_jitter`` and
        ``hide_and_seek``.
    mean, std : sequence of 3 float
        RGB normalization of images in [0, 1].

    Returns
    -------
    v2.Transform
        Transform of a uint8 tv_tensors.Image and optionally a tv_tensors.Mask. Where a crop
        extends beyond the image, it is filled with the mean color and with 255 (ignored).
    """
    change = settings["color_jitter"]
    low, high = settings["resize"]
    steps: list[v2.Transform] = [RandomLongSide(low, high, interpolation_of(settings))]
    if settings["flip"]:
        steps.append(v2.RandomHorizontalFlip())
    jitter = v2.ColorJitter(change, change, change, change / 3) if change else None
    steps.append(NormalizedCrop(settings["crop"], mean, std, jitter))
    if settings["hide_and_seek"]:
        steps.append(HideAndSeek(**settings["hide_and_seek"]))
    return v2.Compose(steps)


def as_image(image: NDArray[np.uint8]) -> tv_tensors.Image:
    """Wrap an (H, W, 3) array as a (3, H, W) image tensor."""
    return tv_tensors.Image(torch.from_numpy(image.transpose(2, 0, 1).copy()))


def as_mask(label: NDArray[np.uint8]) -> tv_tensors.Mask:
    """Wrap an (H, W) label image as a mask tensor."""
    return tv_tensors.Mask(torch.from_numpy(label.copy()))


def seeded(transform: v2.Transform, seed: int, *inputs: Tensor) -> Any:
    """Apply a random transform whose draws depend on ``seed`` alone.

    The random state of the process does not change. A sample is therefore the same in every
    worker and in any order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(*inputs)
