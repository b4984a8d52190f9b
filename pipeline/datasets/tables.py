"""Tables of image-level labels (names joined by ";", or a 0/1 column per class) and of boxes."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import zip_longest
from pathlib import Path

from pipeline.datasets.manifest import BOX_COLUMNS, SEPARATOR, Box
from pipeline.datasets.source import MAX_CLASSES, MAX_NAME_LENGTH, Source, unknown_label
from pipeline.errors import UserError, shortened
from pipeline.io.user_files import read_user_text

SPLITS = ("train", "val")
#: Lower-case names that users give to the column of labels by mistake.
MISNAMED_LABELS = frozenset(
    {"label", "labels", "class", "classes", "category", "categories", "tags"}
)
#: Larger numbers cannot be numbers of pixels.
MAX_PIXELS = 1e9
#: Maximum number of columns of a table: one per class, and some other columns.
MAX_COLUMNS = 1000


@dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes
    ----------
    classes : tuple of str
        The configured classes; otherwise the one-hot columns in order, or the sorted names.
    labels : dict of str to tuple of str
        Class names by the table's ``image`` cell.
    splits : dict of str to str
        ``"train"`` or ``"val"`` by image, if the table has a ``split`` column.
    one_hot : bool
        Whether the table has a column per class.
    problems : list of str
        One line per problem of its rows.
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
        The class names in order; by default they are taken from the table.

    Raises
    ------
    UserError
        If the file is not such a table.
    """
    problems: list[str] = []
    expected = "image,labels or image,CLASS,CLASS,..."
    header, rows = read_rows(path, "labels", ("image",), expected, problems)
    names = [name for name in header if name not in ("image", "labels", "split")]
    one_hot = "labels" not in header
    for name in names if one_hot else ():
        if name.lower() in MISNAMED_LABELS and {row[name] for _, row in rows} - {"0", "1"}:
            raise UserError(f"{path}: its header has {name!r}, expected 'labels' for that column")
    table = LabelTable(tuple(classes or ()), {}, {}, one_hot, problems)
    known = tuple(classes or (names if one_hot else ()))
    problems += [
        f"{path}: its header has {name!r}, expected 'split' in lower case"
        for name in names
        if name.lower() == "split"
    ]
    if one_hot and classes and set(names) != set(classes):
        table.problems.append(
            f"{path}: the class columns are {', '.join(names)}, expected {', '.join(classes)}"
        )
    for number, row in rows:
        where = f"{path}, line {number}"
        image = row.get("image", "")
        if not image:
            table.problems.append(f"{where}: no image is named, expected a file name")
            continue
        if image in table.labels:
            table.problems.append(f"{where}: {image} has a row already, expected one per image")
            continue
        cells = _one_hot_labels if one_hot else _joined_labels
        table.labels[image] = cells(row, names, where, table.problems)
        if "split" in header:
            if row["split"] not in SPLITS:
                got = shortened(row["split"], MAX_NAME_LENGTH)
                table.problems.append(f"{where}: split is {got!r}, expected train or val")
            table.splits[image] = row["split"]
    if not known:
        known = tuple(sorted({name for labels in table.labels.values() for name in labels}))
    allowed = frozenset(known)
    for image, labels in table.labels.items():
        for name in labels:
            if name not in allowed:
                table.problems.append(unknown_label(f"{path}, {image}", name, known))
    return LabelTable(known, table.labels, table.splits, one_hot, table.problems)


def read_box_table(
    path: Path, images: Mapping[str, str], source: Source
) -> dict[str, tuple[Box, ...]]:
    """Read a CSV file with the columns ``image,label,left,top,right,bottom`` in any order.

    The edges are in pixels of the upright image; a box of one pixel has
    ``right - left == 1``. An image may have any number of rows.

    Parameters
    ----------
    path : Path
        UTF-8, with or without a byte order mark; comma-separated.
    images : mapping of str to str
        Key of the result by each name that a row may use for the image.
    source : Source
        Provides the valid classes, and receives the problems of rows.

    Returns
    -------
    dict of str to tuple of Box
        Boxes by key; images without a row are left out.

    Raises
    ------
    UserError
        If the file is not such a table.
    """
    columns = ("image", *BOX_COLUMNS)
    _, rows = read_rows(path, "boxes", columns, ",".join(columns), source.problems)
    boxes: dict[str, list[Box]] = {}
    classes = frozenset(source.classes)
    for number, row in rows:
        where = f"{path}, line {number}"
        key = images.get(row["image"].removeprefix("./"))
        if key is None:
            source.problems.append(
                f"{where}: {row['image'] or 'no name'} has no image, expected a file of that name"
            )
        if row["label"] not in classes:
            source.problems.append(unknown_label(where, row["label"], source.classes))
        cells = {name: row[name] for name in BOX_COLUMNS[1:]}
        edges = read_pixels(where, cells, source.problems)
        box = box_from_edges(where, row["label"], edges, source.problems) if edges else None
        if key is not None and box is not None:
            boxes.setdefault(key, []).append(box)
    return {key: tuple(found) for key, found in boxes.items()}


