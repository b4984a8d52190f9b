"""Linear probes: a linear classifier on pooled features, whose weights give class maps."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

#: Solvers by name; each takes the inverse strength of the regularisation.
SOLVERS: dict[str, Callable[[float], LogisticRegression | LinearSVC]] = {
    "logistic": lambda c: LogisticRegression(C=c, max_iter=1000),
    "svm": lambda c: LinearSVC(C=c, dual=False),
}


def fit_linear(
    features: NDArray[np.float32], targets: NDArray[np.float32], *, solver: str, c: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit one linear classifier a class, against all images that lack it.

    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 4: a
    linear SVM on features after global average pooling; its weights, put in place of a class
    layer's, make class activation maps of any label set without fine-tuning.

    Parameters
    ----------
    features : (N, F) float array
        Pooled features of the images.
    targets : (N, C) float array
        Labels, 0 or 1.
    solver : {"logistic", "svm"}
    c : float
        Inverse strength of the L2 regularisation, of features scaled to mean 0 and variance 1.

    Returns
    -------
    weights : (C, F) float32 array
    bias : (C,) float32 array
        Of the features as they are, not scaled. A class that no image or every image has
        gets weights of 0 and the logit of its smoothed frequency.
    """
    scaler = StandardScaler()
    scaled = scaler.fit_transform(features.astype(np.float64))
    weights = np.zeros((targets.shape[1], features.shape[1]))
    bias = np.zeros(targets.shape[1])
    for number, own in enumerate(targets.T):
        count = own.sum()
        if 0 < count < len(own):
            fitted = SOLVERS[solver](c).fit(scaled, own > 0)
            weights[number] = fitted.coef_[0] / scaler.scale_
            bias[number] = fitted.intercept_[0] - weights[number] @ scaler.mean_
        else:
            bias[number] = np.log((count + 0.5) / (len(own) - count + 0.5))
    return weights.astype(np.float32), bias.astype(np.float32)
