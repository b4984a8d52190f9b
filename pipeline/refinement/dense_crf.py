"""Fully connected CRF with Gaussian edge potentials (Kraehenbuehl and Koltun 2011)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

#: Lower bound of probabilities before the logarithm.
FLOOR = 1e-5


@dataclass(frozen=True)
class CrfSettings:
    """Parameters of the dense CRF; the attributes are the keys of a ``crf`` section.

    Attributes
    ----------
    iterations : int
        Mean-field iterations.
    unary : {"labels", "scores"}
        Compute the unary from the winning label or from all scores.
    gt_prob : float
        Probability of the winning label, for ``unary="labels"``.
    gaussian_sxy : float
        Standard deviation of the position in the smoothness kernel, in pixels.
    gaussian_compat : float
        Weight of the smoothness kernel.
    bilateral_sxy : float
        Standard deviation of the position in the appearance kernel, in pixels.
    bilateral_srgb : float
        Standard deviation of the color in the appearance kernel, in gray levels.
    bilateral_compat : float
        Weight of the appearance kernel.
    """

    iterations: int = 10
    unary: str = "labels"
    gt_prob: float = 0.7
    gaussian_sxy: float = 3
    gaussian_compat: float = 3
    bilateral_sxy: float = 50
    bilateral_srgb: float = 5
    bilateral_compat: float = 10

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> "CrfSettings":
        """Create the settings from a ``crf`` section of the configuration."""
        return cls(**section)


class DenseCrf:
    """A dense CRF on one image, whose kernels serve several sets of probabilities.

    Their lattices take about a quarter of the time of ten iterations with three labels.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    labels : int
        Number of labels.
    settings : CrfSettings
    """

    def __init__(self, image: NDArray[np.uint8], labels: int, settings: CrfSettings) -> None:
        height, width = image.shape[:2]
        self.settings = settings
        self._crf = DenseCRF2D(width, height, labels) if labels > 1 else None
        if self._crf is None:
            return
        self._crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
        self._crf.addPairwiseBilateral(
            sxy=settings.bilateral_sxy,
            srgb=settings.bilateral_srgb,
            rgbim=np.array(image, order="C"),  # pydensecrf needs a writable array of its own
            compat=settings.bilateral_compat,
        )

    def posterior(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the mean-field posterior, as :func:`dense_crf`."""
        if self._crf is None:
            return np.ones(probabilities.shape, np.float32)
        unary = -np.log(np.clip(probabilities, FLOOR, 1.0), dtype=np.float32)
        self._crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(len(unary), -1)))
        posterior = np.array(self._crf.inference(self.settings.iterations), dtype=np.float32)
        return posterior.reshape(probabilities.shape)


def dense_crf(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], settings: CrfSettings
) -> NDArray[np.float32]:
    """Compute the mean-field posterior of a dense CRF (Kraehenbuehl and Koltun 2011, eq. 1 to 4).

    Cost and memory grow with the number of labels, so pass only labels that can win.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    probabilities : (L, H, W) float array
        Probability of each label at each pixel. They sum to 1 over the labels.
    settings : CrfSettings

    Returns
    -------
    (L, H, W) float32 array
        Posterior probabilities. They sum to 1 over the labels.
    """
    return DenseCrf(image, len(probabilities), settings).posterior(probabilities)


def label_probabilities(
    label: NDArray[np.integer[Any]], labels: int, gt_prob: float
) -> NDArray[np.float32]:
    """Convert a label image to probabilities: ``gt_prob`` for the label, equal rest for the others.

    Parameters
    ----------
    label : (H, W) integer array
        Values from 0 to ``labels`` - 1.
    labels : int
        Number of labels.
    gt_prob : float
        Probability of the label, in (0, 1).

    Returns
    -------
    (L, H, W) float32 array
    """
    if labels == 1:
        return np.ones((1, *label.shape), np.float32)
    chosen = np.arange(labels)[:, None, None] == label
    return np.where(chosen, gt_prob, (1 - gt_prob) / (labels - 1)).astype(np.float32)
