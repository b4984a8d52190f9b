"""Reader of data sets in the layout of the PASCAL VOC devkit."""

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipeline.datasets.annotation import objects_of
from pipeline.datasets.manifest import Box
from pipeline.datasets.masks import find_masks, mask_of, read_mask_values
from pipeline.datasets.paths import in_dataset
from pipeline.datasets.source import Candidate, Source, unknown_label
from pipeline.datasets.tables import MAX_PIXELS, LabelTable, read_box_table, read_label_table
from pipeline.errors import UserError
from pipeline.io.plain_xml import parse_plain_xml
from pipeline.io.user_files import is_system_name, read_user_bytes, read_user_text

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
SUFFIXES = (".jpg", ".jpeg", ".png")
#: Suffixes that a list may have after an id.
_LISTED_SUFFIXES = (*SUFFIXES, ".xml")
_QUOTED = re.compile(r"""(["'])(.*?)\1""")


def read_voc(dataset: Mapping[str, Any]) -> Source:
    """Read a data set of kind ``voc``.

    Parameters
    ----------
    dataset : mapping
        Keys ``root``, ``train_list``, ``val_list``, ``image_labels``, ``masks``, ``classes``
        and, optionally, ``boxes`` (a table of true boxes) and ``mask_values``; paths are
        relative to the root. With ``score_list``, only the listed training images have a mask
        and boxes. Without ``image_labels``, the labels of an image are the names of all objects
        in its ``Annotations/ID.xml``, including difficult ones, and its boxes are those of the
        objects unless ``boxes`` is set. With ``empty_boxes: skip``, objects without area are
        ignored.

    Returns
    -------
    Source
        Listed images without a mask file have no mask and are not scored. Invalid boxes in
        annotations are not used either, but their labels are.
    """
    root = Path(dataset["root"])
    classes = tuple(dataset["classes"] or CLASSES)
    source = Source(classes=classes)
    source.check_names()
    files = find_voc_images(root)
    rows: dict[str, tuple[str, ...]] | None = None
    if dataset["image_labels"]:
        table = read_label_table(in_dataset(root, dataset["image_labels"]), classes)
        source.problems += table.problems
        rows = _rows(table, files, source)
    known = None
    if dataset.get("boxes"):
        known = read_box_table(in_dataset(root, dataset["boxes"]), _names(files), source)
    elif rows is None:
        source.unusable_boxes = []
    masks = {}
    mask_folder = root / dataset["masks"] if dataset["masks"] else None
    if mask_folder is not None:
        masks = find_masks(mask_folder, source.problems)
        source.mask_values = read_mask_values(dataset.get("mask_values"), classes, source.problems)
    for split, image_id in _listed(dataset, files):
        image = _listed_image(root, image_id, files, dataset[f"{split}_list"], source)
        if image is None:
            continue
        boxes: tuple[Box, ...] = ()
        if rows is None:
            annotation = root / "Annotations" / f"{image_id}.xml"
            skip = dataset.get("empty_boxes") == "skip"
            labels, boxes = _annotated(annotation, source, skip_empty=skip)
        else:
            labels = _labels_of(image_id, image, rows, source)
        boxes = boxes if known is None else known.get(image_id, ())
        mask = mask_of(image_id, mask_folder, masks, source.problems)
        source.candidates.append(Candidate(image_id, image, split, labels, mask, boxes))
    if dataset.get("score_list") and dataset["masks"]:
        path = in_dataset(root, dataset["score_list"])
        listed = dict.fromkeys(read_list(path, files))
        _keep_scored(source, path, listed, root / dataset["masks"])
    return source


def _keep_scored(source: Source, path: Path, listed: Mapping[str, None], masks: Path) -> None:
    """Remove the ground truth of training images that are not on a list of scored images."""
    train = {
        candidate.id: candidate for candidate in source.candidates if candidate.split == "train"
    }
    unknown = [image_id for image_id in listed if image_id not in train]
    unmasked = [image_id for image_id in listed if image_id in train and not train[image_id].mask]
    if not listed:
        source.problems.append(f"{path}: the list is empty, expected ids of training images")
    if unknown:
        source.problems.append(
            f"{path}: {len(unknown)} of {len(listed)} ids are not in the training list, first "
            f"{unknown[0]}, expected training images to score: correct the dataset's score_list"
        )
    if unmasked:
        source.problems.append(
            f"{path}: {len(unmasked)} of {len(listed)} ids have no mask in {masks}, first "
            f"{unmasked[0]}.png, expected a mask for each scored image"
        )
    source.candidates = [
        candidate
        if candidate.split == "val" or candidate.id in listed
        else replace(candidate, mask=None, boxes=())
        for candidate in source.candidates
    ]


def find_voc_images(root: Path) -> dict[str, list[Path]]:
    """Return the images of a devkit by id: ``JPEGImages/ID`` with any of :data:`SUFFIXES`."""
    files: dict[str, list[Path]] = {}
    for path in sorted((root / "JPEGImages").glob("*")):
        if path.suffix.lower() in SUFFIXES and not is_system_name(path.name):
            files.setdefault(path.stem, []).append(path)
    return files


def read_list(path: Path, known: Container[str] = ()) -> list[str]:
    """Read the ids of a list, one per line.

    Parameters
    ----------
    path : Path
        UTF-8 text. If a line has several fields, the first one names the image, by id or path.
        Ids may contain spaces, be in quotation marks, and have the suffix of an image.
    known : container of str
        Ids of existing images, which decide where an id ends.
    """
    lines = read_user_text(path, "list", ", expected one image id per line").splitlines()
    return [_id_of(line.strip(), known) for line in lines if line.strip()]


