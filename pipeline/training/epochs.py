"""Steps and epochs of a training, and the epochs after which a classifier is validated."""

from collections.abc import Mapping
from typing import Any


def steps_of_epoch(settings: Mapping[str, Any], images: float) -> int:
    """Return the number of steps of an epoch: whole batches, or a single one of all images.

    Parameters
    ----------
    settings : mapping
        Key ``batch_size``.
    images : float
        Number of training images. It may be an estimate.
    """
    return max(1, int(images // settings["batch_size"]))


def number_of_epochs(settings: Mapping[str, Any], images: float) -> int:
    """Return the number of epochs of a training.

    Parameters
    ----------
    settings : mapping
        Keys ``epochs``, ``min_steps`` and ``batch_size``.
    images : float
        Number of training images. It may be an estimate.

    Returns
    -------
    int
        ``epochs``, or as many more as ``min_steps`` steps take.

    Examples
    --------
    >>> settings = {"epochs": 8, "min_steps": 400, "batch_size": 16}
    >>> number_of_epochs(settings, 1000), number_of_epochs(settings, 300)
    (8, 23)
    """
    steps = steps_of_epoch(settings, images)
    return int(max(settings["epochs"], -(-settings["min_steps"] // steps)))


def validated_epochs(settings: Mapping[str, Any], epochs: int) -> set[int]:
    """Return the epochs after which a classifier is scored on the image-level labels of ``val``.

    Parameters
    ----------
    settings : mapping
        Keys ``selection`` and ``validate_every``. The last one is a number of epochs, 0 for never,
        or None. None means every epoch if the best epoch is selected, and otherwise the last epoch
        only.
    epochs : int
        Number of epochs of the training.

    Returns
    -------
    set of int
        Numbers of the epochs, from 0. The last epoch is included unless the set is empty.
    """
    every = settings["validate_every"]
    if every is None:
        every = 1 if settings["selection"] == "best_val_map" else epochs
    return {*range(every - 1, epochs, every), epochs - 1} if every else set()
