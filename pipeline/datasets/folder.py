"""Reader of the user's own data: a folder of images and a table of their labels."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.masks import SUFFIX, find_masks, mask_of, read_mask_values
from pipeline.datasets.source import Candidate, Source
from pipeline.datasets.tables import LabelTable, read_box_table, read_label_table
from pipeline.io.user_files import file_problem, files_below, is_system_name

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})


def read_folder(dataset: Mapping[str, Any], seed: int) -> Source:
    """Read a data set of kind ``folder``.

    Parameters
    ----------
    dataset : mapping
        Keys ``images``, ``image_labels``, ``masks``, ``classes``, ``val_fraction`` and,
        optionally, ``boxes`` (a table of true boxes) and ``mask_values``.
    seed : int
        Seed of the split, if the table has none.

    Returns
    -------
    Source
        The id of an image is its path below the folder without the extension, with "/" replaced
        by "__".
    """
    root = Path(dataset["images"])
    masks = Path(dataset["masks"]) if dataset["masks"] else None
    table = read_label_table(Path(dataset["image_labels"]), dataset["classes"])
    source = Source(classes=table.classes, problems=list(table.problems))
    source.check_names()
    if masks and not table.one_hot and not dataset["classes"]:
        source.problems.append(
            f"{masks}: the order of the classes in the masks is not known: "
            "expected `classes: [...]` in the configuration"
        )
    files = find_images(root, source)
    names = _names(files)
    rows = _match(files, names, table, Path(dataset["image_labels"]), root, source.problems)
    boxes = {}
    if dataset.get("boxes"):
        boxes = read_box_table(Path(dataset["boxes"]), names, source)
    splits = _splits(rows, table, seed, dataset["val_fraction"])
    found = find_masks(masks, source.problems) if masks else {}
    if masks:
        source.mask_values = read_mask_values(
            dataset.get("mask_values"), source.classes, source.problems
        )
    for stem, image in rows.items():
        source.candidates.append(
            Candidate(
                id=image_id(stem),
                image=files[stem],
                split=splits[stem],
                labels=table.labels[image],
                mask=mask_of(stem, masks, found, source.problems),
                boxes=boxes.get(stem, ()),
            )
        )
    source.unused_masks = tuple(
        path
        for stem in sorted(found.keys() - rows.keys())
        for path in found[stem]
        if path.suffix.lower() == SUFFIX
    )
    return source


def image_id(stem: str) -> str:
    """Return the id of an image from its path below the folder, without extension."""
    return stem.replace("/", "__")


def find_images(root: Path, source: Source) -> dict[str, Path]:
    """Return the images below a folder by path without extension, sorted.

    Parameters
    ----------
    root : Path
        Folder to search, with its sub-folders and links to folders, for files with one of the
        :data:`IMAGE_SUFFIXES`.
    source : Source
        Receives a problem for every image that has the name of another one, for every folder that
        cannot be searched and for every link that leads nowhere, and the skipped entries.
    """
    found = files_below(root, IMAGE_SUFFIXES)
    source.problems += found.problems
    source.skipped += found.skipped
    files: dict[str, Path] = {}
    for path in found.files:
        stem = path.relative_to(root).with_suffix("").as_posix()
        if stem in files:
            source.problems.append(
                f"{path}: {files[stem].name} has the same name: rename one of them"
            )
        files.setdefault(stem, path)
    return files


def hold_out(ids: Sequence[str], seed: int, fraction: float) -> set[str]:
    """Select the ids to hold out: those with the lowest seeded hash.

    The selection depends on the set of ids only, not on their order, and adding an image
    moves few others.

    Parameters
    ----------
    ids : sequence of str
    seed : int
    fraction : float
        Share in (0, 1), rounded; at least one id is held out and at least one is kept.
    """
    count = min(max(1, round(len(ids) * fraction)), len(ids) - 1)
    ranked = sorted(
        ids,
        key=lambda name: hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest(),
    )
    return set(ranked[:count])


def _names(files: Mapping[str, Path]) -> dict[str, str]:
    """Return image stems by the names that a table may use, with or without extension."""
    by_name = {stem: stem for stem in files}
    return by_name | {f"{stem}{file.suffix}": stem for stem, file in files.items()}


def _match(
    files: Mapping[str, Path],
    names: Mapping[str, str],
    table: LabelTable,
    path: Path,
    root: Path,
    problems: list[str],
) -> dict[str, str]:
    """Match image stems with the rows that name them."""
    lowered = {stem.rpartition("/")[2].lower(): file for stem, file in files.items()}
    rows: dict[str, str] = {}
    for image in table.labels:
        stem = names.get(image.removeprefix("./"))
        if stem is None:
            problems.append(f"{path}: row {image} has no image{_hint(image, root, lowered)}")
        elif stem in rows:
            problems.append(f"{path}: rows {rows[stem]} and {image} name the same image")
        else:
            rows[stem] = image
    for stem in sorted(files.keys() - rows.keys()):
        problems.append(f"{files[stem]}: image without a row in {path}, expected one")
    return dict(sorted(rows.items()))


def _hint(image: str, root: Path, lowered: Mapping[str, Path]) -> str:
    """Return why a row matches no image: another kind of file, another spelling, or missing."""
    near = lowered.get(Path(image).stem.lower())
    if near is not None:
        return f", expected a name below {root}: did you mean {near.relative_to(root).as_posix()}?"
    parts = Path(image).parts
    if not os.path.lexists(root / image) or ".." in parts or Path(image).is_absolute():
        return f", expected a file of that name below {root}"
    if any(map(is_system_name, parts)):
        return ": hidden files and system files are not read: rename it"
    if problem := file_problem(root / image, "image"):
        return f": {problem}"
    if Path(image).suffix.lower() not in IMAGE_SUFFIXES:
        return f": files of this kind are not read, expected {', '.join(sorted(IMAGE_SUFFIXES))}"
    return f", expected a file of that name below {root}"


def _splits(
    rows: Mapping[str, str], table: LabelTable, seed: int, fraction: float
) -> dict[str, str]:
    if table.splits:
        return {stem: table.splits[image] for stem, image in rows.items()}
    held_out = hold_out(list(rows), seed, fraction) if len(rows) > 1 else set()
    return {stem: "val" if stem in held_out else "train" for stem in rows}
