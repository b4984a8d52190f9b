"""The upper bound: the segmentation network trained on the ground-truth masks of train.

It shows which share of full supervision the pseudo-labels reach. It is made only if
``segmentation.trained_on`` lists :data:`GROUND_TRUTH`, and nothing is labeled with it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

#: Name of the upper bound where pseudo-labels have CLASSIFIER/MAPS/REFINEMENT.
GROUND_TRUTH = "ground_truth"
#: Its display text.
FULLY_SUPERVISED = "fully supervised (trained on masks)"


def display_name(method: str) -> str:
    """Return the text that pages show for a method.

    Examples
    --------
    >>> display_name("plain/cam/crf"), display_name("ground_truth")
    ('plain/cam/crf', 'fully supervised (trained on masks)')
    """
    return FULLY_SUPERVISED if method == GROUND_TRUTH else method


def wants_upper_bound(config: Mapping[str, Any]) -> bool:
    """Return whether a resolved configuration asks for the upper bound."""
    return GROUND_TRUTH in config.get("segmentation", {}).get("trained_on", [])


def upper_bound_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield reasons why a resolved configuration cannot have the upper bound that it asks for.

    The masks themselves are counted when the data set is read, see
    :func:`pipeline.datasets.full_supervision.lacking_masks`.

    Parameters
    ----------
    config : mapping
        A configuration with presets and defaults.
    """
    if not wants_upper_bound(config):
        return
    place = f"segmentation.trained_on: {GROUND_TRUTH!r}"
    dataset = config["dataset"]
    if dataset["kind"] != "demo" and dataset.get("masks") is None:
        yield (
            f"{place} needs masks of all train images, but the data set has none: set "
            f"dataset.masks, or remove {GROUND_TRUTH!r}"
        )
        return
    scored = dataset.get("scored_splits", ["train", "val"])
    if lacking := [split for split in ("train", "val") if split not in scored]:
        yield (
            f"{place} learns the masks of train and is scored on val, but dataset.scored_splits "
            f"lacks {' and '.join(lacking)}: add {'it' if len(lacking) == 1 else 'them'}, or "
            f"remove {GROUND_TRUTH!r}"
        )
    score_list = dataset.get("score_list")
    if score_list and score_list != dataset["train_list"]:
        yield (
            f"{place} needs masks of all train images, but dataset.score_list leaves only those "
            f"of {score_list}: set score_list: null, with dataset.masks for all images of "
            f"{dataset['train_list']}, or remove {GROUND_TRUTH!r}"
        )
    export = config.get("export", {})
    if GROUND_TRUTH in export.get("predictions", []) and "train" in (export["splits"] or []):
        yield (
            f"export.predictions: {GROUND_TRUTH!r} is exported for val only, but export.splits has "
            "train: predictions for the images whose masks a network has learned are no "
            "pseudo-labels"
        )
