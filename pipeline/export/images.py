"""Images of an export: linked or copied, or rewritten if readers would decode them differently."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import ExifTags, Image

from pipeline.datasets.manifest import Record
from pipeline.io.files import replacing
from pipeline.io.images import IMAGE_FORMATS, UnreadableImageError, open_image, read_rgb

#: JPEG quality of images that are rewritten.
JPEG_QUALITY = 95


def export_image(record: Record, path: Path, how: str) -> bool:
    """Add a record's image to an export, as a JPEG that all readers decode alike.

    Many readers ignore the EXIF orientation, and they differ on transparency, CMYK and 16 bits.
    Labels belong to the image that :func:`pipeline.io.images.read_rgb` returns. Therefore any
    image that is not an upright 8-bit gray or RGB JPEG is rewritten as one.

    Parameters
    ----------
    record : Record
    path : Path
        Output, ``.jpg``.
    how : {"link", "copy", "none"}
        Add a symbolic link, a copy, or nothing. A link is relative if both ends are in the
        working folder, so that it still works after the project is moved.

    Returns
    -------
    bool
        Whether the image was rewritten.

    Raises
    ------
    UserError
        If the file is missing, cannot be decoded or no longer has the record's size.
    """
    include = INCLUSIONS[how]
    if include is None:
        return False
    if _is_plain(record):
        with replacing(path) as partial:
            include(record.image, partial)
        return False
    pixels = read_rgb(record.image, (record.height, record.width))
    with replacing(path) as partial:
        Image.fromarray(pixels).save(partial, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return True


def _is_plain(record: Record) -> bool:
    try:
        with open_image(record.image, IMAGE_FORMATS) as image:
            return (
                image.format == "JPEG"
                and image.mode in {"L", "RGB"}
                and image.size == (record.width, record.height)
                and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            )
    except UnreadableImageError:
        return False  # read_rgb reports the error


def _link(source: Path, path: Path) -> None:
    path.symlink_to(link_target(source, path.parent))


def link_target(source: Path, folder: Path) -> Path:
    """Return the path to a file for a link or a table in a folder.

    Parameters
    ----------
    source : Path
        The file, as an absolute path or relative to the working folder.
    folder : Path
        Existing folder of the link.

    Returns
    -------
    Path
        Relative to the link's folder if both are in the working folder, otherwise absolute.
    """
    project, absolute = Path.cwd(), source.absolute()
    if ".." in absolute.parts:
        absolute = absolute.resolve()
    # Links are resolved from the real location of their folder, which may be another disk.
    real = folder.resolve()
    if absolute.is_relative_to(project) and real.is_relative_to(project.resolve()):
        return Path(os.path.relpath(project.resolve() / absolute.relative_to(project), real))
    return absolute


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


#: How a plain JPEG is added, by its name in the configuration.
INCLUSIONS: dict[str, Callable[[Path, Path], None] | None] = {
    "link": _link,
    "copy": _copy,
    "none": None,
}
