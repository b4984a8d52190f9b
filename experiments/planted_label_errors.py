"""Measure how well label errors are found: plant some by a seed, and rank all pairs.

    python experiments/planted_label_errors.py RUN --classifier probe [--scales 0.5 1 1.5]

``RUN`` is the folder of a run that has ``features/CLASSIFIER`` (a linear probe with ``views_of``),
``RUN/dataset`` or that of its experiment. For each seed, a share of the labels of train is taken
out, and as many wrong ones are added. Printed are precision at k, with k the number of planted
errors of a kind (where precision equals recall) and a tenth of it, and recall at twice k. Rankings:
``listed`` is that of the workflow, the pairs that reach the thresholds of confident learning before
all others; ``margin`` is by the difference of probability and threshold; ``loss`` by the binary
cross-entropy of the out-of-fold probability. The last two columns are precision and recall of all
listed pairs. Last comes the list of the table as it is, without planted errors. Real errors of the
table count as false alarms. Masks are not read.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.datasets.manifest import Manifest, read_manifest
from pipeline.metrics.label_errors import (
    KINDS,
    class_thresholds,
    confident_errors,
    error_scores,
    rank_label_errors,
)
from pipeline.models.out_of_fold import out_of_fold_probabilities
from pipeline.models.pooled_features import stored_features

Matrix = NDArray[np.float32]
#: Smallest probability in a loss.
EPSILON = 1e-12


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the measurement, and the first possible errors of the table as it is."""
    options = _options(arguments)
    dataset = options.dataset or options.run / "dataset"
    data = read_manifest(dataset / "manifest.csv", dataset / "classes.json")
    records = data.of_split("train")
    folders = sorted((options.run / "features" / options.classifier).iterdir())
    features = stored_features(records, folders, options.scales)
    targets, ids = data.targets(records), [record.id for record in records]

    def probabilities(given: Matrix, seed: int) -> NDArray[np.float64]:
        return out_of_fold_probabilities(
            features, given, ids, folds=options.folds, c=options.c, seed=seed
        )

    print("seed kind    ranking  planted  P@k/10    P@k   R@2k   P list R list")
    for seed in options.seeds:
        given = planted(targets, options.share, np.random.default_rng(seed))
        for line in figures(probabilities(given, seed), given, targets):
            print(f"{seed:4d} {line}")
    _print_table(probabilities(targets, 0), data, ids, targets, options.listed)


def planted(targets: Matrix, share: float, rng: np.random.Generator) -> Matrix:
    """Return labels of which a share is taken out, and to which as many wrong ones are added."""
    changed = targets.copy()
    count = round(share * float(targets.sum()))
    for value in (1, 0):
        rows, columns = np.nonzero(targets == value)
        chosen = rng.choice(len(rows), count, replace=False)
        changed[rows[chosen], columns[chosen]] = 1 - value
    return changed


def figures(p: NDArray[np.float64], given: Matrix, truth: Matrix) -> list[str]:
    """Return one line of text for each kind and ranking."""
    scores, confident = error_scores(p, given), confident_errors(p, given)
    present, absent = class_thresholds(p, given)
    rankings: Mapping[str, NDArray[np.float64]] = {
        "listed": scores + confident,
        "margin": scores - np.where(given > 0, absent, present),
        "loss": -np.log(np.maximum(1 - scores, EPSILON)),
    }
    lines = []
    for kind, pairs in zip(KINDS, (given > 0, given == 0), strict=True):
        wrong = (given != truth)[pairs]
        count = int(wrong.sum())
        for name, values in rankings.items():
            hits = wrong[np.argsort(-values[pairs], kind="stable")]
            tenth = max(1, count // 10)
            shares = hits[:tenth].mean(), hits[:count].mean(), hits[: 2 * count].sum() / count
            lines.append(_line(kind, name, count, shares))
        listed = wrong[confident[pairs]]
        lines[-3] += f"   {100 * listed.mean():6.1f} {100 * listed.sum() / count:6.1f}"
        chance = float(wrong.mean())
        lines.append(_line(kind, "chance", count, (chance, chance, 2 * chance)))
    return lines


def _line(kind: str, ranking: str, count: int, shares: Sequence[float]) -> str:
    cells = " ".join(f"{100 * share:6.1f}" for share in shares)
    return f"{kind:7s} {ranking:8s} {count:7d}  {cells}"


def _print_table(
    p: NDArray[np.float64], data: Manifest, ids: Sequence[str], targets: Matrix, listed: int
) -> None:
    found = rank_label_errors(p, targets, ids, data.classes, "train")
    for kind in KINDS:
        own = [error for error in found if error.kind == kind]
        print(f"\n{kind}: {len(own)} in the table as it is")
        for error in own[:listed]:
            print(f"{error.rank:4d} {error.image} {error.label:12s} {error.score:.3f}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--classifier", default="probe")
    parser.add_argument("--dataset", type=Path, help="default: RUN/dataset")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 1.0, 1.5])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--c", type=float, default=0.01)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--listed", type=int, default=20)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
