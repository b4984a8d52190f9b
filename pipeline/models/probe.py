"""Linear probes: linear classifiers on pooled features, whose weights define class maps."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from pipeline.runtime.progress import progress

#: Solvers by name. Arguments are the inverse strength of the regularization and whether to fit a
#: constant.
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
    """Fit one linear classifier for each class, against all images without it.

    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 4: a
    linear SVM on features after global average pooling. Its weights replace those of the class
    layer, which makes class activation maps for any label set without fine-tuning.

    Parameters
    ----------
    features : (N, F) float array
        Pooled features of the images.
    targets : (N, C) float array
        Labels, 0 or 1.
    solver : {"logistic", "svm"}
    c : float
        Inverse strength of the L2 regularization, for features scaled to mean 0 and variance 1.
    constant : bool
        Fit a constant. Without it the features are not centered, and the pooled maps are the
        whole score: the map of an absent class is then negative.

    Returns
    -------
    weights : (C, F) float32 array
        Weights for the unscaled features. They are 0 for a class that no image or every image
        has.
    bias : (C,) float32 array
        Constants for the unscaled features; 0 without a constant. A class that no image or every
        image has gets the logit of its smoothed frequency.
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
