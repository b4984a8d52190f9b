"""Comparison of masks with image-level labels, to detect masks with other class numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.datasets.findings import MAX_EXAMPLES, Finding, listed
from pipeline.datasets.manifest import Record
from pipeline.datasets.masks import BACKGROUND_NAME
from pipeline.io.arrays import BACKGROUND, IGNORE

#: A mask value may stand for a class if the set of images with the value and the set of images
#: with the class overlap by at least this intersection over union.
MIN_OVERLAP = 0.8
#: Minimum number of masks of a class for the finding that none of them shows the class.
MIN_MASKS = 3
#: Maximum number of values that a message lists.
MAX_VALUES = 10
#: Sets of values that may be reserved for background and ignored pixels; the usual one first.
_RESERVED = ((BACKGROUND, IGNORE), (BACKGROUND,), (IGNORE,))


@dataclass(frozen=True)
class MaskContents:
    """The contents of a mask.

    Attributes
    ----------
    record : Record
        The mask's image.
    values : frozenset of int
        The values in the file.
    classes : frozenset of str or None
        The classes that the mask shows; None if a value has no class.
    """

    record: Record
    values: frozenset[int]
    classes: frozenset[str] | None

    @property
    def agrees(self) -> bool:
        """Whether the mask shows a class that its image is labeled with."""
        return bool((self.classes or frozenset()) & set(self.record.labels))

    @property
    def contradicts(self) -> bool:
        """Whether the classes of the mask differ from the labels of its image."""
        return self.classes is not None and self.classes != set(self.record.labels)


def mask_problems(
    masks: Sequence[MaskContents], splits: Sequence[str], classes: Sequence[str], *, mapped: bool
) -> Iterator[str]:
    """Yield a problem if no mask of a split shows a class that its image is labeled with.

    Parameters
    ----------
    masks : sequence of MaskContents
        All masks.
    splits : sequence of str
        Splits that are scored.
    classes : sequence of str
        Class number k is ``classes[k - 1]``.
    mapped : bool
        Whether the configuration sets ``mask_values``.
    """
    of_split = {
        split: [item for item in masks if item.record.split == split and item.record.labels]
        for split in splits
    }
    yield from (
        problem
        for split, labeled in of_split.items()
        if not labeled
        for problem in _unlabeled(masks, split)
    )
    failed = [s for s, items in of_split.items() if items and not any(i.agrees for i in items)]
    if failed:
        failing = [item for split in failed for item in of_split[split]]
        found = sorted(frozenset().union(*(item.values for item in failing)))
        yield (
            f"none of the {len(failing)} masks of labeled {' and '.join(failed)} images shows a "
            f"class that its image is labeled with: {_values_text(found, mapped)}, expected "
            f"{_expected(failing, classes, mapped)}{advice(masks, classes, mapped=mapped)}"
        )


def _unlabeled(masks: Sequence[MaskContents], split: str) -> Iterator[str]:
    """Yield a problem if a split has masks, but none of them is of a labeled image."""
    of_split = [item for item in masks if item.record.split == split]
    if of_split:
        yield (
            f"none of the {split} images that have a mask has a label, such as "
            f"{of_split[0].record.id} ({len(of_split)} in all), so scores would measure only the "
            "background, expected masks of labeled images too: add their masks or their labels, "
            "or remove the split from the dataset's `scored_splits`"
        )


def value_suggestions(
    masks: Sequence[MaskContents], classes: Sequence[str], *, mapped: bool
) -> Iterator[str]:
    """Yield a suggested ``mask_values`` if masks have values without a class."""
    if any(item.classes is None for item in masks):
        suggested = suggested_values(masks, classes)
        if suggested and not mapped:
            yield f"the masks agree with the labels if their values mean {_setting(suggested)}"


def contradiction_findings(
    masks: Sequence[MaskContents], classes: Sequence[str], *, mapped: bool
) -> Iterator[Finding]:
    """Yield findings about masks that contradict the labels of their images."""
    contradicting = [item for item in masks if item.contradicts]
    if contradicting:
        percent = 100 * len(contradicting) / len(masks)
        yield Finding(
            "masks that contradict the labels",
            f"{len(contradicting)} of {len(masks)} ({percent:.1f} %), such as "
            + listed(map(_difference, contradicting)),
            "Networks are trained on labels and scored with masks, so classes that only one of "
            "them has count as errors",
            "Check which of the two is wrong, and that the masks hold the class numbers"
            + advice(masks, classes, mapped=mapped),
        )
    never_shown = dict(_never_shown(masks, classes))
    if never_shown:
        yield Finding(
            "classes that no mask of their images shows",
            listed(f"{name} ({count} images)" for name, count in never_shown.items()),
            "Their score is 0 for any prediction",
            "Check that the masks hold the class numbers, which are the positions in `classes`",
        )


def suggested_values(
    masks: Sequence[MaskContents], classes: Sequence[str]
) -> dict[int, str] | None:
    """Return the ``mask_values`` with which the masks agree with the labels.

    Every labeled class must correspond to exactly one value that occurs in nearly the same
    images, and every value except background and ignored must correspond to a class.

    Parameters
    ----------
    masks : sequence of MaskContents
    classes : sequence of str

    Returns
    -------
    dict of int to str, or None
        As in the configuration's ``mask_values``. None if no or several assignments fit, or if
        the default one fits.
    """
    images: dict[int, set[str]] = {}
    labeled: dict[str, set[str]] = {}
    for item in masks:
        for value in item.values:
            images.setdefault(value, set()).add(item.record.id)
        for name in item.record.labels:
            labeled.setdefault(name, set()).add(item.record.id)
    for reserved in _RESERVED:
        if BACKGROUND not in reserved and IGNORE not in images:
            continue  # one value must be the background
        values = sorted(images.keys() - set(reserved))
        means = {
            value: [name for name in labeled if _overlap(images[value], labeled[name])]
            for value in values
        }
        names = [name for fitting in means.values() for name in fitting]
        if sorted(names) == sorted(labeled) and all(
            len(fitting) == 1 for fitting in means.values()
        ):
            found = {value: fitting[0] for value, fitting in means.items()}
            if all(value == classes.index(name) + 1 for value, name in found.items()):
                return None
            return found | ({IGNORE: BACKGROUND_NAME} if BACKGROUND not in reserved else {})
    return None


def advice(masks: Sequence[MaskContents], classes: Sequence[str], *, mapped: bool) -> str:
    """Return advice on ``mask_values`` for a message; empty if nothing can be suggested."""
    suggested = None if mapped else suggested_values(masks, classes)
    return f", or set {_setting(suggested)} if the values mean that" if suggested else ""


def _overlap(one: set[str], other: set[str]) -> bool:
    return len(one & other) >= MIN_OVERLAP * len(one | other)


def _setting(values: dict[int, str]) -> str:
    pairs = ", ".join(f"{value}: {name}" for value, name in sorted(values.items()))
    return f"`mask_values: {{{pairs}}}` in the configuration's dataset"


def _values_text(values: Sequence[int], mapped: bool) -> str:
    """Return a text that lists values, with the meaning of 0 and 255."""
    shown = ", ".join(map(str, values[:MAX_VALUES])) + (", ..." if len(values) > MAX_VALUES else "")
    text = f"their values are {shown}" if len(values) > 1 else f"their only value is {shown}"
    notes = {BACKGROUND: "0 is the background", IGNORE: "255 is ignored"}
    known = [] if mapped else [note for value, note in notes.items() if value in values]
    return text + (f" ({', '.join(known)})" if known else "")


def _expected(masks: Sequence[MaskContents], classes: Sequence[str], mapped: bool) -> str:
    used = sorted({classes.index(name) for item in masks for name in item.record.labels})
    if mapped:
        return f"values that `mask_values` assigns to {listed(classes[k] for k in used)}"
    return "the class numbers: save " + listed(f"{classes[k]} as {k + 1}" for k in used)


def _difference(item: MaskContents) -> str:
    labels = ", ".join(item.record.labels) or "none"
    shown = ", ".join(sorted(item.classes or ())[:MAX_EXAMPLES]) or "no class"
    return f"{item.record.id} (labels: {labels}; mask: {shown})"


def _never_shown(
    masks: Sequence[MaskContents], classes: Sequence[str]
) -> Iterator[tuple[str, int]]:
    for name in classes:
        labeled = [item for item in masks if name in item.record.labels]
        if len(labeled) >= MIN_MASKS and not any(name in (item.classes or ()) for item in labeled):
            yield name, len(labeled)
