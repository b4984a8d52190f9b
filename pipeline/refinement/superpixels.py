"""Superpixels of an image, at several scales."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic

from pipeline.io.regions import Regions, joined, regions_of_partition

#: Kinds of regions that are computed from the image.
KINDS = ("felzenszwalb", "slic")


def superpixels(image: NDArray[np.uint8], settings: Mapping[str, Any]) -> Regions:
    """Divide an image into superpixels.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    settings : mapping
        An entry of ``regions``. Kind ``felzenszwalb`` (Felzenszwalb and Huttenlocher 2004): keys
        ``scales``, ``sigma`` and ``min_size``. Kind ``slic`` (Achanta et al. 2012): keys
        ``segments`` and ``compactness``.

    Returns
    -------
    Regions
        The superpixels of all scales; those of each scale cover the image without overlap.
    """
    if settings["kind"] == "felzenszwalb":
        own = {key: settings[key] for key in ("sigma", "min_size")}
        parts = [felzenszwalb(image, scale=scale, **own) for scale in settings["scales"]]
    else:
        compactness = settings["compactness"]
        parts = [slic(image, number, compactness, start_label=0) for number in settings["segments"]]
    return joined([regions_of_partition(part) for part in parts])