def _listed(dataset: Mapping[str, Any], known: Container[str]) -> Iterator[tuple[str, str]]:
    """Yield the split and the id of every image of both lists."""
    for split in ("train", "val"):
        for image_id in read_list(in_dataset(dataset["root"], dataset[f"{split}_list"]), known):
            yield split, image_id


def _id_of(line: str, known: Container[str]) -> str:
    """Return the id in a line: the longest known id, otherwise the first word."""
    quoted = _QUOTED.match(line)
    fields = len(line.split())
    texts = [line.rsplit(maxsplit=count)[0] for count in range(fields)]
    for text in [*texts, *([quoted[2]] if quoted else [])]:
        if (found := _known_id(text, known)) is not None:
            return found
    word = quoted[2] if quoted else line.split(maxsplit=1)[0]
    name = word.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if name != word else name


def _known_id(text: str, known: Container[str]) -> str | None:
    """Return the known id for a name or a path, with or without suffix."""
    name = text.strip().rsplit("/", 1)[-1]
    stem, _, suffix = name.rpartition(".")
    candidates = [name, stem] if f".{suffix.lower()}" in _LISTED_SUFFIXES else [name]
    return next((candidate for candidate in candidates if candidate in known), None)


def _listed_image(
    root: Path, image_id: str, files: Mapping[str, list[Path]], listed_in: str, source: Source
) -> Path | None:
    paths = files.get(image_id, [])
    if not paths:
        source.problems.append(
            f"{root / 'JPEGImages' / image_id}: no such image (.jpg, .jpeg or .png), "
            f"listed in {listed_in}"
        )
        return None
    if len(paths) > 1:
        source.problems.append(
            f"{paths[1]}: {paths[0].name} has the same name: rename or remove one of them"
        )
    return paths[0]


def _names(files: Mapping[str, list[Path]]) -> dict[str, str]:
    """Return image ids by the names that a table may use, also for images that no list has."""
    names = {f"{stem}{suffix}": stem for stem in files for suffix in SUFFIXES}
    return (
        names
        | {path.name: stem for stem, paths in files.items() for path in paths}
        | {stem: stem for stem in files}
    )


def _rows(
    table: LabelTable, files: Mapping[str, list[Path]], source: Source
) -> dict[str, tuple[str, ...]]:
    """Return the labels of a table by image id."""
    rows: dict[str, tuple[str, ...]] = {}
    named: dict[str, str] = {}
    for image, labels in table.labels.items():
        image_id = _known_id(image, files)
        if image_id is None:
            continue  # the table may have rows for other images
        if image_id in named:
            source.problems.append(
                f"rows {named[image_id]} and {image} of the table of labels name the same image"
            )
        named[image_id] = image
        rows[image_id] = labels
    return rows


def _labels_of(
    image_id: str, image: Path, rows: Mapping[str, tuple[str, ...]], source: Source
) -> tuple[str, ...]:
    if image_id not in rows:
        source.problems.append(f"{image}: image without a row in the table of labels, expected one")
    return rows.get(image_id, ())


def _annotated(
    path: Path, source: Source, *, skip_empty: bool
) -> tuple[tuple[str, ...], tuple[Box, ...]]:
    """Return the names of an annotation's objects, and their boxes if all are valid."""
    try:
        objects = objects_of(_parsed(path), source.classes)
    except UserError as error:
        source.problems.append(str(error))
        return (), ()
    except ValueError as error:
        source.problems.append(f"{path}: {error}: fix the file, or set `image_labels: FILE.csv`")
        return (), ()
    objects = [(name, node) for name, node in objects if not (skip_empty and _is_empty(node))]
    names = tuple(dict.fromkeys(name for name, _ in objects))
    for name in names:
        if name not in source.classes:
            source.problems.append(unknown_label(str(path), name, source.classes))
    if source.unusable_boxes is None:
        return names, ()
    try:
        boxes = [_box(name, node) for name, node in objects if node.find("bndbox") is not None]
    except ValueError as error:
        source.unusable_boxes.append(f"{path}: a bndbox is invalid ({error})")
        return names, ()
    return names, tuple(boxes)


def _is_empty(node: ElementTree.Element) -> bool:
    """Return whether an object's box starts and ends in the same column or row of pixels.

    Such boxes have no area in the published code of Puzzle-CAM, which subtracts the corners.
    """
    corners = [node.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (int(float(corner or "")) for corner in corners)
    except (ValueError, OverflowError):
        return False
    return left == right or top == bottom


def _parsed(path: Path) -> ElementTree.Element:
    """Parse an annotation; raise ValueError if it is not plain XML."""
    data = read_user_bytes(path, "annotation", "; set `image_labels: FILE.csv` instead?")
    return parse_plain_xml(data, "an annotation")


def _box(name: str, node: ElementTree.Element) -> Box:
    """Read the box of one object; VOC counts pixels from 1 and includes the last one."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    edges = [float(node.findtext(f"bndbox/{corner}") or "") for corner in corners]
    if not all(isfinite(edge) and abs(edge) < MAX_PIXELS for edge in edges):
        raise ValueError(f"its edges are {edges}, expected numbers of pixels")
    left, top, right, bottom = edges
    if right < left or bottom < top:
        raise ValueError(f"it ends at {right}, {bottom} before it starts at {left}, {top}")
    return Box(name, left - 1, top - 1, right, bottom)
