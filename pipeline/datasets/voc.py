"""The layout of the PASCAL VOC devkit."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipeline.datasets.manifest import Box
from pipeline.datasets.source import Candidate, Source, unknown_label
from pipeline.datasets.tables import LabelTable, read_box_table, read_label_table
from pipeline.errors import UserError
from pipeline.user_files import read_user_bytes, read_user_text

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
SUFFIXES = (".jpg", ".jpeg", ".png")


class _DocumentTypeError(Exception):
    """An annotation has a document type."""


class _Plain(ElementTree.TreeBuilder):
    """Refuses document types: they could define entities that grow without bound; VOC has none."""

    def doctype(self, name: str, _pubid: str | None, _system: str | None) -> None:
        raise _DocumentTypeError(name)


def read_voc(dataset: Mapping[str, Any]) -> Source:
    """Read a data set of kind ``voc``.

    Parameters
    ----------
    dataset : mapping
        Keys ``root``, ``train_list``, ``val_list``, ``labels``, ``masks``, ``classes`` and,
        where there is a table of true boxes, ``boxes``; paths are relative to the root. With
        ``score_list``, other training images than those listed have neither mask nor boxes.
        Without ``labels``, an image's labels are the names of all objects in its
        ``Annotations/ID.xml``, difficult ones included; their boxes are known, unless a table
        gives others. With ``empty_boxes: skip``, objects without area have no part in either.

    Returns
    -------
    Source
        A listed image without a mask file has none: it is not scored.
    """
    root = Path(dataset["root"])
    classes = tuple(dataset["classes"] or CLASSES)
    source = Source(classes=classes)
    source.check_names()
    table = None
    if dataset["labels"]:
        table = read_label_table(root / dataset["labels"], classes)
        source.problems += table.problems
    known = None
    if dataset.get("boxes"):
        known = read_box_table(root / dataset["boxes"], _names(root / "JPEGImages"), source)
    for split in ("train", "val"):
        for image_id in read_list(root / dataset[f"{split}_list"]):
            image = _find_image(root / "JPEGImages", image_id)
            if image is None:
                source.problems.append(
                    f"{root / 'JPEGImages' / image_id}: no such image (.jpg, .jpeg or .png), "
                    f"listed in {dataset[f'{split}_list']}"
                )
                continue
            boxes: tuple[Box, ...] = ()
            if table is None:
                annotation = root / "Annotations" / f"{image_id}.xml"
                skip = dataset.get("empty_boxes") == "skip"
                labels, boxes = _annotated(annotation, source, boxed=known is None, skip=skip)
            else:
                labels = _labels_of(image_id, image, table, source)
            boxes = boxes if known is None else known.get(image_id, ())
            mask = root / dataset["masks"] / f"{image_id}.png" if dataset["masks"] else None
            found = mask if mask is not None and os.path.lexists(mask) else None
            source.candidates.append(Candidate(image_id, image, split, labels, found, boxes))
    if dataset.get("score_list") and dataset["masks"]:
        _keep_scored(source, root / dataset["score_list"], root / dataset["masks"])
    return source


def _keep_scored(source: Source, path: Path, masks: Path) -> None:
    """Take the truth from all training images but those on a list, which have to have a mask."""
    listed = dict.fromkeys(read_list(path))
    train = {
        candidate.id: candidate for candidate in source.candidates if candidate.split == "train"
    }
    unknown = [image_id for image_id in listed if image_id not in train]
    unmasked = [image_id for image_id in listed if image_id in train and not train[image_id].mask]
    if not listed:
        source.problems.append(f"{path}: an empty list, expected ids of training images to score")
    if unknown:
        source.problems.append(
            f"{path}: {len(unknown)} of {len(listed)} ids are not in the training list, first "
            f"{unknown[0]}, expected training images to score: correct the dataset's score_list"
        )
    if unmasked:
        source.problems.append(
            f"{path}: {len(unmasked)} of {len(listed)} ids have no mask in {masks}, first "
            f"{unmasked[0]}.png, expected one of each that is scored"
        )
    source.candidates = [
        candidate
        if candidate.split == "val" or candidate.id in listed
        else replace(candidate, mask=None, boxes=())
        for candidate in source.candidates
    ]


def read_list(path: Path) -> list[str]:
    """Read ids, one a line; of a line of several paths the first names the image."""
    lines = read_user_text(path, "list", ", expected one image id a line").splitlines()
    words = [line.split()[0] for line in lines if line.strip()]
    return [word.rsplit("/", 1)[-1].rsplit(".", 1)[0] if "/" in word else word for word in words]


def _find_image(folder: Path, image_id: str) -> Path | None:
    paths = (folder / f"{image_id}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if os.path.lexists(path)), None)


def _names(folder: Path) -> dict[str, str]:
    """Give the id of an image by what a table may call it; the lists may leave images out."""
    paths = [path for path in sorted(folder.glob("*")) if path.suffix in SUFFIXES]
    return {path.stem: path.stem for path in paths} | {path.name: path.stem for path in paths}


def _labels_of(image_id: str, image: Path, table: LabelTable, source: Source) -> tuple[str, ...]:
    for name in (image.name, image_id):
        if name in table.labels:
            return table.labels[name]
    source.problems.append(f"{image}: image without a row in the table of labels, expected one")
    return ()


def _annotated(
    path: Path, source: Source, *, boxed: bool, skip: bool
) -> tuple[tuple[str, ...], tuple[Box, ...]]:
    """Give the names of the objects of an annotation and, if wanted, their boxes.

    Objects without area are skipped if wanted.
    """
    try:
        data = read_user_bytes(path, "annotation", "; give `labels: FILE.csv` instead?")
    except UserError as error:
        source.problems.append(str(error))
        return (), ()
    try:
        parser = ElementTree.XMLParser(target=_Plain())  # noqa: S314 - no entities, see _Plain
        tree: ElementTree.Element = ElementTree.fromstring(data, parser)  # noqa: S314 - as above
    except _DocumentTypeError:
        source.problems.append(f"{path}: got a document type, expected a plain annotation")
        return (), ()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        source.problems.append(f"{path}: not well-formed XML ({error}): replace the file")
        return (), ()
    objects = [node for node in tree.iterfind("object") if not (skip and _is_empty(node))]
    found = (name for node in objects for name in node.iterfind("name"))
    names = dict.fromkeys((name.text or "").strip() for name in found)
    for name in names:
        if name not in source.classes:
            source.problems.append(unknown_label(str(path), name, source.classes))
    if not boxed:
        return tuple(names), ()
    try:
        boxes = [_box(node) for node in objects if node.find("bndbox") is not None]
    except ValueError as error:
        source.problems.append(f"{path}: a bndbox is no box ({error}): replace the file")
        return tuple(names), ()
    return tuple(names), tuple(boxes)


def _is_empty(node: ElementTree.Element) -> bool:
    """Tell whether an object's box starts and ends in one column or one row of whole pixels.

    The published code of Puzzle-CAM takes the difference of the corners for a length.
    """
    corners = [node.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (int(float(corner or "")) for corner in corners)
    except (ValueError, OverflowError):
        return False
    return left == right or top == bottom


def _box(node: ElementTree.Element) -> Box:
    """Read one object; VOC counts pixels from 1 and includes the last one."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    left, top, right, bottom = (float(node.findtext(f"bndbox/{name}") or "") for name in corners)
    if right < left or bottom < top:
        raise ValueError(f"it ends at {right}, {bottom} before it starts at {left}, {top}")
    return Box((node.findtext("name") or "").strip(), left - 1, top - 1, right, bottom)
