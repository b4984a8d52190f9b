"""Photographs: decoding, resizing, normalizing and the random transforms of training."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError
from pipeline.io.mending import how_to_mend
from pipeline.io.user_files import file_problem, with_article

#: Formats of photographs. Pillow goes by the content, whatever the name: others are never tried,
#: since some run programs (PostScript: Ghostscript) and many are decoded by code that few use.
PHOTOGRAPHS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
#: Formats of label images.
LABEL_IMAGES = ("PNG",)
#: Pixels of an image at most, unless the configuration allows more: 300 MB as RGB.
MOST_PIXELS = 100_000_000
# The limit is this project's own, since Pillow's can neither be set by a user nor be worded.
Image.MAX_IMAGE_PIXELS = None

#: Modes that Pillow decodes to 8 bits a channel without loss of meaning.
PLAIN_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB"}
)
#: Gray with 16 bits a pixel: scaled to 8 bits.
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
#: Filters that images are resized with, by name, and the default one.
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FILTER = "bicubic"
#: Most pixels per cell of a map, along a side.
MOST_SIDE = 32
#: How files of 16 bits a channel are stored, gray or color.
_DEEP_STORAGE = re.compile(r"\b(I|LA?|RGB[AX]?);16")


class UnreadableImageError(ValueError):
    """The reason why an image cannot be read, without its path."""


@contextmanager
def open_image(
    path: Path, formats: tuple[str, ...], *, what: str = "image", max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """Open an image for the block that decodes it; only its header is read before.

    All reading of images goes through here.

    Parameters
    ----------
    path : Path
    formats : tuple of str
        Pillow's names of the formats that are meant.
    what : str
        What the image is, for messages.
    max_pixels : int, optional
        Pixels at most, by the header; None for images that were let in before.

    Raises
    ------
    UnreadableImageError
        If it is no plain file, of another format, too large, or if the block's decoding fails.
    """
    if problem := file_problem(path, what):
        raise UnreadableImageError(problem)
    try:
        with Image.open(path, formats=formats) as image:
            _check_pixels(image.size, what, max_pixels)
            yield image
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"not {with_article(what)} of a known format, expected the content to be "
            f"{' or '.join(formats)}, whatever the name says: "
            f"{how_to_mend(path, 'convert or replace the file')}"
        ) from error
    except Exception as error:  # decoders of damaged files raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"cannot be decoded ({reason}): {how_to_mend(path)}") from error


def _check_pixels(size: tuple[int, int], what: str, limit: int | None) -> None:
    width, height = size
    if limit is not None and width * height > limit:
        raise UnreadableImageError(
            f"the {what} has {width} x {height} = {width * height} pixels, expected at most "
            f"{limit}: shrink it, or raise the configuration's max_pixels"
        )


def read_rgb(
    path: Path, size: tuple[int, int] | None = None, *, max_pixels: int | None = None
) -> NDArray[np.uint8]:
    """Decode a photograph as upright 8-bit RGB.

    EXIF orientation is applied; gray and palette images become RGB; transparent pixels are
    laid over white; CMYK is converted. Of 16 bits a channel the upper 8 are taken: 0 is black and
    65535 white, whatever a file holds, so that equal values are equally bright in all files.

    Parameters
    ----------
    path : Path
        A file of one of the formats :data:`PHOTOGRAPHS`.
    size : (int, int), optional
        Height and width that it had when earlier stages read it.
    max_pixels : int, optional
        Pixels at most, by its header; None for images that were let in before.

    Returns
    -------
    (H, W, 3) uint8 array

    Raises
    ------
    UserError
        If the file is absent, not an image, truncated, too large, of another size, or of a pixel
        type without a defined range (32-bit integers, floating point).
    """
    try:
        with open_image(path, PHOTOGRAPHS, max_pixels=max_pixels) as image:
            image.load()
            pixels = np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except UnreadableImageError as error:
        raise UserError(f"{path}: {error}") from error
    if size is not None and pixels.shape[:2] != tuple(size):
        raise UserError(
            f"{path}: image is {pixels.shape[:2]}, expected {tuple(size)}, the size that its maps "
            "were made of: the file was changed, make its maps again"
        )
    return pixels


def deep_maximum(path: Path) -> int | None:
    """Return the largest value of a photograph of 16 bits a channel; None where it has 8.

    Of color, the lower 8 bits of the result are 1: Pillow drops them. Transparency counts as
    white, as :func:`read_rgb` shows it.

    Raises
    ------
    UserError
        If the file cannot be read.
    """
    try:
        with open_image(path, PHOTOGRAPHS) as image:
            if not any(_DEEP_STORAGE.search(str(tile[3])) for tile in getattr(image, "tile", ())):
                return None
            if image.mode in DEEP_MODES:
                return int(np.asarray(image).astype(np.uint16).max())
    except UnreadableImageError as error:
        raise UserError(f"{path}: {error}") from error
    return int(read_rgb(path).max()) << 8 | 0xFF


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        deep = np.asarray(image).astype(np.uint16)
        return Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in PLAIN_MODES:
        raise UnreadableImageError(
            f"pixel type {image.mode}, expected 8- or 16-bit gray, RGB, RGBA, palette "
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


def normalize(
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
    return normalize(resize(image, size, model.interpolation), model.mean, model.std)
