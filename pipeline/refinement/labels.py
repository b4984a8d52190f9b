"""From class maps to a label image: background score and dense CRF, or graph cut."""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import BACKGROUND, IGNORE, ClassMaps
from pipeline.refinement.dense_crf import CrfSettings, dense_crf, label_probabilities
from pipeline.refinement.graph_cut import GraphCutSettings, combine_cuts, cut_class

Maps = NDArray[np.float32]

#: Score of the background from the strongest class's score, by name of the rule.
BACKGROUND_RULES: dict[str, Callable[[Maps, float], Maps]] = {
    "threshold": np.full_like,
    # Ahn and Kwak 2018 (AffinityNet), eq. 2.
    "power": lambda strongest, value: (1 - strongest) ** np.float32(value),
}


def upsampled(maps: ClassMaps) -> Maps:
    """Bring maps to their image's resolution.

    Parameters
    ----------
    maps : ClassMaps
        K maps at a fraction of the resolution.

    Returns
    -------
    (K, H, W) float32 array
        Bilinear between cell centres.
    """
    height, width = maps.size
    full = np.zeros((len(maps.classes), height, width), np.float32)
    for values, target in zip(maps.values, full, strict=True):
        cv2.resize(
            values.astype(np.float32), (width, height), target, interpolation=cv2.INTER_LINEAR
        )
    return full


def scores_with_background(maps: Maps, rule: str, value: float) -> Maps:
    """Put the background's score before the classes'.

    Parameters
    ----------
    maps : (K, H, W) float32 array
        Class scores in [0, 1].
    rule : {"threshold", "power"}
        A constant ``value``, or (1 - strongest class) ** ``value``.
    value : float

    Returns
    -------
    (K + 1, H, W) float32 array
    """
    strongest = maps.max(axis=0, initial=0.0)
    background = BACKGROUND_RULES[rule](strongest, value)
    return np.concatenate([background[None], maps]).astype(np.float32)


def label_image(
    maps: ClassMaps,
    image: NDArray[np.uint8] | None,
    *,
    background: Mapping[str, Any],
    crf: CrfSettings | None,
    unsure_below: float | None,
) -> NDArray[np.uint8]:
    """Make the pseudo-label of one image from its class maps.

    Parameters
    ----------
    maps : ClassMaps
        Maps of the classes the image is labelled with; none gives all background.
    image : (H, W, 3) uint8 array or None
        The photograph; needed by the CRF alone.
    background : mapping
        Keys ``rule`` and ``value``.
    crf : CrfSettings or None
        Refine with a dense CRF.
    unsure_below : float or None
        Pixels whose winning probability (after the CRF, or of the normalised scores) is
        lower become 255.

    Returns
    -------
    (H, W) uint8 array
        0 background, class numbers, 255 unsure. Ties go to the background, then to the
        lower class number.
    """
    scores = scores_with_background(upsampled(maps), **background)
    probabilities = _normalised(scores)
    if crf is not None and image is not None:
        if crf.unary == "labels":
            winner = scores.argmax(axis=0)
            probabilities = label_probabilities(winner, len(scores), crf.gt_prob)
        probabilities = dense_crf(image, probabilities, crf)
        scores = probabilities
    numbers = np.concatenate([[0], maps.classes]).astype(np.uint8)
    label: NDArray[np.uint8] = numbers[scores.argmax(axis=0)]
    if unsure_below is not None:
        label[probabilities.max(axis=0) < unsure_below] = IGNORE
    return label


def graph_cut_label(
    maps: ClassMaps,
    image: NDArray[np.uint8],
    *,
    settings: GraphCutSettings,
    unsure_below: float | None,
) -> NDArray[np.uint8]:
    """Make the pseudo-label of one image by a graph cut for each of its classes.

    Parameters
    ----------
    maps : ClassMaps
        Maps of the classes the image is labelled with; none gives all background.
    image : (H, W, 3) uint8 array
        The photograph.
    settings : GraphCutSettings
    unsure_below : float or None
        Pixels whose winner is less probable, by colour, become 255.

    Returns
    -------
    (H, W) uint8 array
        0 background, class numbers, 255 unsure.
    """
    if len(maps.classes) == 0:
        return np.zeros(maps.size, np.uint8)
    strengths = upsampled(maps)
    cuts = [cut_class(image, strength, settings) for strength in strengths]
    winners, probabilities = combine_cuts(cuts, strengths)
    label: NDArray[np.uint8] = np.concatenate([[0], maps.classes]).astype(np.uint8)[winners]
    if unsure_below is not None:
        label[probabilities < unsure_below] = IGNORE
    return label


def confident_label(
    maps: ClassMaps,
    image: NDArray[np.uint8] | None,
    *,
    foreground: float,
    background: float,
    crf: CrfSettings | None,
) -> NDArray[np.uint8]:
    """Keep of an image what its class maps are sure of (IRN, section 4.1).

    Parameters
    ----------
    maps : ClassMaps
        Maps of the classes the image is labelled with.
    image : (H, W, 3) uint8 array or None
        The photograph; needed by the CRF alone.
    foreground, background : float
        What is a class at the higher threshold surely is one; what is background at the
        lower threshold too surely is background.
    crf : CrfSettings or None
        Refine the labels of both thresholds with a dense CRF.

    Returns
    -------
    (H, W) uint8 array
        0 background, class numbers, 255 unsure.
    """
    sure, possible = (
        label_image(
            maps,
            image,
            background={"rule": "threshold", "value": value},
            crf=crf,
            unsure_below=None,
        )
        for value in (foreground, background)
    )
    label: NDArray[np.uint8] = np.where(
        (sure == BACKGROUND) & (possible != BACKGROUND), IGNORE, sure
    )
    return label


def _normalised(scores: Maps) -> Maps:
    """Divide scores by their sum; where all are zero the background is certain."""
    total = scores.sum(axis=0)
    safe = np.asarray(scores / np.where(total > 0, total, 1), np.float32)
    safe[0, total == 0] = 1
    return safe
