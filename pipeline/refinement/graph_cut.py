"""Foreground and background color models, and the minimum cut between them.

Simonyan, Vedaldi and Zisserman 2013, "Deep Inside Convolutional Networks", section 3.2: the
strongest pixels of a class map teach a foreground color model, the weakest ones a background
model, and a graph cut (Boykov and Jolly 2001) parts the image between them. Engine, pairwise
term and the iterative mode are those of GrabCut (Rother, Kolmogorov and Blake 2004) in OpenCV.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from pipeline.io.arrays import BACKGROUND, IGNORE

#: Value of a pixel that is tagged as foreground.
FOREGROUND = 1
#: Added to the color variances, in gray levels squared: a single color has a density too.
COVARIANCE_FLOOR = 10.0
#: Pixels that a color model is fitted on at most; more change it little and cost much.
SAMPLE = 5000
#: Pixels that a Gaussian needs at least.
PIXELS_PER_COMPONENT = 10
#: OpenCV's mixtures have this many components.
COMPONENTS = 5
#: Log-densities below this are 0 in OpenCV's arithmetic, and their logarithm infinite.
UNDERFLOW = -690.0


@dataclass(frozen=True)
class GraphCutSettings:
    """Parameters of the cut; the attributes are the keys of a ``graph_cut`` section.

    Attributes
    ----------
    foreground_quantile, background_quantile : float
        Of an image's map values: pixels above the one and not above the other teach the
        color models.
    components : int
        Gaussians of a color model, at most 5.
    mode : {"frozen", "iterative"}
        Cut once between the fitted models, or refit them to the cut in turns (GrabCut).
    iterations : int
        Turns of the iterative mode.
    keep : {"largest", "all"}
        Which connected components of the foreground stay.
    """

    foreground_quantile: float = 0.95
    background_quantile: float = 0.30
    components: int = COMPONENTS
    mode: str = "frozen"
    iterations: int = 5
    keep: str = "largest"

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> "GraphCutSettings":
        """Take the settings from a ``graph_cut`` section of the configuration."""
        return cls(**section)


@dataclass(frozen=True)
class ColorModel:
    """A mixture of K Gaussians over colors.

    Attributes
    ----------
    weights : (K,) float64 array
        Sum to 1.
    means : (K, 3) float64 array
    covariances : (K, 3, 3) float64 array
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def log_likelihood(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the logarithm of the density at the color of each of (H, W, 3) pixels."""
        pixels = image.reshape(-1, 3).astype(np.float32)
        parts = np.empty((len(self.weights), len(pixels)), np.float32)
        for part, weight, mean, covariance in zip(
            parts, self.weights, self.means, self.covariances, strict=True
        ):
            whitening = np.linalg.inv(np.linalg.cholesky(covariance))
            white = (pixels - mean.astype(np.float32)) @ whitening.T.astype(np.float32)
            scale = np.log(weight * np.linalg.det(whitening)) - 1.5 * np.log(2 * np.pi)
            part[:] = np.float32(scale) - np.einsum("nc,nc->n", white, white) / 2
        peak = parts.max(axis=0)
        total: NDArray[np.float32] = peak + np.log(np.exp(parts - peak).sum(axis=0))
        return total.reshape(image.shape[:2])

    def to_opencv(self) -> NDArray[np.float64]:
        """Lay the model out as OpenCV does: 5 weights, means and covariances in one row."""
        absent = COMPONENTS - len(self.weights)
        parts = (self.weights, self.means, self.covariances)
        padded = [np.concatenate([part, np.zeros((absent, *part.shape[1:]))]) for part in parts]
        return np.concatenate([part.ravel() for part in padded])[None]

    @classmethod
    def from_opencv(cls, row: NDArray[np.float64]) -> "ColorModel":
        """Read a row that OpenCV has refitted; components without weight are left out.

        :data:`COVARIANCE_FLOOR` is added: a refit to one color has a variance of zero.
        """
        weights, means, covariances = np.split(row[0], [COMPONENTS, 4 * COMPONENTS])
        used = weights > 0
        broad = covariances.reshape(-1, 3, 3)[used] + COVARIANCE_FLOOR * np.eye(3)
        return cls(weights[used], means.reshape(-1, 3)[used], broad)


@dataclass(frozen=True)
class Cut:
    """The foreground of one class.

    Attributes
    ----------
    foreground : (H, W) bool array
    posterior : (H, W) float32 array
        Probability of the foreground by color alone, both sides equally likely before.
    """

    foreground: NDArray[np.bool_]
    posterior: NDArray[np.float32]


def tag_pixels(strength: NDArray[np.float32], settings: GraphCutSettings) -> NDArray[np.uint8]:
    """Tag the pixels that teach the color models.

    Parameters
    ----------
    strength : (H, W) float32 array
        One class's map, not below 0.
    settings : GraphCutSettings

    Returns
    -------
    (H, W) uint8 array
        1 foreground, 0 background, 255 unsure. A map of one value has no foreground.
    """
    low, high = np.quantile(
        strength, [settings.background_quantile, settings.foreground_quantile]
    ).astype(np.float32)
    tags = np.full(strength.shape, IGNORE, np.uint8)
    tags[strength >= high] = FOREGROUND
    tags[strength <= low] = BACKGROUND
    return tags


def fit_color_model(colors: NDArray[np.uint8], components: int) -> ColorModel:
    """Fit a mixture of Gaussians by expectation maximization, the same one every time.

    Parameters
    ----------
    colors : (N, 3) uint8 array
        At least one; of more than 5000 a random 5000 are used.
    components : int
        Gaussians at most; fewer where there are few pixels or few colors.

    Returns
    -------
    ColorModel
    """
    if len(colors) > SAMPLE:
        chosen = np.random.default_rng(0).choice(len(colors), SAMPLE, replace=False)
        colors = colors[chosen]
    distinct = len(np.unique(colors, axis=0))
    count = max(1, min(components, distinct, len(colors) // PIXELS_PER_COMPONENT))
    if distinct == 1:
        floor = COVARIANCE_FLOOR * np.eye(3)
        return ColorModel(np.ones(1), colors[:1].astype(np.float64), floor[None])
    mixture = GaussianMixture(count, reg_covar=COVARIANCE_FLOOR, random_state=0)
    # For as few numbers, threads only wait for one another: one is ten times as fast.
    with threadpool_limits(1):
        mixture.fit(colors.astype(np.float64))
    return ColorModel(mixture.weights_, mixture.means_, mixture.covariances_)


def cut_class(
    image: NDArray[np.uint8], strength: NDArray[np.float32], settings: GraphCutSettings
) -> Cut:
    """Part an image into the object of one class and the rest.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    strength : (H, W) float32 array
        The class's map, not below 0.
    settings : GraphCutSettings

    Returns
    -------
    Cut
        All background where the map has one value, or the cut finds no object.
    """
    tags = tag_pixels(strength, settings)
    if not (tags == FOREGROUND).any():
        return Cut(np.zeros(tags.shape, bool), np.zeros(tags.shape, np.float32))
    background, foreground = (
        fit_color_model(image[tags == tag], settings.components) for tag in (BACKGROUND, FOREGROUND)
    )
    cut = minimum_cut(image, background, foreground)
    if settings.mode == "iterative":
        cut = refitted_cut(image, cut, background, foreground, settings.iterations)
    kept = largest_component(cut.foreground) if settings.keep == "largest" else cut.foreground
    return Cut(kept, cut.posterior)


def minimum_cut(image: NDArray[np.uint8], background: ColorModel, foreground: ColorModel) -> Cut:
    """Find the partition of least energy under two fixed color models.

    The energy is the sum of -log p(color) under each pixel's own model, and of
    ``50 exp(-beta |difference of colors|^2) / distance`` over the pairs of 8-neighbors that the
    partition divides; beta is 1 / (2 mean squared difference) (Rother et al. 2004, eq. 2 to 11).

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    background, foreground : ColorModel

    Returns
    -------
    Cut
        No foreground where no pixel's color speaks for it.
    """
    inside, outside = foreground.log_likelihood(image), background.log_likelihood(image)
    wins = inside > outside
    posterior = _posterior(inside, outside)
    if wins.all() or not wins.any():
        return Cut(wins, posterior)
    mask = np.where(wins, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    # Where both densities underflow, OpenCV would take the difference of two infinities, so
    # that such pixels are pinned to their likelier side. That changes the cut only where both
    # all but vanish: no neighbors outweigh one vanishing density.
    pinned = np.minimum(inside, outside) < UNDERFLOW
    mask[pinned & wins], mask[pinned & ~wins] = cv2.GC_FGD, cv2.GC_BGD
    models = background.to_opencv(), foreground.to_opencv()
    return Cut(_grab_cut(image, mask, models, 1, cv2.GC_EVAL_FREEZE_MODEL), posterior)


def refitted_cut(
    image: NDArray[np.uint8],
    cut: Cut,
    background: ColorModel,
    foreground: ColorModel,
    iterations: int,
) -> Cut:
    """Refit the color models to a cut and cut again, in turns (GrabCut).

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    cut : Cut
        Where to start from.
    background, foreground : ColorModel
        Models that part the pixels of each side among components at first.
    iterations : int
        Turns.

    Returns
    -------
    Cut
        The posterior is that of the refitted models. Where the refit leaves one side without
        pixels (it does where a side has a single color), the cut to start from.
    """
    if cut.foreground.all() or not cut.foreground.any():
        return cut
    mask = np.where(cut.foreground, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    models = background.to_opencv(), foreground.to_opencv()
    inside = _grab_cut(image, mask, models, iterations, cv2.GC_EVAL)
    if inside.all() or not inside.any():
        return cut
    refitted = (ColorModel.from_opencv(model) for model in models)
    outer, inner = (model.log_likelihood(image) for model in refitted)
    return Cut(inside, _posterior(inner, outer))


def _posterior(inside: NDArray[np.float32], outside: NDArray[np.float32]) -> NDArray[np.float32]:
    evidence = np.clip(outside - inside, -80, 80)  # exp(80) is finite in float32
    posterior: NDArray[np.float32] = 1 / (1 + np.exp(evidence))
    return posterior


def _grab_cut(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    models: tuple[NDArray[np.float64], NDArray[np.float64]],
    iterations: int,
    mode: int,
) -> NDArray[np.bool_]:
    """Run OpenCV's graph cut; it changes the models in place where it refits them."""
    cv2.setRNGSeed(0)
    cv2.grabCut(image, mask, (0, 0, 0, 0), *models, iterations, mode)  # no rectangle is read
    inside: NDArray[np.bool_] = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return inside


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest 8-connected component of an (H, W) mask, of equal ones the first."""
    count, numbers, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    kept: NDArray[np.bool_] = numbers == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()
    return kept


def combine_cuts(
    cuts: Sequence[Cut], strengths: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Resolve where the cuts of several classes overlap.

    The class with the higher posterior x strength has the pixel: the posterior says how
    much the color is of the object rather than of its surroundings, but a color that two
    objects share is told apart only by where each class's map is strong.

    Parameters
    ----------
    cuts : sequence of K Cut
    strengths : (K, H, W) float32 array
        The classes' maps.

    Returns
    -------
    winners : (H, W) integer array
        0 where no cut has the pixel, else the class's position from 1. Ties go to the first.
    probabilities : (H, W) float32 array
        Posterior of the winner; of the background, that of no class.
    """
    inside = np.stack([cut.foreground for cut in cuts])
    posteriors = np.stack([cut.posterior for cut in cuts])
    best = np.where(inside, posteriors * strengths, -1).argmax(axis=0)
    covered = inside.any(axis=0)
    of_winner = np.take_along_axis(posteriors, best[None], axis=0)[0]
    probabilities = np.where(covered, of_winner, 1 - posteriors.max(axis=0))
    return np.where(covered, best + 1, 0), probabilities
