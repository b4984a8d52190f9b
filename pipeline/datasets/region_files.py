"""Class-agnostic masks in the files of SAM and SAM 2 (Kirillov et al. 2023, Ravi et al. 2024).

The masks of an image are either a JSON file ``ID.json``, a list of annotations or a mapping with
the key ``annotations`` (SA-1B), or a folder ``ID`` of PNG files 0.png, 1.png, ..., one a mask.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.manifest import Record
from pipeline.errors import UserError
from pipeline.io.images import UnreadableImageError, open_image
from pipeline.io.regions import Regions, regions_of_masks
from pipeline.io.run_lengths import Runs, mask_runs
from pipeline.io.user_files import is_system_name, read_user_text

#: Number of names in a message.
SHOWN = 3


@dataclass(frozen=True)
class RegionFiles:
    """The user's files of masks, by image id.

    Attributes
    ----------
    files : dict
        The JSON file or the folder of each image.
    problems : list of str
        One line each: images that have both.
    """

    files: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def find_region_files(folder: Path) -> RegionFiles:
    """List the masks in a folder; other files, such as pictures of the masks, are left out."""
    found = RegionFiles()
    for path in sorted(folder.iterdir()):
        if is_system_name(path.name):
            continue
        name = path.name if path.is_dir() else path.stem
        if not path.is_dir() and path.suffix.lower() != ".json":
            continue
        if name in found.files:
            found.problems.append(
                f"{folder}: masks of {name} are in a folder and in a JSON file, expected one of "
                "them: delete the other"
            )
        found.files[name] = path
    return found


def unmatched(folder: Path, wanted: Sequence[str], known: Iterable[str] | None) -> Iterator[str]:
    """Yield a problem for images without masks, and one for masks without an image.

    Parameters
    ----------
    folder : Path
        Folder of the masks.
    wanted : sequence of str
        Ids of the images that need masks.
    known : iterable of str or None
        Ids of all images, which may have masks; None if there may be others.
    """
    found = find_region_files(folder)
    yield from found.problems
    if missing := [name for name in wanted if name not in found.files]:
        yield (
            f"{folder}: no masks of {len(missing)} of {len(wanted)} images, first "
            f"{', '.join(missing[:SHOWN])}, expected {missing[0]}.json or a folder {missing[0]} of "
            "PNGs"
        )
    further = sorted(found.files.keys() - set(known)) if known is not None else []
    if further:
        yield (
            f"{folder}: masks of {len(further)} names that are no image of the data set, first "
            f"{', '.join(further[:SHOWN])}: delete them, or name them as the images"
        )


def read_regions(folder: Path, record: Record) -> Regions:
    """Read the masks of an image.

    Parameters
    ----------
    folder : Path
    record : Record
        The image. Its id names the masks.

    Returns
    -------
    Regions
        In the order of the file, without empty masks.

    Raises
    ------
    UserError
        If there are no masks of the image, or they are damaged or of another size.
    """
    size = record.height, record.width
    path = folder / f"{record.id}.json"
    if path.is_file():
        return regions_of_masks(size, _annotated(path, size))
    if not (folder / record.id).is_dir():
        raise UserError(
            f"{folder}: no masks of {record.id}, expected {path.name} or a folder {record.id}"
        )
    return regions_of_masks(size, _pictures(folder / record.id, size))


def _annotated(path: Path, size: tuple[int, int]) -> Iterator[Runs]:
    """Yield the masks of a JSON file."""
    for number, annotation in enumerate(_annotations(path, size)):
        try:
            if not isinstance(annotation, Mapping):
                raise ValueError("it is no annotation, expected a mapping with a segmentation")
            yield mask_runs(annotation.get("segmentation"), size)
        except ValueError as error:
            raise UserError(f"{path}: mask {number}: {error}") from error


def _annotations(path: Path, size: tuple[int, int]) -> list[Any]:
    try:
        document = json.loads(read_user_text(path, "JSON file of masks"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not complete JSON ({error}): write the masks again") from error
    if isinstance(document, dict):
        _check_image(path, document.get("image"), size)
        document = document.get("annotations")
    if not isinstance(document, list):
        raise UserError(
            f"{path}: no list of masks, expected one, or a mapping with the key annotations"
        )
    return document


def _check_image(path: Path, image: Any, size: tuple[int, int]) -> None:
    """Refuse masks that a file says are of an image of another size."""
    if not isinstance(image, Mapping):
        return
    stated = image.get("height", size[0]), image.get("width", size[1])
    if stated != size:
        raise UserError(
            f"{path}: masks are of an image of {stated[0]} x {stated[1]} (height x width), "
            f"expected {size[0]} x {size[1]}: make them from this image, upright"
        )


def _pictures(folder: Path, size: tuple[int, int]) -> Iterator[Runs]:
    """Yield the masks in the PNG files of a folder, in the order of their numbers."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() == ".png"]
    numbered = [path for path in paths if path.stem.isdecimal()]
    if not numbered and not (folder / "metadata.csv").is_file():
        raise UserError(f"{folder}: no masks, expected 0.png, 1.png and so on")
    for path in sorted(numbered, key=lambda path: int(path.stem)):
        yield _picture(path, size)


def _picture(path: Path, size: tuple[int, int]) -> Runs:
    try:
        with open_image(path, ("PNG",), what="mask") as image:
            if (image.height, image.width) != size:
                raise UnreadableImageError(
                    f"a mask of {image.height} x {image.width} (height x width), expected "
                    f"{size[0]} x {size[1]} as its image"
                )
            mask = np.asarray(image.convert("L")).ravel(order="F") > 0
    except UnreadableImageError as error:
        raise UserError(f"{path}: {error}") from error
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges[::2].astype(np.int64), (edges[1::2] - edges[::2]).astype(np.int64)
