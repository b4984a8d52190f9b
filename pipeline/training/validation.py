"""Epochs after which a classifier is validated."""

from collections.abc import Mapping
from typing import Any


def validated_epochs(settings: Mapping[str, Any]) -> set[int]:
    """Return the epochs after which a classifier is scored on the image-level labels of ``val``.

    Parameters
    ----------
    settings : mapping
        Keys ``epochs``, ``selection`` and ``validate_every``. The last one is a number of epochs,
        0 for never, or None. None means every epoch if the best epoch is selected, and otherwise
        the last epoch only.

    Returns
    -------
    set of int
        Numbers of the epochs, from 0. The last epoch is included unless the set is empty.
    """
    epochs, every = settings["epochs"], settings["validate_every"]
    if every is None:
        every = 1 if settings["selection"] == "best_val_map" else epochs
    return {*range(every - 1, epochs, every), epochs - 1} if every else set()
