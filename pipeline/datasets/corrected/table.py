"""The table of corrected masks, and what it says about the supervision of a network."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.datasets.manifest import Record, read_masks
from pipeline.datasets.masks import Mask

#: Supervision without corrected masks.
IMAGE_LABELS = "image-level labels"

logger = logging.getLogger(__name__)


def read_corrected(paths: Sequence[Path]) -> dict[str, Mask]:
    """Read the corrected masks by image id.

    Parameters
    ----------
    paths : sequence of Path
        At most one table, in the format of the list of ground-truth masks.
    """
    return {image_id: mask for path in paths for image_id, mask in read_masks(path).items()}


def corrected_of(records: Sequence[Record], masks: dict[str, Mask]) -> dict[str, Mask]:
    """Return the corrected masks of some images, and log how many there are."""
    found = {record.id: masks[record.id] for record in records if record.id in masks}
    if found:
        logger.info(
            "%d of %d images have a corrected mask in place of the pseudo-label",
            len(found), len(records),
        )  # fmt: skip
    return found


def supervision(corrected: Collection[str], train: Collection[object]) -> str:
    """Return the text that states what a network was trained on.

    Parameters
    ----------
    corrected : collection of str
        Ids of the images with a corrected mask that the network learned.
    train : collection
        All train images.

    Examples
    --------
    >>> supervision([], ["a", "b"])
    'image-level labels'
    >>> supervision(["a"], ["a", "b"])
    'image-level labels, and corrected masks of 1 of 2 train images'
    """
    if not corrected:
        return IMAGE_LABELS
    return f"{IMAGE_LABELS}, and corrected masks of {len(corrected)} of {len(train)} train images"
