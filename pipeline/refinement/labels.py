"""From class maps to a label image: background score and dense CRF, or graph cut."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import BACKGROUND, IGNORE, ClassMaps
from pipeline.io.images import cell_side
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
        The full maps, where there are some. Of others each cell is enlarged to its pixels, bilinear
        between the cells' centers, and what reaches over the image is cut off.

    Raises
    ------
    UserError
        If no stride makes that many cells of the image.
    """
    if maps.full is not None:
        return maps.full.astype(np.float32)
    rows, columns = maps.values.shape[1:]
    return enlarged(maps.values, maps.size, cell_side(maps.size, (rows, columns)))


def enlarged(values: NDArray[np.floating], size: tuple[int, int], side: int) -> Maps:
    """Enlarge (K, h, w) maps by a whole factor, bilinear, and cut off what is beyond a size.

    Parameters
    ----------
    values : (K, h, w) float array
    size : (int, int)
        Height H and width W of the result.
    side : int
        Pixels along a cell's side.

    Returns
    -------
    (K, H, W) float32 array
    """
    height, width = size
    rows, columns = values.shape[1:]
    full = np.zeros((len(values), height, width), np.float32)
    for cells, target in zip(values, full, strict=True):
        whole = cv2.resize(
            cells.astype(np.float32),
            (side * columns, side * rows),
            interpolation=cv2.INTER_LINEAR,
        )
        target[:] = whole[:height, :width]
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


@dataclass(frozen=True)
class Labeling:
    """What is known about the label of every pixel of an image.

    Attributes
    ----------
    numbers : (L,) uint8 array
        Label values, 0 (background) first, then the image's classes.
    winners : (H, W) integer array
        Position of the chosen label in ``numbers``.
    initial : (H, W) integer array
        Position of the label that the maps alone lead to, before a CRF or a graph cut.
    probabilities : (L, H, W) float32 array
        Probability of every label; they sum to 1.
    certainty : (H, W) float32 array
        Probability of the chosen label.
    support : (H, W) float32 array
        What the maps alone give to the chosen label, before a CRF, whose own probabilities
        are nearly all close to 1; behind a graph cut the same as the certainty.
    """

    numbers: NDArray[np.uint8]
    winners: NDArray[np.intp]
    initial: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    certainty: NDArray[np.float32]
    support: NDArray[np.float32]

    def label_image(self, uncertain_below: float | None) -> NDArray[np.uint8]:
        """Give the (H, W) label image; pixels whose support is lower become 255."""
        label: NDArray[np.uint8] = self.numbers[self.winners]
        if uncertain_below is not None:
            label[self.support < uncertain_below] = IGNORE
        return label


def label_by_scores(
    maps: ClassMaps,
    image: NDArray[np.uint8] | None,
    *,
    background: Mapping[str, Any],
    crf: CrfSettings | None,
) -> Labeling:
    """Label one image by its class maps and a score of the background.

    Parameters
    ----------
    maps : ClassMaps
        Maps of the classes the image is labeled with; none gives all background.
    image : (H, W, 3) uint8 array or None
        The photograph; needed by the CRF alone.
    background : mapping
        Keys ``rule`` and ``value``.
    crf : CrfSettings or None
        Refine with a dense CRF.

    Returns
    -------
    Labeling
        Probabilities are the CRF's, or the scores divided by their sum. Ties go to the
        background, then to the lower class number.
    """
    scores = scores_with_background(upsampled(maps), **background)
    initial = winners = scores.argmax(axis=0)
    shares = probabilities = _normalized(scores)
    if crf is not None and image is not None:
        if crf.unary == "labels":
            probabilities = label_probabilities(initial, len(scores), crf.gt_prob)
        probabilities = dense_crf(image, probabilities, crf)
        winners = probabilities.argmax(axis=0)
    return Labeling(
        _numbers(maps),
        winners,
        initial,
        probabilities,
        certainty=probabilities.max(axis=0),
        support=np.take_along_axis(shares, winners[None], axis=0)[0],
    )


def label_by_graph_cut(
    maps: ClassMaps,
    image: NDArray[np.uint8] | None,
    *,
    background: Mapping[str, Any],
    settings: GraphCutSettings,
) -> Labeling:
    """Label one image by a graph cut for each of its classes.

    Parameters
    ----------
    maps : ClassMaps
        Maps of the classes the image is labeled with; none gives all background.
    image : (H, W, 3) uint8 array or None
        The photograph; needed where the image has a class.
    background : mapping
        Keys ``rule`` and ``value``, of the initial label alone.
    settings : GraphCutSettings

    Returns
    -------
    Labeling
        Probabilities are those of the colors alone: a class's posterior, and of the
        background that of no class, divided by their sum. The cut may decide against them.
    """
    initial = label_by_scores(maps, None, background=background, crf=None)
    if len(maps.classes) == 0 or image is None:
        return initial
    strengths = upsampled(maps)
    cuts = [cut_class(image, strength, settings) for strength in strengths]
    winners, certainty = combine_cuts(cuts, strengths)
    posteriors = np.stack([cut.posterior for cut in cuts])
    scores = np.concatenate([1 - posteriors.max(axis=0, keepdims=True), posteriors])
    probabilities = _normalized(scores.astype(np.float32))
    return Labeling(
        initial.numbers,
        winners,
        initial.initial,
        probabilities,
        certainty=certainty,
        support=certainty,
    )


def labeler_of(
    background: Mapping[str, Any],
    crf: Mapping[str, Any] | None,
    graph_cut: Mapping[str, Any] | None,
) -> Callable[[ClassMaps, NDArray[np.uint8] | None], Labeling]:
    """Give the function that labels an image as a refinement's sections say; it is picklable."""
    if graph_cut is not None:
        cut = GraphCutSettings.from_config(graph_cut)
        return partial(label_by_graph_cut, background=background, settings=cut)
    settings = CrfSettings.from_config(crf) if crf else None
    return partial(label_by_scores, background=background, crf=settings)


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
        Maps of the classes the image is labeled with.
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
        label_by_scores(
            maps, image, background={"rule": "threshold", "value": value}, crf=crf
        ).label_image(None)
        for value in (foreground, background)
    )
    label: NDArray[np.uint8] = np.where(
        (sure == BACKGROUND) & (possible != BACKGROUND), IGNORE, sure
    )
    return label


def _numbers(maps: ClassMaps) -> NDArray[np.uint8]:
    return np.concatenate([[BACKGROUND], maps.classes]).astype(np.uint8)


def _normalized(scores: Maps) -> Maps:
    """Divide scores by their sum; where all are zero the background is certain."""
    total = scores.sum(axis=0)
    safe = np.asarray(scores / np.where(total > 0, total, 1), np.float32)
    safe[0, total == 0] = 1
    return safe
