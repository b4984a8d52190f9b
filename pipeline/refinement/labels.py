"""Label images from class maps: background threshold, dense CRF or graph cut, and regions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.io.arrays import BACKGROUND, IGNORE, ClassMaps
from pipeline.io.images import cell_side
from pipeline.io.regions import Regions
from pipeline.refinement.dense_crf import CrfSettings, DenseCrf, label_probabilities
from pipeline.refinement.graph_cut import GraphCutSettings, combine_cuts, cut_class
from pipeline.refinement.region_votes import RegionSettings, vote

Maps = NDArray[np.float32]

#: Functions from the strongest class score to the score of the background, by name.
BACKGROUND_RULES: dict[str, Callable[[Maps, float], Maps]] = {
    "threshold": np.full_like,
    # Ahn and Kwak 2018 (AffinityNet), eq. 2.
    "power": lambda strongest, value: (1 - strongest) ** np.float32(value),
}


def upsampled(maps: ClassMaps) -> Maps:
    """Upsample class maps to the resolution of their image.

    Parameters
    ----------
    maps : ClassMaps
        K maps at a fraction of the resolution.

    Returns
    -------
    (K, H, W) float32 array
        The maps at full resolution if they are stored. Otherwise the cells are upsampled by
        bilinear interpolation between their centers, and the result is cropped to the image.

    Raises
    ------
    UserError
        If the number of cells fits no stride.
    """
    if maps.full is not None:
        return maps.full.astype(np.float32)
    rows, columns = maps.values.shape[1:]
    return enlarged(maps.values, maps.size, cell_side(maps.size, (rows, columns)))


def enlarged(values: NDArray[np.floating], size: tuple[int, int], side: int) -> Maps:
    """Upsample (K, h, w) maps by a whole factor (bilinear) and crop them to a size.

    Parameters
    ----------
    values : (K, h, w) float array
    size : (int, int)
        Height H and width W of the result.
    side : int
        Side of a cell in pixels.

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
    """Prepend the score of the background to the class scores.

    Parameters
    ----------
    maps : (K, H, W) float32 array
        Class scores in [0, 1].
    rule : {"threshold", "power"}
        A constant ``value``, or (1 - strongest class score) ** ``value``.
    value : float

    Returns
    -------
    (K + 1, H, W) float32 array

    Examples
    --------
    >>> maps = np.array([[[0.2, 0.8]]], np.float32)
    >>> scores_with_background(maps, "threshold", 0.5)[0].round(3).tolist()
    [[0.5, 0.5]]
    """
    strongest = maps.max(axis=0, initial=0.0)
    background = BACKGROUND_RULES[rule](strongest, value)
    return np.concatenate([background[None], maps]).astype(np.float32)


@dataclass(frozen=True)
class Labeling:
    """The labels of all pixels of an image, with their probabilities.

    Attributes
    ----------
    numbers : (L,) uint8 array
        Label values: 0 (background) first, then the classes of the image.
    winners : (H, W) integer array
        Position of the chosen label in ``numbers``.
    initial : (H, W) integer array
        Position of the label from the class maps alone, before regions, a CRF or a graph cut.
    probabilities : (L, H, W) float32 array
        Probability of each label. They sum to 1.
    certainty : (H, W) float32 array
        Probability of the chosen label.
    support : (H, W) float32 array
        Probability of the chosen label from the class maps alone, before regions and a CRF. The
        probabilities of the CRF itself are nearly all close to 1. After a graph cut, it is that of
        the color models.
    """

    numbers: NDArray[np.uint8]
    winners: NDArray[np.intp]
    initial: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    certainty: NDArray[np.float32]
    support: NDArray[np.float32]

    def label_image(self, uncertain_below: float | None) -> NDArray[np.uint8]:
        """Return the (H, W) label image; pixels with a lower support become 255."""
        label: NDArray[np.uint8] = self.numbers[self.winners]
        if uncertain_below is not None:
            label[self.support < uncertain_below] = IGNORE
        return label


def label_by_scores(
    maps: ClassMaps,
    image: NDArray[np.uint8] | None,
    regions: Regions | None = None,
    *,
    background: Mapping[str, Any],
    crf: CrfSettings | None,
    voting: RegionSettings | None = None,
) -> Labeling:
    """Label one image by its class maps and a background score.

    Parameters
    ----------
    maps : ClassMaps
        Maps of the image's classes. Without classes, all pixels are background.
    image : (H, W, 3) uint8 array or None
        The image. Only the CRF needs it.
    regions : Regions, optional
        Regions of the image, for ``voting``.
    background : mapping
        Keys ``rule`` and ``value``.
    crf : CrfSettings or None
        Settings of a dense CRF that refines the labels; None for no CRF.
    voting : RegionSettings, optional
        Settings of a vote in the regions, before or after the CRF; None for no vote.

    Returns
    -------
    Labeling
        Probabilities are those of the last step: the vote, the CRF, or the scores divided by their
        sum. Ties go to the background, then to the lower class number.
    """
    return _labeling(maps, background, _crf_on(maps, image, crf), _Vote(regions, voting))


@dataclass(frozen=True)
class _Vote:
    """The regions of an image with the settings of their vote; nothing without both."""

    regions: Regions | None = None
    settings: RegionSettings | None = None

    @property
    def before_crf(self) -> bool:
        return self.settings is not None and self.settings.before_crf

    @property
    def after_crf(self) -> bool:
        return self.settings is not None and self.settings.after_crf

    def __call__(self, winners: NDArray[np.intp], probabilities: Maps) -> tuple[Any, Maps]:
        if self.regions is None or self.settings is None:
            return winners, probabilities
        return vote(winners, probabilities, self.regions, self.settings)


