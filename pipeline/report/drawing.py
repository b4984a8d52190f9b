"""Thumbnails and image grids for the pages, with class maps and boxes drawn over images."""

import base64
from collections.abc import Sequence
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.util import montage

from pipeline.io.arrays import ClassMaps
from pipeline.io.palette import voc_palette
from pipeline.refinement.labels import upsampled

#: Long side of a thumbnail in pixels.
SIDE = 224
#: Color between the images of a grid.
WHITE = (255, 255, 255)
#: Color of void and uncertain pixels: light gray instead of the palette's cream.
VOID = (224, 224, 224)

#: Height of a caption, and gap between two images of a grid, in pixels.
CAPTION, GAP = 18, 8
#: Colors of tagged pixels, by tag.
TAG_COLORS = {0: (60, 110, 230), 1: (245, 140, 20)}

RgbImage = NDArray[np.uint8]


def thumbnail(image: RgbImage) -> RgbImage:
    """Resize an (H, W, 3) image to a long side of :data:`SIDE`."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def with_map(image: RgbImage, maps: ClassMaps) -> RgbImage:
    """Draw the maximum over the class maps on a thumbnail as a heat map."""
    height, width = image.shape[:2]
    strongest = upsampled(maps).max(axis=0, initial=0.0)
    heat = cv2.resize(strongest, (width, height), interpolation=cv2.INTER_AREA)
    colors = mpl.colormaps["inferno"](heat)[..., :3] * 255
    weight = 0.35 + 0.45 * heat[..., None]
    mixed: RgbImage = (image * (1 - weight) + colors * weight).astype(np.uint8)
    return mixed


def with_region(image: RgbImage, values: NDArray[np.floating], share: float) -> RgbImage:
    """Darken an (H, W, 3) image where an (h, w) map is at most a share of its maximum."""
    height, width = image.shape[:2]
    full = cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    inside = full > share * full.max()
    return np.where(inside[..., None], image, image // 4)


def with_boxes(
    image: RgbImage,
    boxes: NDArray[np.float64],
    size: tuple[int, int],
    color: tuple[int, int, int],
) -> RgbImage:
    """Draw boxes on a thumbnail.

    Parameters
    ----------
    image : (h, w, 3) uint8 array
    boxes : (N, 4) float64 array
        Left, top, right and bottom edges in pixels of the full-size image.
    size : (int, int)
        Height and width of the full-size image.
    color : (int, int, int)
    """
    scale = np.array([image.shape[1] / size[1], image.shape[0] / size[0]] * 2)
    drawn = image.copy()
    for left, top, right, bottom in np.round(boxes * scale).astype(int).tolist():
        corner = (max(left, right - 1), max(top, bottom - 1))
        cv2.rectangle(drawn, (left, top), corner, (0, 0, 0), 4)
        cv2.rectangle(drawn, (left, top), corner, color, 2)
    return drawn


def framed(image: RgbImage, side: int) -> RgbImage:
    """Resize an image to fit into a white (side, side, 3) square."""
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    square = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    square[top : top + height, left : left + width] = np.asarray(small)
    return square


def captioned_grid(
    images: Sequence[RgbImage], captions: Sequence[str], columns: int | None = None
) -> RgbImage:
    """Arrange (S, T, 3) images in a grid, each below its caption.

    By default, there are about as many columns as rows.
    """
    columns = columns or ceil(sqrt(len(images)))
    shape = (ceil(len(images) / columns), columns)
    above = ((0, 0), (CAPTION, 0), (0, 0), (0, 0))
    cells = np.pad(np.stack(images), above, constant_values=255)
    grid = montage(cells, WHITE, grid_shape=shape, padding_width=GAP, channel_axis=-1)
    sheet = Image.fromarray(grid[GAP:-GAP, GAP:-GAP])
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", 12)
    height, width = cells.shape[1:3]
    for index, (_, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = index % columns * (width + GAP), index // columns * (height + GAP)
        draw.text((left, top + 1), caption, fill="black", font=font)
    return np.asarray(sheet)


def data_url(image: RgbImage) -> str:
    """Encode an (H, W, 3) image as a JPEG data URL."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def label_edges(label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels of an (H, W) label image whose right or lower neighbor differs."""
    # skimage.segmentation.find_boundaries marks both sides or the inner one, in 40 times the time.
    edges = np.zeros(label.shape, dtype=bool)
    edges[:, :-1] |= label[:, :-1] != label[:, 1:]
    edges[:-1] |= label[:-1] != label[1:]
    return edges


def palette_colors() -> NDArray[np.uint8]:
    """Return the palette as a (256, 3) array."""
    return np.array(voc_palette(), dtype=np.uint8).reshape(256, 3)
