"""Possible errors of image-level labels, from the probabilities of a classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

#: ``wrong``: the table has the label, the classifier does not believe it. ``missing``: the
#: classifier believes the label, the table lacks it.
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
        Probability in [0, 1] that the table is wrong: that the class is absent (``wrong``), or
        present (``missing``).
    threshold : float
        The class's threshold of this kind, at most the score.
    rank : int
        Rank among the errors of this kind, from 1.
    """

    image: str
    label: str
    kind: Kind
    score: float
    threshold: float
    rank: int


def judged_classes(targets: NDArray[np.floating], folds: int) -> NDArray[np.bool_]:
    """Return which classes have an image with, and one without the class, in every fold.

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


def error_margins(
    probabilities: NDArray[np.floating], targets: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Compute by how much each pair's probability of an error exceeds its class's threshold.

    Returns
    -------
    (N, C) float64 array
        ``1 - p - absent`` where the class is labeled, ``p - present`` elsewhere; see
        :func:`class_thresholds`.
    """
    present, absent = class_thresholds(probabilities, targets)
    p = probabilities.astype(np.float64)
    return np.where(targets > 0, 1 - p - absent, p - present)


def rank_label_errors(
    probabilities: NDArray[np.floating],
    targets: NDArray[np.floating],
    ids: Sequence[str],
    classes: Sequence[str],
) -> list[LabelError]:
    """Return the confident pairs of image and class that contradict the labels.

    A pair counts if the probability of an error reaches the class's threshold. If the probability
    of the label as it is reaches its threshold too, the more probable one of the two counts, as
    in confident learning. Each kind is ranked by :func:`error_margins`.

    Parameters
    ----------
    probabilities, targets : (N, C) array
    ids : sequence of N str
    classes : sequence of C str

    Returns
    -------
    list of LabelError
        First all ``wrong`` labels, then all ``missing`` ones, by rank. Ties are in the order of
        ids and class names.
    """
    labels = targets > 0
    margins = error_margins(probabilities, targets)
    p = probabilities.astype(np.float64)
    scores = np.where(labels, 1 - p, p)
    present, absent = class_thresholds(probabilities, targets)
    believed = np.where(labels, p >= present, 1 - p >= absent)
    confident = (margins >= 0) & (~believed | (scores > 1 / 2))
    found: list[LabelError] = []
    for kind, pairs in zip(KINDS, (labels, ~labels), strict=True):
        rows, columns = np.nonzero(pairs & confident)
        order = sorted(
            zip(rows.tolist(), columns.tolist(), strict=True),
            key=lambda at: (-margins[at], ids[at[0]], classes[at[1]]),
        )
        found += [
            LabelError(
                image=ids[at[0]],
                label=classes[at[1]],
                kind=kind,
                score=float(scores[at]),
                threshold=float(scores[at] - margins[at]),
                rank=rank,
            )
            for rank, at in enumerate(order, start=1)
        ]
    return found
