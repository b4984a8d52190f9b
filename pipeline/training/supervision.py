"""Checks before a training that its labels contain something to learn.

Without these checks a network could train for hours with a loss of 0, or learn a constant.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.io.arrays import BACKGROUND, IGNORE

Label = NDArray[np.uint8]


def require_contrast(targets: NDArray[np.floating[Any]], classes: Sequence[str]) -> None:
    """Check that the image-level labels differ between training images.

    Parameters
    ----------
    targets : (N, C) float array
        Labels of the training images, 0 or 1.
    classes : sequence of C str
        Names of the classes.

    Raises
    ------
    UserError
        If all images have the same labels. A classifier would then learn a constant that does
        not depend on the image.
    """
    if (targets == targets[:1]).all():
        names = ", ".join(name for name, on in zip(classes, targets[0], strict=True) if on)
        raise UserError(
            f"all {len(targets)} training images have the same labels ({names or 'none'}), "
            "expected a class that some images have and others lack: a classifier would be right "
            "without looking at the images; add images without the class, with empty labels, or "
            "with other classes"
        )


def require_foreground(labels: Iterable[Label]) -> None:
    """Check that the pseudo-labels have at least one foreground pixel.

    Parameters
    ----------
    labels : iterable of (H, W) uint8 array
        Pseudo-labels of the training images. Reading stops at the first foreground pixel.

    Raises
    ------
    UserError
        If there is no foreground pixel.
    """
    count, confident = 0, False
    for label in labels:
        if ((label != BACKGROUND) & (label != IGNORE)).any():
            return
        confident = confident or bool((label == BACKGROUND).any())
        count += 1
    if confident:
        raise UserError(
            f"the {count} pseudo-labels show only background, expected foreground pixels to "
            "learn from: lower the refinement's background.value (or set it to `mean` or "
            "`otsu`), lower its uncertain_below, or train the classifier longer"
        )
    raise UserError(
        f"no pixel of the {count} pseudo-labels is confident (all are {IGNORE}), expected some to "
        "learn from: lower the refinement's uncertain_below"
    )
