"""Scores of predictions as a share of full supervision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.upper_bound import GROUND_TRUTH


@dataclass(frozen=True)
class Share:
    """The mIoU of a network's predictions, and that of the same network trained on masks.

    Attributes
    ----------
    method, split : str
    images : int
    miou, full : float
        mIoU of the method and of the upper bound, in [0, 1].
    """

    method: str
    split: str
    images: int
    miou: float
    full: float

    @property
    def share(self) -> float:
        """``miou`` as a share of ``full``; above 1 if the upper bound is worse."""
        return self.miou / self.full


def shares_of_full_supervision(scores: Sequence[Mapping[str, Any]]) -> list[Share]:
    """Compare all predictions of a run with those of its upper bound on the same images.

    All networks of a run have the same settings and seed.

    Parameters
    ----------
    scores : sequence of dict
        Score documents of one run.

    Returns
    -------
    list of Share
        In the given order; empty without an upper bound, and if its mIoU is 0.
    """
    predictions = [s for s in scores if s["kind"] == "predictions" and s["miou"] is not None]
    bounds = {_images(s): s["miou"] for s in predictions if s["method"] == GROUND_TRUTH}
    return [
        Share(s["method"], s["split"], s["images"], s["miou"], full)
        for s in predictions
        if s["method"] != GROUND_TRUTH and (full := bounds.get(_images(s)))
    ]


def _images(score: Mapping[str, Any]) -> tuple[str, int]:
    return score["split"], score["images"]
