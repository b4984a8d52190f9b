"""Out-of-fold probabilities: each image is scored by a linear classifier that has not seen it."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.models.probe import fit_linear


def out_of_fold_probabilities(
    features: NDArray[np.float32],
    targets: NDArray[np.float32],
    ids: Sequence[str],
    *,
    folds: int,
    c: float,
    seed: int,
) -> NDArray[np.float64]:
    """Compute the probability of every class in every image, without the image's own labels.

    A logistic regression is fitted for each class and fold. The order of the images does not
    matter: the folds and the fits depend only on their ids. Copies of an image, which have the same
    features, are in one fold: otherwise a classifier would have learned the label of the copy.

    Parameters
    ----------
    features : (V N, F) float array
        V rows for each image, of its views. All views of an image are in one fold.
    targets : (N, C) float array
        Labels, 0 or 1.
    ids : sequence of N str
        Unique ids of the images.
    folds : int
        Number of folds, at least 2.
    c : float
        Inverse strength of the L2 regularization.
    seed : int
        Seed of the folds.

    Returns
    -------
    (N, C) float64 array
        Probabilities in [0, 1], the mean over the views.
    """
    order = _shuffled(ids, seed)
    views = len(features) // len(ids)
    # (N, V, F) and (N, C), both in the shuffled order
    seen = features.reshape(len(ids), views, -1)[order]
    labels = targets[order]
    fold_of = _folds_of_distinct(seen, labels, folds)
    probabilities = np.zeros(targets.shape)
    for fold in range(folds):
        held_out = fold_of == fold
        if not held_out.any():
            continue
        rows = seen[~held_out].reshape(-1, seen.shape[2])
        own = np.repeat(labels[~held_out], views, axis=0)
        weights, bias = fit_linear(rows, own, solver="logistic", c=c)
        logits = seen[held_out].astype(np.float64) @ weights.T + bias
        probabilities[order[held_out]] = expit(logits).mean(axis=1)
    return probabilities


def _folds_of_distinct(
    seen: NDArray[np.float32], labels: NDArray[np.float32], folds: int
) -> NDArray[np.int64]:
    """Return the fold of each image; images with the same features are divided as one image.

    Parameters
    ----------
    seen : (N, V, F) float32 array
        Features of all views.
    labels : (N, C) float32 array
    folds : int

    Returns
    -------
    (N,) int64 array
    """
    numbers: dict[bytes, int] = {}
    number_of = np.array([numbers.setdefault(own.tobytes(), len(numbers)) for own in seen])
    joined = np.zeros((len(numbers), labels.shape[1]), labels.dtype)
    np.maximum.at(joined, number_of, labels)
    of_distinct = stratified_folds(joined, folds)
    own_folds: NDArray[np.int64] = of_distinct[number_of]
    return own_folds


def stratified_folds(targets: NDArray[np.floating], folds: int) -> NDArray[np.int64]:
    """Divide images into folds that have about the same number of images of each class.

    Iterative stratification (Sechidis et al. 2011, "On the Stratification of Multi-label Data",
    algorithm 1): the class with the fewest images left is divided first; each of its images goes
    to the fold that lacks most of the class, among equals to the fold that lacks most images.
    Images without any label come last. Ties go to the first class and the first fold.

    Parameters
    ----------
    targets : (N, C) array
        Labels, 0 or 1, in random order.
    folds : int

    Returns
    -------
    (N,) int64 array
        Fold of each image, in [0, folds).
    """
    labels = targets > 0
    assigned = np.full(len(labels), -1, np.int64)
    lacking = np.tile(labels.sum(axis=0) / folds, (folds, 1))
    free = np.full(folds, len(labels) / folds)

    def assign(image: int, wanted: NDArray[np.float64]) -> None:
        fold = int(np.lexsort((-free, -wanted))[0])
        assigned[image] = fold
        lacking[fold] -= labels[image]
        free[fold] -= 1

    while (left := labels[assigned < 0].sum(axis=0)).any():
        rarest = int(np.argmin(np.where(left > 0, left, len(labels) + 1)))
        for image in np.flatnonzero((assigned < 0) & labels[:, rarest]).tolist():
            assign(image, lacking[:, rarest])
    for image in np.flatnonzero(assigned < 0).tolist():
        assign(image, free)
    return assigned


def _shuffled(ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return a random order of images that depends on the set of their ids, not on their order."""
    keys = [sha256(f"{seed}/{image_id}".encode()).digest() for image_id in ids]
    return np.array(sorted(range(len(ids)), key=keys.__getitem__), dtype=np.int64)
