"""Linear probes: a linear classifier on pooled features, whose weights give class maps."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from pipeline.runtime.progress import progress

#: Solvers by name; each takes the inverse strength of the regularization, and
#: whether there is a constant.
SOLVERS: dict[str, Callable[[float, bool], LogisticRegression | LinearSVC]] = {
    "logistic": lambda c, bias: LogisticRegression(C=c, fit_intercept=bias, max_iter=1000),
    "svm": lambda c, bias: LinearSVC(C=c, fit_intercept=bias, dual=False),
}


def fit_linear(
    features: NDArray[np.float32],
    targets: NDArray[np.float32],
    *,
    solver: str,
    c: float,
    constant: bool = True,
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
        Inverse strength of the L2 regularization, of features scaled to mean 0 and variance 1.
    constant : bool
        Whether scores have a constant. Without one the features keep their mean, so that pooled
        maps are the whole score: where a class is absent its map is negative.

    Returns
    -------
    weights : (C, F) float32 array
    bias : (C,) float32 array
        Of the features as they are, not scaled. A class that no image or every image has
        gets weights of 0 and the logit of its smoothed frequency. 0 without a constant.
    """
    scaler = StandardScaler(with_mean=constant)
    scaled = scaler.fit_transform(features.astype(np.float64))
    weights = np.zeros((targets.shape[1], features.shape[1]))
    bias = np.zeros(targets.shape[1])
    classes = progress(targets.T, total=targets.shape[1], what="classes fitted", unit="classes")
    for number, own in enumerate(classes):
        count = own.sum()
        if 0 < count < len(own):
            fitted = SOLVERS[solver](c, constant).fit(scaled, own > 0)
            weights[number] = fitted.coef_[0] / scaler.scale_
            if constant:
                bias[number] = fitted.intercept_[0] - weights[number] @ scaler.mean_
        elif constant:
            bias[number] = np.log((count + 0.5) / (len(own) - count + 0.5))
    return weights.astype(np.float32), bias.astype(np.float32)
