"""The table of possible errors of image-level labels."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from pipeline.io.files import damaged
from pipeline.io.tables import read_table, write_table
from pipeline.metrics.label_errors import KINDS, LabelError

COLUMNS = ("image", "split", "class", "kind", "score", "threshold", "rank")
SPLITS = ("train", "val")


def write_label_errors(path: Path, errors: Sequence[LabelError]) -> None:
    """Write one row for each possible error, with six significant digits."""
    rows = (
        (e.image, e.split, e.label, e.kind, f"{e.score:.6g}", f"{e.threshold:.6g}", e.rank)
        for e in errors
    )
    write_table(path, COLUMNS, rows)


def read_label_errors(path: Path) -> list[LabelError]:
    """Read a table of :func:`write_label_errors`.

    Raises
    ------
    UserError
        If the table is damaged: other columns, an unknown split or kind, a probability outside of
        [0, 1], or ranks that do not count from 1.
    """
    errors = [
        _error(path, number, row) for number, row in enumerate(read_table(path, COLUMNS), start=2)
    ]
    for split, kind in product(SPLITS, KINDS):
        ranks = [error.rank for error in errors if (error.split, error.kind) == (split, kind)]
        if ranks != list(range(1, len(ranks) + 1)):
            reason = f"ranks of kind {kind!r} in {split} do not count from 1 to {len(ranks)}"
            raise damaged(path, "table of label errors", reason)
    return errors


def _error(path: Path, number: int, row: Mapping[str, str]) -> LabelError:
    what = "table of label errors"
    kind = next((known for known in KINDS if known == row["kind"]), None)
    if kind is None:
        reason = f"row {number}, kind is {row['kind'][:40]!r}, expected {' or '.join(KINDS)}"
        raise damaged(path, what, reason)
    if row["split"] not in SPLITS:
        reason = f"row {number}, split is {row['split'][:40]!r}, expected {' or '.join(SPLITS)}"
        raise damaged(path, what, reason)
    try:
        score, threshold, rank = float(row["score"]), float(row["threshold"]), int(row["rank"])
    except ValueError as error:
        raise damaged(path, what, f"row {number}: {error}") from None
    if not (0 <= score <= 1 and 0 <= threshold <= 1):
        reason = f"row {number}, score is {score} and threshold {threshold}, expected 0 to 1"
        raise damaged(path, what, reason)
    return LabelError(row["image"], row["class"], kind, score, threshold, rank, row["split"])