def read_pixels(where: str, cells: Mapping[str, str], problems: list[str]) -> list[float]:
    """Return the numbers of pixels in cells (by column name); an empty list if one is invalid."""
    numbers = []
    for name, cell in cells.items():
        try:
            number = float(cell)
        except ValueError:
            number = float("nan")
        if abs(number) < MAX_PIXELS:
            numbers.append(number)
        else:
            problems.append(f"{where}: column {name} is {cell!r}, expected a number of pixels")
    return numbers if len(numbers) == len(cells) else []


def box_from_edges(
    where: str, label: str, edges: Sequence[float], problems: list[str]
) -> Box | None:
    """Return the box with the given left, top, right and bottom edges; None if it has no area."""
    left, top, right, bottom = edges
    if right > left and bottom > top:
        return Box(label, left, top, right, bottom)
    problems.append(
        f"{where}: the box ends at {right}, {bottom}, expected right of and below its start at "
        f"{left}, {top}"
    )
    return None


def read_rows(
    path: Path, what: str, required: Sequence[str], expected: str, problems: list[str]
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the named columns, and every nonempty row with the number of its (last) line.

    Spreadsheets write columns that have neither a name nor a cell. Cells in a column without a
    name are a problem: they may be intended as labels.
    """
    lines = _read_cells(path, what)
    header = lines[0][1] if lines else []
    named = [name for name in header if name]
    if not set(required) <= set(named) or len(named) < 2:
        found = ", ".join(named) or "empty"
        separators = [repr(mark) for mark in (";", "\t") if mark in found]
        hint = f": columns must be separated by commas, not {separators[0]}" if separators else ""
        raise UserError(f"{path}: its header is {found}, expected {expected}{hint}")
    if len(named) > MAX_COLUMNS:
        raise UserError(
            f"{path}: its header has {len(named)} columns, expected at most {MAX_COLUMNS}: a "
            f"table may have a column per class, and there are at most {MAX_CLASSES} classes"
        )
    if len(set(named)) < len(named):
        raise UserError(f"{path}: its header names a column twice: {', '.join(named)}")
    rows = []
    for number, cells in lines[1:]:
        pairs = list(zip_longest(header, cells[: len(header)], fillvalue=""))
        nameless = [cell for name, cell in pairs if not name] + cells[len(header) :]
        if any(nameless):
            got = shortened(", ".join(cell for cell in nameless if cell), MAX_NAME_LENGTH)
            index = not header[0] and not any(nameless[1:])
            hint = (
                "delete the column (pandas: index=False)"
                if index
                else f"several labels are joined by {SEPARATOR!r}"
            )
            problems.append(
                f"{path}, line {number}: {got} is in a column without a name, expected "
                f"{', '.join(named)}: {hint}"
            )
        if any(cells):
            rows.append((number, {name: cell for name, cell in pairs if name}))
    return named, rows


def _read_cells(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """Return the stripped cells of every row with the number of its (last) line."""
    text = read_user_text(path, "table", f", expected a CSV table of {what}")
    try:
        reader = csv.reader(StringIO(text, newline=""))
        return [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table ({error})") from error


def _joined_labels(
    row: dict[str, str], _names: Sequence[str], _where: str, _problems: list[str]
) -> tuple[str, ...]:
    parts = (name.strip() for name in row["labels"].split(SEPARATOR))
    return tuple(dict.fromkeys(name for name in parts if name))


def _one_hot_labels(
    row: dict[str, str], names: Sequence[str], where: str, problems: list[str]
) -> tuple[str, ...]:
    wrong = [name for name in names if row[name] not in ("0", "1")]
    if wrong:
        more = f" (and {len(wrong) - 1} more columns)" if len(wrong) > 1 else ""
        got = shortened(row[wrong[0]], MAX_NAME_LENGTH)
        problems.append(f"{where}: column {wrong[0]} is {got!r}, expected 0 or 1{more}")
    return tuple(name for name in names if row[name] == "1")
