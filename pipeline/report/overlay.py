"""An image with a label image drawn over it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import BACKGROUND, IGNORE
from pipeline.report.drawing import VOID, RgbImage, label_edges, palette_colors


def with_label(image: RgbImage, label: NDArray[np.uint8]) -> RgbImage:
    """Draw an (H, W) label image over an image: outlined colors over a dimmed image.

    The image stays visible in the background, so an empty label image is not a black square.
    """
    height, width = image.shape[:2]
    resized = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
    small = resized.astype(np.uint8)
    colors = palette_colors()
    colors[IGNORE] = VOID
    # skimage.color.label2rgb rounds differently and takes 12 times as long.
    foreground = (small != BACKGROUND)[..., None]
    mixed = np.where(foreground, 0.35 * image + 0.65 * colors[small], image * 0.6)
    mixed[label_edges(small)] = 255
    return mixed.astype(np.uint8)
