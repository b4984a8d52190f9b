"""Real photographs, from scikit-image's package: they need no download."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

#: Photographs in the package itself: a face, a cat, a cup, a rocket.
NAMES = ("astronaut", "chelsea", "coffee", "rocket")


def photograph(name: str, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
    """Return a photograph as (H, W, 3), whole or reduced to a size."""
    image = getattr(data, name)()
    if height is None or width is None:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
