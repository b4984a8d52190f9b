"""Photographs of an export: linked or copied where any reader sees them as the labels do."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import ExifTags, Image

from pipeline.datasets.manifest import Record
from pipeline.io.files import replacing
from pipeline.io.images import PHOTOGRAPHS, UnreadableImageError, open_image, read_rgb

#: Of photographs that are written anew.
JPEG_QUALITY = 95


def place_photograph(record: Record, path: Path, how: str) -> bool:
    """Put a record's photograph into an export, as a JPEG that needs no interpretation.

    Many readers ignore the EXIF orientation and differ on transparency, CMYK and 16 bits,
    while labels are made of what :func:`pipeline.io.images.read_rgb` shows. Whatever is not an
    8-bit gray or RGB JPEG, stored upright, is written anew as one.

    Parameters
    ----------
    record : Record
    path : Path
        Output, ``.jpg``.
    how : {"link", "copy", "none"}
        A symbolic link, a copy, or nothing at all. A link is relative where both ends are in
        the working folder, so that it leads to the photograph after the project was moved.

    Returns
    -------
    bool
        Whether it was written anew.

    Raises
    ------
    UserError
        If the file is absent, cannot be decoded or is no longer of the record's size.
    """
    place = PLACES[how]
    if place is None:
        return False
    if _is_plain(record):
        with replacing(path) as partial:
            place(record.image, partial)
        return False
    pixels = read_rgb(record.image, (record.height, record.width))
    with replacing(path) as partial:
        Image.fromarray(pixels).save(partial, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return True


def _is_plain(record: Record) -> bool:
    try:
        with open_image(record.image, PHOTOGRAPHS) as image:
            return (
                image.format == "JPEG"
                and image.mode in {"L", "RGB"}
                and image.size == (record.width, record.height)
                and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            )
    except UnreadableImageError:
        return False  # read_rgb says what is wrong with it


def _link(source: Path, path: Path) -> None:
    path.symlink_to(link_target(source, path.parent))


def link_target(source: Path, folder: Path) -> Path:
    """Choose the path by which a link or a table in a folder leads to a file.

    Parameters
    ----------
    source : Path
        The file, from the working folder or from the root.
    folder : Path
        Folder of the link, which exists.

    Returns
    -------
    Path
        Relative to the link's folder where both are in the working folder; else absolute.
    """
    project, absolute = Path.cwd(), source.absolute()
    if ".." in absolute.parts:
        absolute = absolute.resolve()
    # A link is followed from where its folder is in truth, which may be another disk.
    real = folder.resolve()
    if absolute.is_relative_to(project) and real.is_relative_to(project.resolve()):
        return Path(os.path.relpath(project.resolve() / absolute.relative_to(project), real))
    return absolute


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


#: What is done with a plain photograph, by the name it has in the configuration.
PLACES: dict[str, Callable[[Path, Path], None] | None] = {
    "link": _link,
    "copy": _copy,
    "none": None,
}
