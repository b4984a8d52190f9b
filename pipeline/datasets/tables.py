"""Tables of image-level labels: names joined by ";", or one 0/1 column per class."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from pipeline.datasets.manifest import SEPARATOR
from pipeline.datasets.source import unknown_label
from pipeline.errors import UserError

SPLITS = ("train", "val")


@dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes
    ----------
    classes : tuple of str
        The given classes; else the one-hot columns in order, or the sorted names.
    labels : dict of str to tuple of str
        Class names by the table's ``image`` cell.
    splits : dict of str to str
        ``"train"`` or ``"val"`` by image, where the table has a ``split`` column.
    one_hot : bool
        Whether the table has a column per class.
    problems : list of str
        What is wrong with its rows.
    """

    classes: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]
    splits: dict[str, str]
    one_hot: bool
    problems: list[str]


def read_label_table(path: Path, classes: Sequence[str] | None = None) -> LabelTable:
    """Read a CSV file with a column ``image`` and labels.

    Parameters
    ----------
    path : Path
        UTF-8, with or without a byte order mark; comma-separated.
    classes : sequence of str, optional
        The class names in order; without it they are taken from the table.

    Raises
    ------
    UserError
        If the file cannot be read as such a table at all.
    """
    header, rows = _read_rows(path)
    names = [name for name in header if name not in ("image", "labels", "split")]
    one_hot = "labels" not in header
    table = LabelTable(tuple(classes or ()), {}, {}, one_hot, [])
    known = tuple(classes) if classes else tuple(names)
    if one_hot and classes and set(names) != set(classes):
        table.problems.append(
            f"{path}: the class columns are {', '.join(names)}, expected {', '.join(classes)}"
        )
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        image = row.get("image", "")
        if not image:
            table.problems.append(f"{where}: no image is named, expected a file name")
            continue
        if image in table.labels:
            table.problems.append(f"{where}: {image} has a row already, expected one an image")
            continue
        cells = _one_hot_labels if one_hot else _joined_labels
        table.labels[image] = cells(row, names, where, table.problems)
        if "split" in header:
            if row["split"] not in SPLITS:
                got = row["split"]
                table.problems.append(f"{where}: split is {got!r}, expected train or val")
            table.splits[image] = row["split"]
    if not known:
        known = tuple(sorted({name for labels in table.labels.values() for name in labels}))
    for image, labels in table.labels.items():
        for name in labels:
            if name not in known:
                table.problems.append(unknown_label(f"{path}, {image}", name, known))
    return LabelTable(known, table.labels, table.splits, one_hot, table.problems)


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file, expected a CSV table of labels") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}): save the table as UTF-8") from error
    try:
        lines = list(csv.reader(StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table ({error})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    if "image" not in header or len(header) < 2:
        found = ", ".join(header) or "empty"
        separators = [repr(mark) for mark in (";", "\t") if mark in found]
        hint = f": columns must be separated by commas, not {separators[0]}" if separators else ""
        raise UserError(
            f"{path}: its header is {found}, expected image,labels or image,CLASS,CLASS,...{hint}"
        )
    if len(set(header)) < len(header):
        raise UserError(f"{path}: its header names a column twice: {', '.join(header)}")
    rows = []
    for line in lines[1:]:
        if any(cell.strip() for cell in line):
            padded = line + [""] * (len(header) - len(line))
            rows.append({k: cell.strip() for k, cell in zip(header, padded, strict=False)})
    return header, rows


def _joined_labels(
    row: dict[str, str], _names: Sequence[str], _where: str, _problems: list[str]
) -> tuple[str, ...]:
    parts = (name.strip() for name in row["labels"].split(SEPARATOR))
    return tuple(dict.fromkeys(name for name in parts if name))


def _one_hot_labels(
    row: dict[str, str], names: Sequence[str], where: str, problems: list[str]
) -> tuple[str, ...]:
    for name in names:
        if row[name] not in ("0", "1"):
            problems.append(f"{where}: column {name} is {row[name]!r}, expected 0 or 1")
    return tuple(name for name in names if row[name] == "1")
