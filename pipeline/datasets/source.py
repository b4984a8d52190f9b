"""The result of a data set reader: images to be checked, and the problems found so far."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.manifest import SEPARATOR, Box
from pipeline.datasets.names import class_problem
from pipeline.errors import did_you_mean, shortened
from pipeline.io.arrays import BACKGROUND, IGNORE

#: Number of label values, without those of background and ignored pixels.
MAX_CLASSES = IGNORE - BACKGROUND - 1
#: Maximum number of characters of a name, and of names, in a message.
MAX_NAME_LENGTH, MAX_NAMES = 80, 20


@dataclass(frozen=True)
class Candidate:
    """One image as the data set's files describe it, before it is decoded.

    Attributes
    ----------
    id : str
        Name of the image in every later file.
    image : Path
        The image file.
    split : str
        ``"train"`` or ``"val"``.
    labels : tuple of str
        Class names.
    mask : Path or None
        The ground-truth mask, if there is one.
    boxes : tuple of Box
        True boxes of objects, if they are known.
    """

    id: str
    image: Path
    split: str
    labels: tuple[str, ...]
    mask: Path | None
    boxes: tuple[Box, ...] = ()


@dataclass
class Source:
    """A data set as read, with the problems found so far.

    Attributes
    ----------
    classes : tuple of str
        Class names in the order of the masks' values.
    candidates : list of Candidate
        The images.
    problems : list of str
        One line per problem.
    unused_masks : tuple of Path
        Masks in the user's folder that belong to no image.
    skipped : tuple of Path
        Hidden and system files in the image folder, which are not read.
    mask_values : dict of int to int, or None
        Label value (0 background, k class, 255 ignore) by the value in a mask; None if they are
        the same.
    unusable_boxes : list of str or None
        One line per invalid box of the annotations; their images count as images without boxes.
        None if invalid boxes are problems.
    """

    classes: tuple[str, ...] = ()
    candidates: list[Candidate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unused_masks: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()
    mask_values: dict[int, int] | None = None
    unusable_boxes: list[str] | None = None

    def check_names(self) -> None:
        """Add a problem for every class name that cannot be used."""
        for name in self.classes:
            if SEPARATOR in name or name != name.strip() or not name:
                self.problems.append(
                    f"class {name!r}: the name is empty or has {SEPARATOR!r} or outer spaces, "
                    "expected a plain name"
                )
            elif problem := class_problem(name):
                self.problems.append(f"class {shortened(name, MAX_NAME_LENGTH)!r}: {problem}")
        for name in (name for name, count in Counter(self.classes).items() if count > 1):
            self.problems.append(f"class {name!r} is listed twice, expected distinct names")
        for name in {name for name in self.classes if name.casefold() == "background"}:
            self.problems.append(
                f"class {name!r}: the background has the value 0 and is not a class: leave it "
                "out; images without any class have no label"
            )
        if len(self.classes) > MAX_CLASSES:
            self.problems.append(
                f"there are {len(self.classes)} classes, expected at most {MAX_CLASSES}: label "
                "images have one byte per pixel"
            )
        if not self.classes:
            self.problems.append("no class at all: expected labels that name at least one")


def unknown_label(where: str, name: str, classes: Sequence[str]) -> str:
    """Return the error text for a label that is not a class, with the nearest class name."""
    more = f" or {len(classes) - MAX_NAMES} more" if len(classes) > MAX_NAMES else ""
    expected = ", ".join(shortened(known, MAX_NAME_LENGTH) for known in classes[:MAX_NAMES]) + more
    hint = did_you_mean(name, classes)
    got = shortened(name, MAX_NAME_LENGTH)
    return f"{where}: unknown label {got!r}, expected one of {expected}{hint}"
