"""Features of a linear probe on disk, which its class maps of train use too (`views_of`)."""

from collections.abc import Mapping
from typing import Any


def has_stored_features(
    config: Mapping[str, Any], classifier: str, attribution: str, split: str
) -> bool:
    """Return whether class maps are computed from stored features, by a resolved configuration.

    Examples
    --------
    >>> config = {"classifiers": {"probe": {"views_of": "cam"}}}
    >>> [has_stored_features(config, "probe", "cam", split) for split in ("train", "val")]
    [True, False]
    """
    return split == "train" and config["classifiers"][classifier].get("views_of") == attribution
