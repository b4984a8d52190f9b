"""EXIF orientation of photographs, and how to ignore it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pipeline.datasets.manifest import Record
from pipeline.io.files import replacing
from pipeline.io.images import IMAGE_FORMATS, UnreadableImageError, open_image, read_rgb
from pipeline.runtime.parallel import map_images

#: Orientation of a photograph that is stored upright.
UPRIGHT = 1
#: Orientations that exchange width and height.
SIDEWAYS = frozenset({5, 6, 7, 8})
#: Transposition from the upright image back to the stored one, by orientation.
_INVERSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def exif_orientation(path: Path) -> int:
    """Return the EXIF orientation of an image file, 1 (upright) to 8; 1 if it has none."""
    try:
        with open_image(path, IMAGE_FORMATS) as image:
            found = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except UnreadableImageError:
        return UPRIGHT  # the error is reported when the image is decoded
    return found if found in _INVERSE else UPRIGHT


def stored_pixels(path: Path) -> NDArray[np.uint8]:
    """Decode a photograph without its EXIF orientation.

    Returns
    -------
    (H, W, 3) uint8 array
        The image that :func:`pipeline.io.images.read_rgb` returns, rotated back.
    """
    # Rotate back instead of skipping the rotation: Pillow itself rotates images of some formats.
    upright = Image.fromarray(read_rgb(path))
    inverse = _INVERSE.get(exif_orientation(path))
    return np.asarray(upright if inverse is None else upright.transpose(inverse))


def without_orientation(
    records: Sequence[Record], folder: Path, *, workers: int = 1
) -> list[Record]:
    """Replace photographs with an EXIF orientation by files of their stored pixels.

    This implements ``exif: ignore`` of a data set. A photograph with an orientation is written as
    ``ID.png`` with the stored pixels and without EXIF, and its record names that file. Later
    stages, exports and other readers of the manifest need not know the setting. All other
    records are unchanged.

    Parameters
    ----------
    records : sequence of Record
        Records with the sizes of the upright photographs.
    folder : Path
        Output folder of the files.
    workers : int
        Number of processes.

    Returns
    -------
    list of Record
        Records in the given order.
    """
    work = _Rewriting(folder)
    return list(map_images(work, records, workers=workers, what="EXIF orientations removed"))


@dataclass(frozen=True)
class _Rewriting:
    folder: Path

    def __call__(self, record: Record) -> Record:
        if exif_orientation(record.image) == UPRIGHT:
            return record
        path = self.folder / f"{record.id}.png"
        pixels = stored_pixels(record.image)
        with replacing(path) as partial:
            Image.fromarray(pixels).save(partial, format="PNG")
        return replace(record, image=path, height=pixels.shape[0], width=pixels.shape[1])
