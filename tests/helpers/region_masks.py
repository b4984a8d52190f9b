"""Regions as masks."""

import numpy as np
from numpy.typing import NDArray

from pipeline.io.regions import Regions


def masks_of(regions: Regions) -> list[NDArray[np.bool_]]:
    """Paint each region by a loop over its runs."""
    painted = []
    at = 0
    for count in regions.counts:
        flat = np.zeros(regions.size[0] * regions.size[1], bool)
        for run in range(at, at + count):
            flat[regions.starts[run] : regions.starts[run] + regions.lengths[run]] = True
        painted.append(flat.reshape(regions.size, order="F"))
        at += count
    return painted
