"""What a reader of a data set returns: records to be checked, and the problems it met."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.manifest import SEPARATOR, Box
from pipeline.datasets.names import class_problem
from pipeline.errors import did_you_mean, shortened
from pipeline.io.arrays import BACKGROUND, IGNORE

#: The label images' values that are left by background and ignored pixels.
MOST_CLASSES = IGNORE - BACKGROUND - 1
#: Characters of a name, and number of names, that a message quotes.
SHOWN, LISTED = 80, 20


@dataclass(frozen=True)
class Candidate:
    """One image as the data set's files describe it, before any look at its pixels.

    Attributes
    ----------
    id : str
        Name of the image in every later file.
    image : Path
        The photograph.
    split : str
        ``"train"`` or ``"val"``.
    labels : tuple of str
        Class names.
    mask : Path or None
        The ground truth, where there is one.
    boxes : tuple of Box
        True boxes of objects, where they are known.
    """

    id: str
    image: Path
    split: str
    labels: tuple[str, ...]
    mask: Path | None
    boxes: tuple[Box, ...] = ()


@dataclass
class Source:
    """A data set as read, with everything that is wrong with it so far.

    Attributes
    ----------
    classes : tuple of str
        Class names in the order of the masks' values.
    candidates : list of Candidate
        The images.
    problems : list of str
        What is wrong, a line each.
    unused_masks : tuple of Path
        Masks of a folder of the user's that are no image's.
    skipped : tuple of Path
        Litter among the photographs that was not read.
    mask_values : dict of int to int, or None
        Label value (0 background, k class, 255 ignore) by the value in a mask; None where these
        are the same.
    unusable_boxes : list of str or None
        What is wrong with boxes that the data set has beside its labels, a line each; their
        images count as images without boxes. None where wrong boxes are problems.
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
                    f"class {name!r}: a class name is got with {SEPARATOR!r} or outer spaces, or "
                    "empty: expected a plain name"
                )
            elif problem := class_problem(name):
                self.problems.append(f"class {shortened(name, SHOWN)!r}: {problem}")
        for name in (name for name, count in Counter(self.classes).items() if count > 1):
            self.problems.append(f"class {name!r} is listed twice, expected distinct names")
        for name in {name for name in self.classes if name.casefold() == "background"}:
            self.problems.append(
                f"class {name!r}: the background has the value 0 and is no class of its own: leave "
                "it out; a picture without any class has no label"
            )
        if len(self.classes) > MOST_CLASSES:
            self.problems.append(
                f"there are {len(self.classes)} classes, expected at most {MOST_CLASSES}: label "
                "images have one byte a pixel"
            )
        if not self.classes:
            self.problems.append("no class at all: expected labels that name at least one")


def unknown_label(where: str, name: str, classes: Sequence[str]) -> str:
    """Word the problem of a label that the classes lack, with its nearest neighbor."""
    more = f" or {len(classes) - LISTED} more" if len(classes) > LISTED else ""
    expected = ", ".join(shortened(known, SHOWN) for known in classes[:LISTED]) + more
    hint = did_you_mean(name, classes)
    return f"{where}: unknown label {shortened(name, SHOWN)!r}, expected one of {expected}{hint}"
