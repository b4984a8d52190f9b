"""Ground-truth masks: their files and the meaning of their values."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError, did_you_mean
from pipeline.io.arrays import BACKGROUND, IGNORE, read_label
from pipeline.io.user_files import files_below

SUFFIX = ".png"
#: Suffixes of files that users may intend as masks but that are not read.
OTHER_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".tif", ".tiff", ".webp"})
#: Meanings of a value other than a class.
BACKGROUND_NAME, IGNORE_NAME = "background", "ignore"


@dataclass(frozen=True)
class Mask:
    """The ground-truth mask of one image.

    Attributes
    ----------
    path : Path
        The user's file.
    values : mapping of int to int, optional
        Label value (0 background, k class, 255 ignore) by stored value. None if the stored
        values are the label values.
    """

    path: Path
    values: Mapping[int, int] | None = None

    def read(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Read the mask as a label image.

        Parameters
        ----------
        size : (int, int), optional
            Height and width of its image.

        Returns
        -------
        (H, W) uint8 array
            0 background, 1 to 254 classes, 255 ignore.

        Raises
        ------
        UserError
            If the file cannot be decoded, has another size, or has a value without a meaning.
        """
        stored = read_label(self.path)
        if size is not None and stored.shape != tuple(size):
            raise UserError(
                f"{self.path}: mask is {stored.shape}, expected {tuple(size)} as its image: run "
                "again, so that all masks are checked"
            )
        if self.values is None:
            return stored
        unknown = sorted(set(np.unique(stored).tolist()) - self.values.keys())
        if unknown:
            raise UserError(f"{self.path}: {unknown_values(unknown, self.values)}")
        table = np.zeros(256, np.uint8)
        for value, number in self.values.items():
            table[value] = number
        return table[stored]


def unknown_values(values: list[int], known: Mapping[int, int]) -> str:
    """Return the error text for values that ``mask_values`` does not name."""
    expected = ", ".join(map(str, sorted(known)))
    return f"mask has the values {values}, expected those of `mask_values`, 0 and 255: {expected}"


def read_mask_values(
    given: Mapping[str, str] | None, classes: tuple[str, ...], problems: list[str]
) -> dict[int, int] | None:
    """Return the meaning of stored values according to the configuration's ``mask_values``.

    Parameters
    ----------
    given : mapping of str to str, or None
        A class name, ``background`` or ``ignore`` by stored value in decimal digits.
    classes : tuple of str
        Class number k is ``classes[k - 1]``.
    problems : list of str
        Receives a line for every name that is unknown or ambiguous.

    Returns
    -------
    dict of int to int, or None
        Label value by stored value. 0 is the background and 255 is ignored unless the setting
        says otherwise. None without the setting.
    """
    if not given:
        return None
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    if IGNORE_NAME in numbers and IGNORE_NAME in given.values():
        problems.append(
            f"mask_values: {IGNORE_NAME!r} is a class and the name for ignored pixels, expected "
            "another name for the class"
        )
    numbers |= {BACKGROUND_NAME: BACKGROUND, IGNORE_NAME: IGNORE}
    values = {BACKGROUND: BACKGROUND, IGNORE: IGNORE}
    for value, name in given.items():
        if name in numbers:
            values[int(value)] = numbers[name]
        else:
            problems.append(
                f"mask_values: {value} is {name!r}, expected background, ignore or one of "
                f"{', '.join(classes)}{did_you_mean(name, list(numbers))}"
            )
    return values


def find_masks(folder: Path, problems: list[str]) -> dict[str, list[Path]]:
    """Find the files below a folder that may be masks; the case of the suffix does not matter.

    Parameters
    ----------
    folder : Path
        Sub-folders are searched, links to folders too.
    problems : list of str
        Grows by a line for every folder that cannot be searched and every link that leads nowhere.

    Returns
    -------
    dict of str to list of Path
        PNG files and files with :data:`OTHER_SUFFIXES`, by path below the folder without suffix.
    """
    below = files_below(folder, {SUFFIX, *OTHER_SUFFIXES})
    problems += below.problems
    found: dict[str, list[Path]] = {}
    for path in below.files:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        found.setdefault(stem, []).append(path)
    return found


def mask_of(
    stem: str, folder: Path | None, found: Mapping[str, list[Path]], problems: list[str]
) -> Path | None:
    """Return the mask of an image; add a problem if it is ambiguous or not a PNG file.

    A path in the mask's place that is not a file is returned as well: its reader refuses it.
    """
    files = found.get(stem, [])
    masks = [path for path in files if path.suffix.lower() == SUFFIX]
    if len(masks) > 1:
        names = " and ".join(path.name for path in masks)
        problems.append(f"{masks[0].parent}: {names} are masks of one image, expected one of them")
    elif files and not masks:
        problems.append(
            f"{files[0]}: masks of this kind are not read, expected {files[0].stem}{SUFFIX}: "
            "convert it without loss to a PNG of class numbers"
        )
    if not files and folder is not None and os.path.lexists(folder / f"{stem}{SUFFIX}"):
        return folder / f"{stem}{SUFFIX}"
    return masks[0] if masks else None
