"""Graph cut between foreground and background color models.

Simonyan, Vedaldi and Zisserman 2013, "Deep Inside Convolutional Networks", section 3.2: a
foreground color model is fitted to the strongest pixels of a class map, and a background model
to the weakest. A graph cut (Boykov and Jolly 2001) then divides the image. Solver, pairwise term
and the iterative mode are those of GrabCut (Rother, Kolmogorov and Blake 2004) in OpenCV.
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

#: Tag of foreground pixels.
FOREGROUND = 1
#: Added to color variances, in squared gray levels, so that a single color has a finite density.
COVARIANCE_FLOOR = 10.0
#: Largest number of pixels to fit a color model. More pixels cost much and change it little.
SAMPLE = 5000
#: Smallest number of pixels for each Gaussian.
PIXELS_PER_COMPONENT = 10
#: Number of components in OpenCV's mixtures.
COMPONENTS = 5
#: Log-densities below this underflow to 0 in OpenCV, and their logarithm becomes infinite.
UNDERFLOW = -690.0


@dataclass(frozen=True)
class GraphCutSettings:
    """Parameters of the graph cut; the attributes are the keys of a ``graph_cut`` section.

    Attributes
    ----------
    foreground_quantile, background_quantile : float
        Quantiles of the map values of an image. The foreground model is fitted to pixels from
        the first one upwards, the background model to pixels up to the second.
    components : int
        Number of Gaussians in a color model, at most 5.
    mode : {"frozen", "iterative"}
        Cut once with the fitted models, or alternate between cuts and refits (GrabCut).
    iterations : int
        Number of refits in the iterative mode.
    keep : {"largest", "all"}
        Connected components of the foreground to keep.
    """

    foreground_quantile: float = 0.95
    background_quantile: float = 0.30
    components: int = COMPONENTS
    mode: str = "frozen"
    iterations: int = 5
    keep: str = "largest"

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> "GraphCutSettings":
        """Create the settings from a ``graph_cut`` section of the configuration."""
        return cls(**section)


@dataclass(frozen=True)
class ColorModel:
    """A mixture of K Gaussians over colors.

    Attributes
    ----------
    weights : (K,) float64 array
        Weights of the Gaussians. They sum to 1.
    means : (K, 3) float64 array
    covariances : (K, 3, 3) float64 array
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def log_likelihood(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the log-density of the color of each pixel of an (H, W, 3) image."""
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
        """Return the model in OpenCV's layout: 5 weights, means and covariances in one row."""
        absent = COMPONENTS - len(self.weights)
        parts = (self.weights, self.means, self.covariances)
        padded = [np.concatenate([part, np.zeros((absent, *part.shape[1:]))]) for part in parts]
        return np.concatenate([part.ravel() for part in padded])[None]

    @classmethod
    def from_opencv(cls, row: NDArray[np.float64]) -> "ColorModel":
        """Create a model from a row that OpenCV refitted, without components of weight 0.

        :data:`COVARIANCE_FLOOR` is added, since a refit to a single color has variance 0.
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
        Probability of the foreground from the color alone, with equal priors.
    """

    foreground: NDArray[np.bool_]
    posterior: NDArray[np.float32]


def tag_pixels(strength: NDArray[np.float32], settings: GraphCutSettings) -> NDArray[np.uint8]:
    """Tag the pixels that the color models are fitted to.

    Parameters
    ----------
    strength : (H, W) float32 array
        Non-negative map of one class.
    settings : GraphCutSettings

    Returns
    -------
    (H, W) uint8 array
        1 foreground, 0 background, 255 uncertain. A constant map has no foreground.
    """
    low, high = np.quantile(
        strength, [settings.background_quantile, settings.foreground_quantile]
    ).astype(np.float32)
    tags = np.full(strength.shape, IGNORE, np.uint8)
    tags[strength >= high] = FOREGROUND
    tags[strength <= low] = BACKGROUND
    return tags


def fit_color_model(colors: NDArray[np.uint8], components: int) -> ColorModel:
    """Fit a mixture of Gaussians by expectation maximization; the result is deterministic.

    Parameters
    ----------
    colors : (N, 3) uint8 array
        At least one color. A random sample of 5000 is used if there are more.
    components : int
        Largest number of Gaussians. There are fewer if there are few pixels or few colors.

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
    # With so little data, one thread is ten times as fast as several.
    with threadpool_limits(1):
        mixture.fit(colors.astype(np.float64))
    return ColorModel(mixture.weights_, mixture.means_, mixture.covariances_)


def cut_class(
    image: NDArray[np.uint8], strength: NDArray[np.float32], settings: GraphCutSettings
) -> Cut:
    """Compute the foreground of one class.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    strength : (H, W) float32 array
        Non-negative map of the class.
    settings : GraphCutSettings

    Returns
    -------
    Cut
        All pixels are background if the map is constant or the cut finds no foreground.
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
    """Compute the labeling with the lowest energy under two fixed color models.

    The energy is the sum of -log p(color) over the pixels, each under the model of its label,
    plus ``50 exp(-beta |difference of colors|^2) / distance`` over all pairs of 8-neighbors with
    different labels; beta is 1 / (2 mean squared difference) (Rother et al. 2004, eq. 2 to 11).

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    background, foreground : ColorModel

    Returns
    -------
    Cut
        No foreground if no pixel is likelier under the foreground model.
    """
    inside, outside = foreground.log_likelihood(image), background.log_likelihood(image)
    wins = inside > outside
    posterior = _posterior(inside, outside)
    if wins.all() or not wins.any():
        return Cut(wins, posterior)
    mask = np.where(wins, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    # If both densities underflow, OpenCV would compute the difference of two infinities. Pixels
    # with an underflowing density are therefore fixed to their likelier side. If only one of the
    # densities underflows, this does not change the cut: no neighbors can outweigh it.
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
    """Alternate between refitting the color models to a cut and cutting again (GrabCut).

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    cut : Cut
        Initial cut.
    background, foreground : ColorModel
        Initial models. They assign the pixels of each side to components.
    iterations : int
        Number of refits.

    Returns
    -------
    Cut
        The posterior is that of the refitted models. If the refit leaves one side without pixels,
        which happens if a side has a single color, the initial cut is returned.
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
    """Return the probability of the foreground from the log-likelihoods of both models."""
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
    """Run OpenCV's graph cut; a refit changes the models in place."""
    cv2.setRNGSeed(0)
    cv2.grabCut(image, mask, (0, 0, 0, 0), *models, iterations, mode)  # the rectangle is unused
    inside: NDArray[np.bool_] = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return inside


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest 8-connected component of an (H, W) mask; the first of equal ones.

    Examples
    --------
    >>> largest_component(np.array([[1, 1, 0, 1]], bool)).tolist()
    [[True, True, False, False]]
    """
    # skimage.measure.label takes a fifth longer, and numbers equal components in another order.
    count, numbers, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    kept: NDArray[np.bool_] = numbers == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()
    return kept


def combine_cuts(
    cuts: Sequence[Cut], strengths: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Combine the cuts of several classes, which may overlap.

    A pixel gets the class with the highest product of posterior and map value. The posterior
    separates an object from its surroundings by color. If two objects have the same color, only
    the class maps separate them.

    Parameters
    ----------
    cuts : sequence of K Cut
    strengths : (K, H, W) float32 array
        Maps of the classes.

    Returns
    -------
    winners : (H, W) integer array
        0 for pixels in no cut, otherwise the position of the class from 1. Ties go to the first
        class.
    probabilities : (H, W) float32 array
        Posterior of the winner. For the background, 1 minus the highest posterior.
    """
    inside = np.stack([cut.foreground for cut in cuts])
    posteriors = np.stack([cut.posterior for cut in cuts])
    best = np.where(inside, posteriors * strengths, -1).argmax(axis=0)
    covered = inside.any(axis=0)
    of_winner = np.take_along_axis(posteriors, best[None], axis=0)[0]
    probabilities = np.where(covered, of_winner, 1 - posteriors.max(axis=0))
    return np.where(covered, best + 1, 0), probabilities
