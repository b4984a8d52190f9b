"""JSON documents and CSV tables on disk."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.io.files import damaged, replacing

#: An image's id and its (C,) scores.
ClassScoreRow = tuple[str, NDArray[np.floating]]
#: Types of a JSON document's values by key.
Fields = Mapping[str, type | UnionType]
NUMBER = int | float
#: Maximum number of characters of a value in a message.
LONGEST_VALUE = 40
_NAMES = {str: "a string", dict: "an object", list: "a list", NoneType: "null",
          int: "an integer", float: "a number", bool: "true or false"}  # fmt: skip


def write_json(path: Path, scores: Mapping[str, Any]) -> None:
    """Write a JSON document; numbers that are not finite are written as null."""
    with replacing(path) as partial:
        partial.write_text(
            json.dumps(_finite(scores), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


def read_document(path: Path, fields: Fields | None = None) -> dict[str, Any]:
    """Read a JSON document that :func:`write_json` wrote.

    Parameters
    ----------
    path : Path
    fields : mapping of str to type, optional
        The keys that the document must have, and the types of their values.

    Raises
    ------
    UserError
        If the file is not a complete JSON object with these fields.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise damaged(path, "JSON document", f"it is {_short(found)}, expected an object")
    for name, kind in (fields or {}).items():
        if name not in found:
            raise damaged(path, "JSON document", f"it has no {name!r}")
        if not isinstance(found[name], kind):
            reason = f"{name!r} is {_short(found[name])}, expected {_types(kind)}"
            raise damaged(path, "JSON document", reason)
    return found


def read_json(path: Path) -> Any:
    """Read any JSON value.

    Raises
    ------
    UserError
        If the file is not complete JSON in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, "JSON document", error) from error


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV table; None and numbers that are not finite become empty cells."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_finite(value) for value in row] for row in rows)


def read_table(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    needed: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Read a CSV table as one mapping by column name for each row.

    Parameters
    ----------
    path : Path
    columns : sequence of str, optional
        All expected columns, in order.
    needed : sequence of str
        Columns that the table must have, among others.
    numbers : sequence of str
        Columns that the table must have, and whose cells are numbers or empty.

    Raises
    ------
    UserError
        If the file is not text, lacks a column or has others than expected, a row has more or
        fewer cells, or a cell is not a number.
    """
    header, *rows = _cells(path)
    if columns is not None and header != list(columns):
        raise damaged(path, "table", f"columns are {header}, expected {list(columns)}")
    if missing := [name for name in (*needed, *numbers) if name not in header]:
        raise damaged(path, "table", f"columns are {header}, expected also {missing}")
    table = [dict(zip(header, row, strict=True)) for row in rows]
    for number, row in enumerate(table, start=2):
        for name in numbers:
            _number(path, number, name, row[name])
    return table


def read_columns(path: Path, needed: Sequence[str]) -> dict[str, list[float]]:
    """Read a CSV table of numbers as one list for each column; NaN for an empty cell.

    Parameters
    ----------
    path : Path
    needed : sequence of str
        Columns that the table must have, among others.

    Raises
    ------
    UserError
        If the table is damaged, lacks a column, or a cell is not a number.
    """
    rows = read_table(path, needed=needed)
    names = list(rows[0]) if rows else needed
    return {
        name: [_number(path, number, name, row[name]) for number, row in enumerate(rows, start=2)]
        for name in names
    }


def _number(path: Path, row: int, column: str, cell: str) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        reason = f"row {row}, column {column!r} is {cell[:40]!r}, expected a number"
        raise damaged(path, "table", reason) from None


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
        header, *rows = _cells(path)
        if header[:1] != ["id"]:
            raise damaged(path, "table of class scores", f"columns are {header}, expected id first")
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


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _types(kind: type | UnionType) -> str:
    kinds = get_args(kind) or (kind,)
    # A number may be written without a fraction.
    names = [_NAMES[item] for item in kinds if item is not int or float not in kinds]
    return " or ".join(names)


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
