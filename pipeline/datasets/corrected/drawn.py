"""Images as annotation tools describe them: shapes with the names of classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.corrected.shapes import Pixels, Size
from pipeline.datasets.manifest import Record
from pipeline.datasets.source import unknown_label
from pipeline.errors import UserError
from pipeline.io.arrays import BACKGROUND, IGNORE

#: Names of labels that are no class; a class of the same name comes first.
BACKGROUND_NAMES = ("background", "_background_")
IGNORE_NAMES = ("ignore", "ignored", "void", "__ignore__")


@dataclass(frozen=True)
class Shape:
    """One shape of an image.

    Attributes
    ----------
    label : str
        Name of a class, or one of :data:`BACKGROUND_NAMES` and :data:`IGNORE_NAMES`.
    pixels : callable
        Function that returns the shape's (H, W) bool mask from the image's height and width. It
        raises ValueError if the shape is damaged.
    """

    label: str
    pixels: Callable[[Size], Pixels]


@dataclass(frozen=True)
class DrawnImage:
    """The shapes that a person drew on an image.

    Attributes
    ----------
    file : Path
        The user's file.
    image : str
        Name or path of the image, as the tool has it.
    size : (int, int) or None
        Height and width of the image, if the file has them.
    shapes : sequence of Shape
        One or more. Where shapes overlap, the last one is on top.
    smallest_on_top : bool
        Whether the shape with fewer pixels is on top instead, as COCO has no order.
    """

    file: Path
    image: str
    size: Size | None
    shapes: Sequence[Shape]
    smallest_on_top: bool = False

    def read(self, record: Record, classes: Sequence[str]) -> NDArray[np.uint8]:
        """Draw the shapes as a label image.

        Returns
        -------
        (H, W) uint8 array
            0 background, k the class ``classes[k - 1]``, 255 ignore.

        Raises
        ------
        UserError
            If the image has another size, a label is unknown, or a shape is damaged.
        """
        size = record.height, record.width
        place = f"{self.file}, {self.image}"
        if self.size is not None and self.size != size:
            raise UserError(
                f"{place}: drawn on an image of {self.size[1]}x{self.size[0]}, expected "
                f"{size[1]}x{size[0]} as {record.image}: draw on the upright image in full size"
            )
        values = label_values(classes)
        label = np.full(size, BACKGROUND, np.uint8)
        drawn = []
        for number, shape in enumerate(self.shapes, start=1):
            if shape.label not in values:
                raise UserError(unknown_label(f"{place}, shape {number}", shape.label, classes))
            try:
                drawn.append((values[shape.label], shape.pixels(size)))
            except ValueError as error:
                raise UserError(f"{place}, shape {number}: {error}") from error
        if self.smallest_on_top:
            drawn.sort(key=lambda item: -int(item[1].sum()))
        for value, pixels in drawn:
            label[pixels] = value
        return label


def label_values(classes: Sequence[str]) -> Mapping[str, int]:
    """Return the label value of each name that a shape may have.

    Examples
    --------
    >>> values = label_values(["cat", "void"])
    >>> values["background"], values["cat"], values["void"], values["ignore"]
    (0, 1, 2, 255)
    """
    return (
        dict.fromkeys(BACKGROUND_NAMES, BACKGROUND)
        | dict.fromkeys(IGNORE_NAMES, IGNORE)
        | {name: number for number, name in enumerate(classes, start=1)}
    )
