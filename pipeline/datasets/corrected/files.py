"""The files of corrected masks: which format they are in, and the images that they show."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.corrected import coco, cvat, labelme
from pipeline.datasets.corrected.drawn import DrawnImage
from pipeline.datasets.ground_truth_checks import check_mask_and_boxes
from pipeline.datasets.manifest import Record
from pipeline.datasets.source import Candidate, Source
from pipeline.errors import UserError
from pipeline.io.arrays import read_label
from pipeline.io.images import MAX_PIXELS
from pipeline.io.plain_xml import parse_plain_xml
from pipeline.io.user_files import files_below, read_user_bytes

#: Suffixes of files that may have corrected masks.
SUFFIXES = (".png", ".json", ".xml")
EXPECTED = (
    "expected index PNGs ID.png, a JSON file of COCO, JSON files of labelme, or an XML file of "
    "CVAT (CVAT for images 1.1)"
)


@dataclass(frozen=True)
class IndexImage:
    """A label image ``ID.png`` that a person corrected.

    Attributes
    ----------
    file : Path
    image : str
        Path of the file below the user's folder.
    """

    file: Path
    image: str

    def read(self, record: Record, classes: Sequence[str]) -> NDArray[np.uint8]:
        """Read the (H, W) uint8 label image, checked as ground-truth masks are.

        Raises
        ------
        UserError
            If the file is damaged or has another size or an unknown value.
        """
        source = Source(classes=tuple(classes))
        given = Candidate(record.id, record.image, record.split, record.labels, self.file)
        if problems := check_mask_and_boxes(given, record, source, MAX_PIXELS).problems:
            raise UserError("\n".join(problems))
        return read_label(self.file)


CorrectedImage = IndexImage | DrawnImage


def user_files(path: Path) -> list[Path]:
    """Return the files that corrected masks are read from: one file, or those of a folder."""
    return list(files_below(path, SUFFIXES).files) if path.is_dir() else [path]


def find_corrected(path: Path) -> list[CorrectedImage]:
    """Find the images that a file or folder has corrected masks of.

    The format is detected by content. PNG files next to files of labelme, CVAT or COCO are the
    images that were drawn on.

    Parameters
    ----------
    path : Path
        The configuration's ``dataset.corrected``.

    Returns
    -------
    list of IndexImage or DrawnImage
        Not empty.

    Raises
    ------
    UserError
        If a folder cannot be searched, the files are damaged, are of several formats or of none,
        or no image has a mask.
    """
    if path.is_dir() and (problems := files_below(path, SUFFIXES).problems):
        raise UserError("\n".join(problems))
    paths = user_files(path)
    documents = {file: _document(file) for file in paths if file.suffix.lower() != ".png"}
    kinds = {kind for kind, _ in documents.values() if kind}
    if len(kinds) > 1:
        raise UserError(
            f"{path}: files of {' and of '.join(sorted(kinds))}, expected one format: keep the "
            "corrected one in a folder of its own"
        )
    found: list[CorrectedImage] = []
    for file, (kind, content) in documents.items():
        found += _READERS[kind](file, content) if kind else []
    if not kinds:
        if not path.is_dir() and path.suffix.lower() != ".png":
            raise UserError(f"{path}: corrected masks in an unknown format, {EXPECTED}")
        below = path if path.is_dir() else path.parent
        found += [IndexImage(p, str(p.relative_to(below))) for p in paths if p not in documents]
    if not found:
        lacking = "no shape is drawn" if kinds else "no corrected mask"
        raise UserError(f"{path}: {lacking}, {EXPECTED}: save a correction, or remove the setting")
    return found


def _document(path: Path) -> tuple[str | None, Any]:
    """Return the format and the content of a JSON or XML file; None for another document."""
    data = read_user_bytes(path, "file of corrected masks")
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    try:
        if start == b"<":
            root = parse_plain_xml(data, "annotations of CVAT")
            return ("CVAT" if root.tag == "annotations" else None), root
        if start not in (b"{", b"["):
            reason = (
                "a ZIP file: unpack it" if data.startswith(b"PK\x03\x04") else "no JSON and no XML"
            )
            raise UserError(f"{path}: {reason}, {EXPECTED}")
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}): export it again") from error
    keys = content.keys() if isinstance(content, Mapping) else frozenset()
    if keys >= coco.KEYS:
        return "COCO", content
    return ("labelme" if keys >= labelme.KEYS else None), content


def _read_labelme(path: Path, document: Mapping[str, Any]) -> Iterator[DrawnImage]:
    if (image := labelme.read_labelme(path, document)) is not None:
        yield image


_READERS: Mapping[str, Callable[[Path, Any], Iterator[DrawnImage]]] = {
    "COCO": coco.read_coco,
    "labelme": _read_labelme,
    "CVAT": cvat.read_cvat,
}
