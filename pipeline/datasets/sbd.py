"""The class masks of the Semantic Boundaries Dataset (SBD)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from pipeline.datasets.voc import CLASSES
from pipeline.errors import UserError
from pipeline.io.arrays import write_label
from pipeline.io.images import read_rgb


def read_segmentation(path: Path) -> NDArray[np.uint8]:
    """Read the class mask of one image, ``GTcls.Segmentation`` of a MATLAB 5 file.

    Parameters
    ----------
    path : Path
        A file of SBD's folder ``cls``.

    Returns
    -------
    (H, W) uint8 array
        0 background, 1 to 20 the classes of VOC; SBD ignores no pixel.

    Raises
    ------
    ValueError
        If the file cannot be read, or holds no such mask.

    References
    ----------
    Hariharan et al. 2011, "Semantic Contours from Inverse Detectors".
    """
    # Reading runs nothing that a file holds: functions and objects of MATLAB arrive as opaque
    # records, and version 7.3, which is HDF5, is refused. But SciPy's reader is not hardened
    # (crafted bytes crash it): give it files of an archive with a verified checksum only, and
    # compute nothing with the sparse `Boundaries` that come with the mask, unchecked.
    try:
        found = loadmat(path, appendmat=False, variable_names=["GTcls"])["GTcls"]
        mask = np.asarray(found["Segmentation"].item())
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"not a MATLAB 5 file with GTcls.Segmentation ({error})") from error
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise ValueError(f"its mask is {mask.dtype} {mask.shape}, expected whole numbers (H, W)")
    beyond = np.unique(mask[(mask < 0) | (mask > len(CLASSES))]).tolist()
    if beyond:
        raise ValueError(f"its mask has the values {beyond}, expected 0 to {len(CLASSES)}")
    return mask.astype(np.uint8)


@dataclass(frozen=True)
class MaskConversion:
    """Writes the label image of one image, given its id.

    Attributes
    ----------
    archive : Path
        Where the masks are from, for messages.
    masks, images : Path
        Folders of ``ID.mat`` and of ``ID.jpg``.
    labels : Path
        Output: folder of ``ID.png``.
    """

    archive: Path
    masks: Path
    images: Path
    labels: Path

    def __call__(self, image_id: str) -> None:
        """Convert the mask of an image of that size."""
        try:
            mask = read_segmentation(self.masks / f"{image_id}.mat")
            size = read_rgb(self.images / f"{image_id}.jpg").shape[:2]
            if mask.shape != size:
                raise ValueError(f"its mask is {mask.shape}, expected {size} as the photograph")
        except (ValueError, UserError) as error:
            raise UserError(
                f"{self.archive}: cls/{image_id}.mat: {error}: get the archive from its authors"
            ) from error
        write_label(self.labels / f"{image_id}.png", mask)
