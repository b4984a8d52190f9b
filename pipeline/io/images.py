"""Decoding, resizing and normalizing of images."""

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
from pipeline.io.repair import repair_advice
from pipeline.io.user_files import file_problem, with_article

#: Formats of images. Pillow decides by the content, not the name. Other formats are never tried:
#: some run programs (PostScript: Ghostscript), and many have rarely used decoders.
IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
#: Formats of label images.
LABEL_FORMATS = ("PNG",)
#: Default maximum number of pixels of an image: 300 MB as RGB.
MAX_PIXELS = 100_000_000
# Pillow's own limit is switched off: users cannot set it, and its message cannot be changed.
Image.MAX_IMAGE_PIXELS = None

#: Modes that Pillow converts to 8 bits per channel without loss of meaning.
PLAIN_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB"}
)
#: Modes of gray with 16 bits per pixel, which is scaled to 8 bits.
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
#: Filters for resizing by name, and the default one.
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FILTER = "bicubic"
#: Maximum side of a map's cell in pixels.
MAX_CELL_SIDE = 32
#: Pillow's raw modes of files with 16 bits per channel, gray or color.
_DEEP_STORAGE = re.compile(r"\b(I|LA?|RGB[AX]?);16")


class UnreadableImageError(ValueError):
    """An image that cannot be read; the message is the reason, without the path."""


@contextmanager
def open_image(
    path: Path, formats: tuple[str, ...], *, what: str = "image", max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """Open an image for a block that decodes it; only the header is read here.

    All images are opened by this function.

    Parameters
    ----------
    path : Path
    formats : tuple of str
        Pillow's names of the allowed formats.
    what : str
        Name of the image's kind, for messages.
    max_pixels : int, optional
        Maximum number of pixels, checked by the header; None for images checked before.

    Raises
    ------
    UnreadableImageError
        If it is not a regular file, has another format, is too large, or decoding fails.
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
            f"not {with_article(what)} of a known format, expected content in the format "
            f"{' or '.join(formats)}, whatever the file name: "
            f"{repair_advice(path, 'convert or replace the file')}"
        ) from error
    except Exception as error:  # decoders raise any error for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(
            f"cannot be decoded ({reason}): {repair_advice(path)}"
        ) from error


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
    """Read an image as upright 8-bit RGB.

    EXIF orientation is applied. Gray, palette and CMYK images are converted to RGB. Transparent
    pixels are blended with white. With 16 bits per channel, the upper 8 bits are used: 0 is black
    and 65535 white in every file, so equal values are equally bright.

    Parameters
    ----------
    path : Path
        A file in one of the formats :data:`IMAGE_FORMATS`.
    size : (int, int), optional
        Height and width that the image had in earlier stages.
    max_pixels : int, optional
        Maximum number of pixels, checked by the header; None for images checked before.

    Returns
    -------
    (H, W, 3) uint8 array

    Raises
    ------
    UserError
        If the file is absent, not an image, truncated, too large, has another size, or has a
        pixel type without a defined range (32-bit integers, floating point).
    """
    try:
        with open_image(path, IMAGE_FORMATS, max_pixels=max_pixels) as image:
            image.load()
            pixels = np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except UnreadableImageError as error:
        raise UserError(f"{path}: {error}") from error
    if size is not None and pixels.shape[:2] != tuple(size):
        raise UserError(
            f"{path}: image is {pixels.shape[:2]}, expected {tuple(size)}, the size that its maps "
            "were made for: the file was changed, make its maps again"
        )
    return pixels


def deep_maximum(path: Path) -> int | None:
    """Return the largest value of an image with 16 bits per channel; None for 8 bits.

    For color images, the lower 8 bits of the result are set, since Pillow drops them.
    Transparent pixels count as white, as in :func:`read_rgb`.

    Raises
    ------
    UserError
        If the file cannot be read.
    """
    try:
        with open_image(path, IMAGE_FORMATS) as image:
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
    """Resize an (H, W, 3) image to ``(height, width)`` with a named filter and antialiasing."""
    height, width = size
    resized = Image.fromarray(image).resize((width, height), FILTERS[interpolation])
    return np.asarray(resized)


def interpolation_of(settings: Mapping[str, Any]) -> str:
    """Return the resizing filter in a network's settings or in their augmentation."""
    name: str = settings.get("augmentation", settings).get("interpolation", FILTER)
    return name


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (height, width) times a scale, rounded, with sides of at least one pixel.

    Examples
    --------
    >>> scaled_size((375, 500), 0.5)
    (188, 250)
    """
    height, width = size
    return max(1, round(height * scale)), max(1, round(width * scale))


def fitted_size(size: tuple[int, int], long_side: int | None) -> tuple[int, int]:
    """Return (height, width), shrunk so that the long side is at most ``long_side``.

    Examples
    --------
    >>> fitted_size((375, 500), 250)
    (188, 250)
    """
    if long_side is None or max(size) <= long_side:
        return size
    return scaled_size(size, long_side / max(size))


def at_least(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return (height, width) with each side raised to at least ``side``."""
    return max(size[0], side), max(size[1], side)


def strided_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return the size of a map with one cell for each ``stride`` pixels, rounded up.

    Examples
    --------
    >>> strided_size((375, 500), 4)
    (94, 125)
    """
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
        A power of two if one fits. At most one fits, unless one cell covers the whole image.

    Raises
    ------
    UserError
        If no stride fits the number of cells.
    """
    fitting = [side for side in range(1, MAX_CELL_SIDE + 1) if strided_size(size, side) == cells]
    if not fitting:
        raise UserError(
            f"maps are {cells}, expected one cell for each k pixels of the image {size}, rounded "
            f"up, for a k of 1 to {MAX_CELL_SIDE}"
        )
    return next((side for side in fitting if side & (side - 1) == 0), fitting[-1])


def network_stride(size: tuple[int, int], cells: tuple[int, int]) -> int:
    """Return the stride of a network, a power of two, from the sizes of image and output.

    Networks round the number of cells up or down. For images of three or more cells per side the
    result is exact; for smaller images it may be half the stride.
    """
    longest = max(size)
    return int(2 ** max(0, round(log2(longest / cells[size.index(longest)]))))


def normalize(
    image: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Normalize an (H, W, 3) image to (3, H, W) float32: ``(image / 255 - mean) / std``.

    Examples
    --------
    >>> image = np.full((1, 1, 3), 255, np.uint8)
    >>> normalize(image, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).ravel().tolist()
    [2.0, 2.0, 2.0]
    """
    scaled = image.astype(np.float32) / 255
    standard = (scaled - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(standard.transpose(2, 0, 1))


def network_input(
    image: NDArray[np.uint8], size: tuple[int, int], model: Any
) -> NDArray[np.float32]:
    """Return an image prepared for a network: resized with its filter and normalized.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    size : (int, int)
        Height h and width w of the result.
    model : nn.Module
        A network with the attributes ``interpolation`` (the filter), ``mean`` and ``std``.

    Returns
    -------
    (3, h, w) float32 array
        The normalized image.
    """
    return normalize(resize(image, size, model.interpolation), model.mean, model.std)
