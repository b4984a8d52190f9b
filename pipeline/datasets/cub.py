"""Reader of CUB-200-2011 (Wah et al. 2011, "The Caltech-UCSD Birds-200-2011 Dataset")."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.manifest import Box
from pipeline.datasets.source import Candidate, Source
from pipeline.datasets.tables import box_from_edges, read_pixels
from pipeline.errors import UserError
from pipeline.io.user_files import read_user_text

#: Fields of each file's rows; the first is the id of an image or of a class.
FILES = {
    "images.txt": ("image id", "path"),
    "classes.txt": ("class id", "name"),
    "image_class_labels.txt": ("image id", "class id"),
    "train_test_split.txt": ("image id", "0 or 1"),
    "bounding_boxes.txt": ("image id", "x", "y", "width", "height"),
}
#: Files whose last field may contain spaces.
FILES_OF_NAMES = frozenset({"images.txt", "classes.txt"})
SPLITS = {"1": "train", "0": "val"}


@dataclass(frozen=True)
class _Row:
    """The fields after the id (empty for an invalid row), and the row's file and line."""

    where: str
    fields: tuple[str, ...]


def read_cub(dataset: Mapping[str, Any]) -> Source:
    """Read a data set of kind ``cub``.

    Parameters
    ----------
    dataset : mapping
        Key ``root``: the folder that contains ``images`` and the files of :data:`FILES`.

    Returns
    -------
    Source
        Images have one label and one box each. The id of an image is its path below
        ``images`` without the extension, with "/" replaced by "__". Training images are
        ``train``, test images ``val``. Class number k is the class with id k. The edges of a
        box are x, y, x + width and y + height in pixels: x and y are distances from the upper
        left corner of the image, where the first pixel begins at 0. There are no masks: the
        segmentations are a separate download whose gray levels count the votes of five
        annotators, and are not read.

    Raises
    ------
    UserError
        If one of the five files is missing or not UTF-8 text.
    """
    root = Path(dataset["root"])
    missing = [name for name in FILES if not os.path.lexists(root / name)]
    if missing:
        raise UserError(
            f"{root}: there is no {', '.join(missing)}, expected the lists of CUB-200-2011: "
            "set `root` to the folder that contains them"
        )
    source = Source()
    files = {name: _read_rows(root / name, source.problems) for name in FILES}
    names = _class_names(root / "classes.txt", files["classes.txt"], source.problems)
    source.classes = tuple(names.values())
    source.check_names()
    _check_ids(root, files, source.problems)
    _add_candidates(root, files, names, source)
    return source


def _add_candidates(
    root: Path,
    files: Mapping[str, Mapping[str, _Row]],
    names: Mapping[str, str],
    source: Source,
) -> None:
    images, classes, labels, splits, boxes = files.values()
    for image_id, row in images.items():
        image = _image(root, row, source.problems)
        label = _label(labels.get(image_id), names, classes, source.problems)
        split = _split(splits.get(image_id), source.problems)
        box = _box(boxes.get(image_id), label or "", source.problems)
        if image is None or split is None:
            continue
        source.candidates.append(
            Candidate(
                id=PurePosixPath(row.fields[0]).with_suffix("").as_posix().replace("/", "__"),
                image=image,
                split=split,
                labels=(label,) if label else (),
                mask=None,
                boxes=(box,) if label and box else (),
            )
        )


def _read_rows(path: Path, problems: list[str]) -> dict[str, _Row]:
    """Read the rows of a file by id."""
    text = read_user_text(path, "list")
    expected = FILES[path.name]
    rows: dict[str, _Row] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.strip().split(maxsplit=1 if path.name in FILES_OF_NAMES else -1)
        where = f"{path}, line {number}"
        if not fields:
            continue
        if fields[0] in rows:
            problems.append(f"{where}: {expected[0]} {fields[0]} has a row already, expected one")
            continue
        if len(fields) != len(expected):
            problems.append(
                f"{where}: the row has {len(fields)} fields, expected {len(expected)}: "
                f"{', '.join(expected)}"
            )
            fields = fields[:1]
        rows[fields[0]] = _Row(where, tuple(fields[1:]))
    return rows


def _class_names(path: Path, rows: Mapping[str, _Row], problems: list[str]) -> dict[str, str]:
    """Return class names by id, in ascending order of ids."""
    whole = {int(key): key for key in rows if re.fullmatch("[1-9][0-9]{0,17}", key)}
    refused = rows.keys() - set(whole.values())
    problems += [
        f"{row.where}: class id is {key!r}, expected a whole number from 1"
        for key, row in rows.items()
        if key in refused
    ]
    gaps = set(range(1, len(rows) + 1)) - whole.keys()
    if gaps and not refused:
        problems.append(
            f"{path}: there is no class id {min(gaps)}, expected 1 to {len(rows)} without a gap"
        )
    ascending = (whole[number] for number in sorted(whole))
    return {key: rows[key].fields[0] for key in ascending if rows[key].fields}


def _check_ids(root: Path, files: Mapping[str, Mapping[str, _Row]], problems: list[str]) -> None:
    """Add a problem for every image that one file lists and another does not."""
    images = files["images.txt"]
    for name in ("image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt"):
        rows = files[name]
        pairs = ((images, rows, root / name), (rows, images, root / "images.txt"))
        for these, others, path in pairs:
            problems += [
                f"{row.where}: image id {image_id} has no row in {path}, expected one"
                for image_id, row in these.items()
                if image_id not in others
            ]


def _image(root: Path, row: _Row, problems: list[str]) -> Path | None:
    if not row.fields:
        return None
    given = PurePosixPath(row.fields[0])
    if given.is_absolute() or ".." in given.parts:
        problems.append(
            f"{row.where}: the path is {row.fields[0]!r}, expected one below {root / 'images'}, "
            "without a leading / and without .."
        )
        return None
    path = root / "images" / row.fields[0]
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    problems.append(f"{path}: no such image, listed in {row.where}")
    return None


def _label(
    row: _Row | None,
    names: Mapping[str, str],
    classes: Mapping[str, _Row],
    problems: list[str],
) -> str | None:
    if row is None or not row.fields:
        return None
    if row.fields[0] not in classes:
        problems.append(
            f"{row.where}: unknown class id {row.fields[0]!r}, expected one of classes.txt"
        )
    return names.get(row.fields[0])


def _split(row: _Row | None, problems: list[str]) -> str | None:
    if row is None or not row.fields:
        return None
    if row.fields[0] not in SPLITS:
        problems.append(
            f"{row.where}: is_training_image is {row.fields[0]!r}, expected 1 (train) or 0 (val)"
        )
    return SPLITS.get(row.fields[0])


def _box(row: _Row | None, label: str, problems: list[str]) -> Box | None:
    if row is None or not row.fields:
        return None
    cells = dict(zip(FILES["bounding_boxes.txt"][1:], row.fields, strict=True))
    numbers = read_pixels(row.where, cells, problems)
    if not numbers:
        return None
    x, y, width, height = numbers
    return box_from_edges(row.where, label, (x, y, x + width, y + height), problems)