def _crf_on(
    maps: ClassMaps, image: NDArray[np.uint8] | None, crf: CrfSettings | None
) -> DenseCrf | None:
    return None if crf is None or image is None else DenseCrf(image, 1 + len(maps.classes), crf)


def _labeling(
    maps: ClassMaps,
    background: Mapping[str, Any],
    crf: DenseCrf | None,
    voted: _Vote = _Vote(),
) -> Labeling:
    scores = scores_with_background(upsampled(maps), **background)
    initial = winners = scores.argmax(axis=0)
    from_maps = probabilities = _normalized(scores)
    if crf is None or voted.before_crf:
        winners, probabilities = voted(winners, probabilities)
    if crf is not None:
        if crf.settings.unary == "labels":
            probabilities = label_probabilities(winners, len(scores), crf.settings.gt_prob)
        probabilities = crf.posterior(probabilities)
        winners = probabilities.argmax(axis=0)
        if voted.after_crf:
            winners, probabilities = voted(winners, probabilities)
    return Labeling(
        _numbers(maps),
        winners,
        initial,
        probabilities,
        certainty=probabilities.max(axis=0),
        support=_of_winners(from_maps, winners),
    )


def _of_winners(probabilities: Maps, winners: NDArray[np.intp]) -> Maps:
    """Return the (H, W) probabilities of the chosen labels."""
    chosen: Maps = np.take_along_axis(probabilities, winners[None], axis=0)[0]
    return chosen


def label_by_graph_cut(
    maps: ClassMaps,
    image: NDArray[np.uint8] | None,
    regions: Regions | None = None,
    *,
    background: Mapping[str, Any],
    settings: GraphCutSettings,
    voting: RegionSettings | None = None,
) -> Labeling:
    """Label one image by a graph cut for each of its classes.

    Parameters
    ----------
    maps : ClassMaps
        Maps of the image's classes. Without classes, all pixels are background.
    image : (H, W, 3) uint8 array or None
        The image. It is needed if the image has a class.
    regions : Regions, optional
        Regions of the image, for ``voting``.
    background : mapping
        Keys ``rule`` and ``value``, for the initial label only.
    settings : GraphCutSettings
    voting : RegionSettings, optional
        Settings of a vote in the regions, after the cut; None for no vote.

    Returns
    -------
    Labeling
        Probabilities are computed from colors alone: the posterior of each class, and 1 minus the
        highest posterior for the background, divided by their sum. The cut may choose a label
        with a lower probability.
    """
    initial = label_by_scores(maps, None, background=background, crf=None)
    if len(maps.classes) == 0 or image is None:
        return initial
    strengths = upsampled(maps)
    cuts = [cut_class(image, strength, settings) for strength in strengths]
    winners, certainty = combine_cuts(cuts, strengths)
    posteriors = np.stack([cut.posterior for cut in cuts])
    scores = np.concatenate([1 - posteriors.max(axis=0, keepdims=True), posteriors])
    from_colors = probabilities = _normalized(scores.astype(np.float32))
    support = certainty
    if regions is not None and voting is not None:
        winners, probabilities = vote(winners, probabilities, regions, voting)
        certainty = _of_winners(probabilities, winners)
        support = _of_winners(from_colors, winners)
    return Labeling(
        initial.numbers,
        winners,
        initial.initial,
        probabilities,
        certainty=certainty,
        support=support,
    )


def labeler_of(
    background: Mapping[str, Any],
    crf: Mapping[str, Any] | None,
    graph_cut: Mapping[str, Any] | None,
    regions: Mapping[str, Any] | None = None,
) -> Callable[..., Labeling]:
    """Return the picklable function that labels an image with a refinement's settings.

    Its arguments are the :class:`ClassMaps`, the (H, W, 3) image or None, and the
    :class:`Regions` if there is a section ``regions``.
    """
    voting = RegionSettings.from_config(regions) if regions else None
    if graph_cut is not None:
        cut = GraphCutSettings.from_config(graph_cut)
        return partial(label_by_graph_cut, background=background, settings=cut, voting=voting)
    settings = CrfSettings.from_config(crf) if crf else None
    return partial(label_by_scores, background=background, crf=settings, voting=voting)


def confident_label(
    maps: ClassMaps,
    image: NDArray[np.uint8] | None,
    *,
    foreground: float,
    background: float,
    crf: CrfSettings | None,
) -> NDArray[np.uint8]:
    """Label the confident pixels of an image (IRN, section 4.1).

    Parameters
    ----------
    maps : ClassMaps
        Maps of the image's classes.
    image : (H, W, 3) uint8 array or None
        The image. Only the CRF needs it.
    foreground, background : float
        Two background thresholds. Pixels that are foreground at the higher threshold are
        confident foreground. Pixels that are background at the lower threshold are confident
        background.
    crf : CrfSettings or None
        Settings of a dense CRF that refines the labels of both thresholds; None for no CRF.

    Returns
    -------
    (H, W) uint8 array
        0 background, class numbers, 255 uncertain.
    """
    shared = _crf_on(maps, image, crf)
    confident, possible = (
        _labeling(maps, {"rule": "threshold", "value": value}, shared).label_image(None)
        for value in (foreground, background)
    )
    label: NDArray[np.uint8] = np.where(
        (confident == BACKGROUND) & (possible != BACKGROUND), IGNORE, confident
    )
    return label


def _numbers(maps: ClassMaps) -> NDArray[np.uint8]:
    """Return the label values of an image, the background first."""
    return np.concatenate([[BACKGROUND], maps.classes]).astype(np.uint8)


def _normalized(scores: Maps) -> Maps:
    """Divide scores by their sum; where all are zero, the background gets probability 1."""
    total = scores.sum(axis=0)
    safe = np.asarray(scores / np.where(total > 0, total, 1), np.float32)
    safe[0, total == 0] = 1
    return safe
