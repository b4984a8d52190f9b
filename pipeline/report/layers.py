"""Transparent layers that the browser draws over an image: label images, maps, color samples.

The image is stored once for all of its layers. A layer has few colors: as a palette PNG it takes
1-2 kB, compared with 8 kB for an image with the layer drawn into it.
"""

import base64
from collections.abc import Sequence
from io import BytesIO

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.io.arrays import BACKGROUND, IGNORE, ClassMaps
from pipeline.report.drawing import TAG_COLORS, VOID, label_edges, palette_colors

#: Opacity of labels and color samples over the image.
OPACITY = 0.65
#: Long side of a map in pixels: the browser enlarges it smoothly.
MAP_SIDE = 64
#: Steps of a map's strength, and their opacity from none to full strength.
MAP_LEVELS, MAP_OPACITY = 32, (0.35, 0.8)

#: Red, green, blue and opacity, each in [0, 255].
Color = tuple[int, int, int, int]
CLEAR: Color = (0, 0, 0, 0)
OUTLINE: Color = (255, 255, 255, 255)


def label_layer(label: NDArray[np.uint8], size: tuple[int, int]) -> str:
    """Draw a label image: classes in the palette's colors, outlined in white.

    Parameters
    ----------
    label : (H, W) uint8 array
        0 background, drawn transparent; 255 void or uncertain, drawn light gray.
    size : (int, int)
        Height and width of the layer.

    Returns
    -------
    str
        Data URL of a palette PNG.
    """
    small = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    palette = palette_colors().tolist()
    palette[IGNORE] = VOID
    values = np.unique(small[small != BACKGROUND])
    indices = np.zeros(256, np.uint8)
    # A palette has 256 colors: if all 255 values occur, the last two share a color.
    indices[values] = np.minimum(np.arange(2, len(values) + 2), 255)
    pixels = indices[small]
    pixels[_outlines(small)] = 1
    colors = [_faded(palette[value]) for value in values]
    return _palette_png(pixels, [CLEAR, OUTLINE, *colors][:256])


def map_layer(maps: ClassMaps) -> str:
    """Draw the maximum over the class maps as a heat map, more opaque where it is higher.

    Returns
    -------
    str
        Data URL of a palette PNG of the map's shape, at most :data:`MAP_SIDE` long.
    """
    strongest = maps.values.astype(np.float32).max(axis=0, initial=0.0)
    scale = min(1.0, MAP_SIDE / max(strongest.shape))
    height, width = (max(1, round(length * scale)) for length in strongest.shape)
    small = cv2.resize(strongest, (width, height), interpolation=cv2.INTER_AREA)
    strengths = np.linspace(0, 1, MAP_LEVELS)
    heat = mpl.colormaps["inferno"](strengths, bytes=True)
    heat[:, 3] = np.round(255 * np.interp(strengths, (0, 1), MAP_OPACITY))
    levels = np.round(np.clip(small, 0, 1) * (MAP_LEVELS - 1)).astype(np.uint8)
    return _palette_png(levels, heat.tolist())


def tag_layer(tags: NDArray[np.uint8], size: tuple[int, int]) -> str:
    """Draw the tags of a graph cut: foreground orange, background blue, uncertain transparent.

    Parameters
    ----------
    tags : (H, W) uint8 array
        1 foreground, 0 background, 255 uncertain.
    size : (int, int)
        Height and width of the layer.

    Returns
    -------
    str
        Data URL of a palette PNG.
    """
    small = cv2.resize(tags, size[::-1], interpolation=cv2.INTER_NEAREST)
    pixels = np.zeros(size, np.uint8)
    for index, tag in enumerate(TAG_COLORS, start=1):
        pixels[small == tag] = index
    return _palette_png(pixels, [CLEAR, *map(_faded, TAG_COLORS.values())])


def _faded(color: Sequence[int]) -> Color:
    red, green, blue = color
    return red, green, blue, round(255 * OPACITY)


def _outlines(label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the edges of labels, without those of void: in a mask, void is an outline itself."""
    edges = label_edges(label)
    void = (label == IGNORE).astype(np.uint8)
    edges &= cv2.dilate(void, np.ones((3, 3), np.uint8)) == 0
    return edges


def _palette_png(indices: NDArray[np.uint8], colors: Sequence[Color]) -> str:
    image = Image.fromarray(indices)
    image.putpalette([channel for color in colors for channel in color[:3]])
    buffer = BytesIO()
    opacity = bytes(color[3] for color in colors)
    image.save(buffer, format="PNG", optimize=True, transparency=opacity)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
