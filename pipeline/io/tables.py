"""JSON documents and CSV tables on disk."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.files import damaged, replacing

#: An image's id and its (C,) scores.
ClassScoreRow = tuple[str, NDArray[np.floating]]


def write_json(path: Path, scores: Mapping[str, Any]) -> None:
    """Write a JSON document; numbers that are not finite are written as null."""
    with replacing(path) as partial:
        partial.write_text(
            json.dumps(_finite(scores), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


def read_json(path: Path) -> Any:
    """Read a JSON document, for example one of :func:`write_json`.

    Raises
    ------
    UserError
        If the file is not a complete JSON document.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, "JSON document", error) from error


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV table; None and numbers that are not finite become empty cells."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_finite(value) for value in row] for row in rows)


def read_table(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Read a CSV table as one mapping by column name for each row.

    Parameters
    ----------
    path : Path
    columns : sequence of str, optional
        Expected columns, in order.

    Raises
    ------
    UserError
        If the file is not text, has other columns, or a row has more or fewer cells.
    """
    header, *rows = _cells(path)
    if columns is not None and header != list(columns):
        raise damaged(path, "table", f"columns are {header}, expected {list(columns)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def write_class_scores(path: Path, classes: Sequence[str], rows: Iterable[ClassScoreRow]) -> None:
    """Write one row for each image: its id and one score for each class."""
    cells = ((image_id, *(f"{score:.6g}" for score in scores)) for image_id, scores in rows)
    write_table(path, ("id", *classes), cells)


def read_class_scores(paths: Iterable[Path]) -> dict[str, NDArray[np.float64]]:
    """Read files of :func:`write_class_scores`: (C,) scores by image id, over all shards.

    Raises
    ------
    UserError
        If a file is not a complete table of numbers.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for path in paths:
        rows = _cells(path)[1:]
        try:
            found |= {row[0]: np.array(row[1:], np.float64) for row in rows}
        except ValueError as error:
            raise damaged(path, "table of class scores", error) from error
    return found


def _cells(path: Path) -> list[list[str]]:
    """Read the rows of a CSV table, header first, and check that all have the same length."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise damaged(path, "CSV table", error) from error
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise damaged(
                path, "CSV table", f"row {number} has {len(row)} cells, expected {len(rows[0])}"
            )
    if not rows:
        raise damaged(path, "CSV table", "the file is empty")
    return rows


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
