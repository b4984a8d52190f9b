"""The true boxes of one image, from its annotation or from its mask."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import Box, Record
from pipeline.metrics.localization import Boxes, component_boxes


def true_boxes(
    record: Record,
    classes: Sequence[str],
    known: Sequence[Box] | None,
    mask: NDArray[np.uint8] | None,
) -> dict[int, Boxes]:
    """Return the true boxes of an image's labeled classes.

    Parameters
    ----------
    record : Record
    classes : sequence of str
        Class number k is ``classes[k - 1]``.
    known : sequence of Box or None
        The boxes of the image in the data set. If None, boxes are drawn around the connected
        components of the mask.
    mask : (H, W) uint8 array or None

    Returns
    -------
    dict of int to (N, 4) float64 array
        Boxes by class number; classes without a box are left out.
    """
    found: dict[int, Boxes] = {}
    for name in record.labels:
        number = classes.index(name) + 1
        if known is not None:
            edges = [(box.left, box.top, box.right, box.bottom) for box in known]
            of_class = [box.label == name for box in known]
            boxes = np.array(edges, np.float64).reshape(-1, 4)[np.array(of_class, bool)]
        elif mask is not None:
            boxes = component_boxes(mask == number)
        else:
            continue
        if len(boxes):
            found[number] = boxes
    return found
