"""List possible label errors: image-level labels that contradict a classifier."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.datasets.manifest import Manifest, read_manifest
from pipeline.errors import UserError
from pipeline.io.files import damaged
from pipeline.io.tables import read_class_scores
from pipeline.metrics.label_error_table import write_label_errors
from pipeline.metrics.label_errors import LabelError, judged_classes, rank_label_errors
from pipeline.models.classifier import create_probe
from pipeline.models.out_of_fold import out_of_fold_probabilities
from pipeline.models.pooled_features import computed_features, stored_features
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)


def find_label_errors(
    *,
    manifest: Path,
    classes: Path,
    pretrained: list[Path],
    features: list[Path],
    class_scores: list[Path],
    held_out_scores: list[Path],
    settings: Mapping[str, Any],
    scales: list[float],
    folds: int,
    seed: int,
    errors: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write the labels that contradict a classifier. Masks are not among the inputs.

    Parameters
    ----------
    pretrained, features, scales
        See :func:`pipeline.stages.fit_probe.fit_probe`; for a linear probe only.
    class_scores : list of Path
        Tables of a trained network's class scores of train, which are in-sample. Empty for a linear
        probe, whose scores are out-of-fold.
    held_out_scores : list of Path
        Tables of the classifier's class scores of val, on which it was not trained. The thresholds
        of val are its own: the two kinds of scores are not comparable.
    settings : mapping
        An entry of the configuration's ``classifiers``.
    folds : int
        Number of folds, and the minimum number of images with and without a class. Classes with
        fewer are left out with a warning.
    seed : int
        Seed of the folds, and of a backbone without pretrained weights.
    errors : Path
        Output (CSV).
    manifest, classes, threads, gpu
        See :mod:`pipeline.stages`.

    Raises
    ------
    UserError
        If no class has enough train images.
    """
    data = read_manifest(manifest, classes)
    records = data.of_split("train")
    targets = data.targets(records)
    judged = judged_classes(targets, folds)
    _check_judged(judged, targets, data.classes, folds)
    ids = [record.id for record in records]
    if class_scores:
        probabilities = _scored(class_scores, ids, len(data.classes))
    else:
        if features:
            pooled = stored_features(records, features, scales)
        else:
            model = create_probe(settings, len(data.classes), next(iter(pretrained), None), seed)
            pooled = computed_features(model, records, settings, threads, gpu)
        how = {"folds": folds, "c": settings["c"], "seed": seed}
        probabilities = out_of_fold_probabilities(pooled, targets, ids, **how)
    found = _ranked(probabilities, targets, judged, ids, data.classes, "train")
    write_label_errors(errors, [*found, *_of_val(held_out_scores, data, folds)])


def _of_val(tables: Sequence[Path], data: Manifest, folds: int) -> list[LabelError]:
    """Return the errors of val; none if there is no image, or no class with enough of them."""
    records = data.of_split("val")
    ids, targets = [record.id for record in records], data.targets(records)
    judged = judged_classes(targets, folds)
    if not judged.any():
        return []
    probabilities = _scored(tables, ids, len(data.classes))
    return _ranked(probabilities, targets, judged, ids, data.classes, "val")


def _ranked(
    probabilities: NDArray[np.float64],
    targets: NDArray[np.float32],
    judged: NDArray[np.bool_],
    ids: Sequence[str],
    classes: Sequence[str],
    split: str,
) -> list[LabelError]:
    """Rank the errors of those classes that have enough images."""
    names = [name for name, known in zip(classes, judged, strict=True) if known]
    return rank_label_errors(probabilities[:, judged], targets[:, judged], ids, names, split)


def _check_judged(
    judged: NDArray[np.bool_], targets: NDArray[np.float32], classes: Sequence[str], folds: int
) -> None:
    """Warn about classes with too few train images. Raise a UserError if there are no others."""
    counts = targets.sum(axis=0).astype(int).tolist()
    few = [
        f"{name} (in {count})"
        for name, count, enough in zip(classes, counts, judged, strict=True)
        if not enough
    ]
    problem = (
        f"fewer than {folds} of {len(targets)} training images have or lack these classes: "
        f"{', '.join(few)}"
    )
    if not judged.any():
        raise UserError(
            f"label_errors: {problem}; expected a class that at least {folds} images have and "
            f"{folds} lack, one of each for every fold: lower label_errors.folds, or add images"
        )
    if few:
        logger.warning("%s; their labels are not checked", problem)


def _scored(tables: Sequence[Path], ids: Sequence[str], classes: int) -> NDArray[np.float64]:
    """Return a classifier's own probabilities as an (N, C) array, from its class scores."""
    scores = read_class_scores(tables)
    for image_id in ids:
        if image_id not in scores or len(scores[image_id]) != classes:
            reason = f"it has no {classes} scores of image {image_id}"
            raise damaged(tables[0].parent, "folder of class scores", reason)
    return np.stack([expit(scores[image_id]) for image_id in ids])


if __name__ == "__main__":
    run_stage(find_label_errors, snakemake)
