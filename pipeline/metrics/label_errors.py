"""Possible errors of image-level labels, from the probabilities of a classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

#: ``wrong``: the table has the label, but the classifier finds the class absent. ``missing``: the
#: classifier finds the class, but the table lacks the label.
Kind = Literal["wrong", "missing"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class LabelError:
    """One possible error: an image and a class.

    Attributes
    ----------
    image : str
        Id of the image.
    label : str
        Class name.
    kind : {"wrong", "missing"}
    score : float
        Probability in [0, 1] that the label is wrong: that the class is absent (``wrong``) or
        present (``missing``).
    threshold : float
        Threshold of the class for this kind. The score is not below it.
    rank : int
        Rank among the errors of this kind and split, from 1.
    split : {"train", "val"}
        Split of the image.
    """

    image: str
    label: str
    kind: Kind
    score: float
    threshold: float
    rank: int
    split: str


def judged_classes(targets: NDArray[np.floating], folds: int) -> NDArray[np.bool_]:
    """Return which classes have at least as many images with and without the class as folds.

    An image has several labels, so a fold can still lack a class that few images have.

    Parameters
    ----------
    targets : (N, C) array
        Labels, 0 or 1.
    folds : int

    Returns
    -------
    (C,) bool array
    """
    counts = (targets > 0).sum(axis=0)
    judged: NDArray[np.bool_] = (counts >= folds) & (len(targets) - counts >= folds)
    return judged


def class_thresholds(
    probabilities: NDArray[np.floating], targets: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the thresholds of confident learning, for each class against the rest.

    Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
    equation 2: the threshold of a label is its mean probability among the examples that have it.
    With one classifier for each class, the two labels of an image are presence and absence.

    Parameters
    ----------
    probabilities : (N, C) array
        Probabilities that the class is present.
    targets : (N, C) array
        Labels, 0 or 1.

    Returns
    -------
    present : (C,) float64 array
        Mean probability of presence among the images with the class; NaN if there are none.
    absent : (C,) float64 array
        Mean probability of absence among the images without it; NaN if there are none.
    """
    labels = targets > 0
    p = probabilities.astype(np.float64)
    with np.errstate(invalid="ignore"):
        present = (p * labels).sum(axis=0) / labels.sum(axis=0)
        absent = ((1 - p) * ~labels).sum(axis=0) / (~labels).sum(axis=0)
    return present, absent


def confident_errors(
    probabilities: NDArray[np.floating], targets: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Return which pairs of image and class contradict their label confidently.

    A pair counts if the probability of the opposite label reaches the threshold of that label. If
    the probability of the given label reaches its threshold too, the more probable one of the two
    counts, as in confident learning (equation 1 of the paper; see :func:`class_thresholds`).

    Parameters
    ----------
    probabilities, targets : (N, C) array

    Returns
    -------
    (N, C) bool array
    """
    labels = targets > 0
    p = probabilities.astype(np.float64)
    present, absent = class_thresholds(probabilities, targets)
    is_present, is_absent = p >= present, 1 - p >= absent
    other, own = np.where(labels, is_absent, is_present), np.where(labels, is_present, is_absent)
    more_probable = error_scores(probabilities, targets) > 1 / 2
    confident: NDArray[np.bool_] = other & (~own | more_probable)
    return confident


def error_scores(
    probabilities: NDArray[np.floating], targets: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the probability that each label is wrong, as an (N, C) float64 array in [0, 1].

    It is ``1 - p`` where the class is labeled, and ``p`` elsewhere. It ranks pairs as the binary
    cross-entropy of the labels does.
    """
    p = probabilities.astype(np.float64)
    return np.where(targets > 0, 1 - p, p)


def rank_label_errors(
    probabilities: NDArray[np.floating],
    targets: NDArray[np.floating],
    ids: Sequence[str],
    classes: Sequence[str],
    split: str,
) -> list[LabelError]:
    """Return the pairs that confidently contradict their label, the most probable errors first.

    Parameters
    ----------
    probabilities, targets : (N, C) array
    ids : sequence of N str
    classes : sequence of C str
    split : {"train", "val"}
        Split of all images.

    Returns
    -------
    list of LabelError
        First all ``wrong`` labels, then all ``missing`` ones, by rank. Ties are in the order of
        ids and class names.
    """
    labels = targets > 0
    scores = error_scores(probabilities, targets)
    present, absent = class_thresholds(probabilities, targets)
    confident = confident_errors(probabilities, targets)
    found: list[LabelError] = []
    for kind, pairs, thresholds in zip(KINDS, (labels, ~labels), (absent, present), strict=True):
        order = sorted(
            np.argwhere(confident & pairs).tolist(),
            key=lambda at: (-scores[at[0], at[1]], ids[at[0]], classes[at[1]]),
        )
        found += [
            LabelError(
                image=ids[row],
                label=classes[column],
                kind=kind,
                score=float(scores[row, column]),
                threshold=float(thresholds[column]),
                rank=rank,
                split=split,
            )
            for rank, (row, column) in enumerate(order, start=1)
        ]
    return found
