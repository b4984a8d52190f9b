"""Photographs: decoding, resizing, normalising and the random transforms of training."""

from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError

#: Modes that Pillow decodes to 8 bits a channel without loss of meaning.
PLAIN_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB"}
)
#: Grey with 16 bits a pixel: scaled to 8 bits.
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
#: Filters that images are resized with, by name, and the default one.
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FILTER = "bicubic"
#: Most pixels per cell of a map, along a side.
MOST_SIDE = 32


def read_rgb(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decode a photograph as upright 8-bit RGB.

    EXIF orientation is applied; grey and palette images become RGB; transparent pixels are
    laid over white; CMYK is converted; 16-bit grey is scaled to 8 bits.

    Parameters
    ----------
    path : Path
        An image file of any format that Pillow reads.
    size : (int, int), optional
        Height and width that it had when earlier stages read it.

    Returns
    -------
    (H, W, 3) uint8 array

    Raises
    ------
    UserError
        If the file is absent, not an image, truncated, of another size, or of a pixel type
        without a defined range (32-bit integers, floating point).
    """
    image = _decoded(path)
    if size is not None and image.shape[:2] != tuple(size):
        raise UserError(
            f"{path}: image is {image.shape[:2]}, expected {tuple(size)}, the size that its maps "
            "were made of: the file was changed, make its maps again"
        )
    return image


def _decoded(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            image.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image), path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image of a known format") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be decoded ({error}): replace the file") from error


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode in DEEP_MODES:
        deep = np.asarray(image).astype(np.uint16)
        return Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in PLAIN_MODES:
        raise UserError(
            f"{path}: pixel type {image.mode}, expected 8- or 16-bit grey, RGB, RGBA, palette "
            "or CMYK: convert it to 8-bit RGB"
        )
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def resize(
    image: NDArray[np.uint8], size: tuple[int, int], interpolation: str = FILTER
) -> NDArray[np.uint8]:
    """Resize an (H, W, 3) image to ``(height, width)``, antialiased, by a named filter."""
    height, width = size
    resized = Image.fromarray(image).resize((width, height), FILTERS[interpolation])
    return np.asarray(resized)


def interpolation_of(settings: Mapping[str, Any]) -> str:
    """Return the filter of a network's settings: its own, or that of its augmentation."""
    name: str = settings.get("augmentation", settings).get("interpolation", FILTER)
    return name


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Give a (height, width) times a scale, rounded, at least one pixel a side."""
    height, width = size
    return max(1, round(height * scale)), max(1, round(width * scale))


def fitted_size(size: tuple[int, int], long_side: int | None) -> tuple[int, int]:
    """Give a (height, width) shrunk so that its long side is at most ``long_side``."""
    if long_side is None or max(size) <= long_side:
        return size
    return scaled_size(size, long_side / max(size))


def at_least(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return a (height, width) padded to a square of a side, where it is smaller."""
    return max(size[0], side), max(size[1], side)


def strided_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Give the size of a map with one cell per ``stride`` pixels, the last one partial."""
    height, width = size
    return -(-height // stride), -(-width // stride)


def cell_side(size: tuple[int, int], cells: tuple[int, int]) -> int:
    """Return the stride of a map: the inverse of :func:`strided_size`.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    cells : (int, int)
        Rows and columns of the map.

    Returns
    -------
    int
        A power of two where one fits. Of those at most one does, unless one cell holds the image.

    Raises
    ------
    UserError
        If no stride makes that many cells of the image.
    """
    fitting = [side for side in range(1, MOST_SIDE + 1) if strided_size(size, side) == cells]
    if not fitting:
        raise UserError(
            f"maps are {cells}, expected one cell per k pixels of the image {size}, the last ones "
            f"partial, for a k of 1 to {MOST_SIDE}"
        )
    return next((side for side in fitting if side & (side - 1) == 0), fitting[-1])


def network_stride(size: tuple[int, int], cells: tuple[int, int]) -> int:
    """Return the stride of a network, a power of two, from the size of what it makes of an image.

    Networks round the number of cells up or down: of an image of three cells a side or more the
    power of two is the nearest one, of a smaller one it may be half of it.
    """
    longest = max(size)
    return int(2 ** max(0, round(log2(longest / cells[size.index(longest)]))))


def normalise(
    image: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Turn an (H, W, 3) image into (3, H, W) float32: ``(image / 255 - mean) / std``."""
    scaled = image.astype(np.float32) / 255
    standard = (scaled - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(standard.transpose(2, 0, 1))


def network_input(
    image: NDArray[np.uint8], size: tuple[int, int], model: Any
) -> NDArray[np.float32]:
    """Return an image as a network saw its training images: resized by the same filter.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    size : (int, int)
        Height h and width w that it is resized to.
    model : nn.Module
        Its ``interpolation`` is the filter; ``mean`` and ``std`` are what images are brought to.

    Returns
    -------
    (3, h, w) float32 array
        Normalized.
    """
    return normalise(resize(image, size, model.interpolation), model.mean, model.std)
