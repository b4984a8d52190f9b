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
        0 background, 1 to 20 the classes of VOC; SBD has no ignored pixels.

    Raises
    ------
    ValueError
        If the file cannot be read or has no valid mask.

    References
    ----------
    Hariharan et al. 2011, "Semantic Contours from Inverse Detectors".
    """
    # Reading does not run code from the file: MATLAB's functions and objects are returned as
    # opaque records, and version 7.3 (HDF5) is refused. But SciPy's reader is not hardened:
    # crafted bytes crash it. Pass only files of an archive with a verified checksum, and do not
    # use the sparse `Boundaries` next to the mask, which are not checked.
    try:
        found = loadmat(path, appendmat=False, variable_names=["GTcls"])["GTcls"]
        mask = np.asarray(found["Segmentation"].item())
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"not a MATLAB 5 file with GTcls.Segmentation ({error})") from error
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise ValueError(f"its mask is {mask.dtype} {mask.shape}, expected integers (H, W)")
    beyond = np.unique(mask[(mask < 0) | (mask > len(CLASSES))]).tolist()
    if beyond:
        raise ValueError(f"its mask has the values {beyond}, expected 0 to {len(CLASSES)}")
    return mask.astype(np.uint8)


@dataclass(frozen=True)
class MaskConversion:
    """Conversion of SBD's masks to label images, called with an image id.

    Attributes
    ----------
    archive : Path
        Archive of the masks, for messages.
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
        """Convert the mask of one image, and check that their sizes are equal."""
        try:
            mask = read_segmentation(self.masks / f"{image_id}.mat")
            size = read_rgb(self.images / f"{image_id}.jpg").shape[:2]
            if mask.shape != size:
                raise ValueError(f"its mask is {mask.shape}, expected {size} like the image")
        except (ValueError, UserError) as error:
            raise UserError(
                f"{self.archive}: cls/{image_id}.mat: {error}: get the archive from its authors"
            ) from error
        write_label(self.labels / f"{image_id}.png", mask)
