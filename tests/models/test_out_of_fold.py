"""Out-of-fold probabilities on data whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.label_errors import rank_label_errors
from pipeline.models.out_of_fold import out_of_fold_probabilities, stratified_folds
from pipeline.models.probe import fit_linear

HOW = {"folds": 4, "c": 1.0, "seed": 5}


@pytest.fixture
def separable():
    """Return the features of two views of 40 images, and labels that their first two tell."""
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 2)) < 0.5).astype(np.float32)
    means = np.repeat(np.concatenate([8 * targets, np.zeros((40, 3))], axis=1), 2, axis=0)
    features = (means + rng.normal(size=(80, 5))).astype(np.float32)
    return features, targets, [f"i{number}" for number in range(40)]


@given(st.data())
def test_every_image_is_in_one_fold_and_folds_are_of_like_size(data):
    count, classes = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    folds = data.draw(st.integers(2, 6))
    bits = st.lists(st.booleans(), min_size=count * classes, max_size=count * classes)
    targets = np.array(data.draw(bits)).reshape(count, classes)
    found = stratified_folds(targets, folds)
    assert found.shape == (count,) and ((found >= 0) & (found < folds)).all()
    # The class that is divided first, the rarest, is spread evenly.
    counts = targets.sum(axis=0)
    if counts.any():
        rarest = np.argmin(np.where(counts > 0, counts, count + 1))
        sizes = np.bincount(found[targets[:, rarest]], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_classes_are_divided_from_the_rarest_on_by_hand():
    # Class 1 is rarer: images 0 and 3 go to folds 0 and 1. Class 0 then lacks as much in both,
    # so image 1 goes to the first fold, image 2 to the other, and image 4 without labels too.
    targets = np.array([[1, 1], [1, 0], [1, 0], [1, 1], [0, 0], [0, 0]])
    assert stratified_folds(targets, 2).tolist() == [0, 0, 1, 1, 0, 1]


def test_probabilities_are_those_of_a_classifier_that_has_not_seen_the_image(separable):
    features, targets, ids = separable
    found = out_of_fold_probabilities(features, targets, ids, **HOW)
    in_sample, bias = fit_linear(features, np.repeat(targets, 2, axis=0), solver="logistic", c=1.0)
    logits = (features @ in_sample.T + bias).reshape(40, 2, 2).mean(axis=1)
    loss = -np.log(np.where(targets > 0, found, 1 - found)).mean()
    seen = -np.log(1 / (1 + np.exp(np.where(targets > 0, -logits, logits)))).mean()
    assert ((found > 0.5) == (targets > 0)).all()
    assert seen < loss


@pytest.mark.parametrize(("value", "kind"), [(1, "wrong"), (0, "missing")])
def test_a_planted_error_ranks_first(separable, value, kind):
    features, targets, ids = separable
    row = int(np.flatnonzero(targets[:, 1] == 1 - value)[3])
    targets[row, 1] = value
    p = out_of_fold_probabilities(features, targets, ids, **HOW)
    first = next(
        e for e in rank_label_errors(p, targets, ids, ["a", "b"], "train") if e.kind == kind
    )
    assert (first.image, first.label, first.rank) == (ids[row], "b", 1)


def test_images_in_another_order_have_the_same_probabilities(separable):
    features, targets, ids = separable
    before = features.copy(), targets.copy()
    found = out_of_fold_probabilities(features, targets, ids, **HOW)
    order = np.random.default_rng(1).permutation(40)
    moved = out_of_fold_probabilities(
        features.reshape(40, 2, 5)[order].reshape(80, 5), targets[order],
        [ids[number] for number in order], **HOW,
    )  # fmt: skip
    assert np.array_equal(found[order], moved)
    assert np.array_equal(features, before[0]) and np.array_equal(targets, before[1])


def test_the_seed_chooses_the_folds(separable):
    one, other = (out_of_fold_probabilities(*separable, **HOW | {"seed": s}) for s in (5, 6))
    assert not np.array_equal(one, other)


def test_copies_of_an_image_do_not_tell_its_labels():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 64)).astype(np.float32)
    targets = (rng.random((100, 1)) < 0.5).astype(np.float32)  # random: nothing to learn
    p = out_of_fold_probabilities(
        np.repeat(features, 2, axis=0),
        np.repeat(targets, 2, axis=0),
        [f"image{k}" for k in range(200)],
        folds=5,
        c=1.0,
        seed=0,
    )
    right = (p > 0.5) == (np.repeat(targets, 2, axis=0) > 0)
    assert np.array_equal(p[::2], p[1::2])
    assert right.mean() < 0.6  # a copy in another fold would make it .8
