"""Masks against image-level labels: do the masks mean what their reader takes them for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.artifacts import BACKGROUND, IGNORE
from pipeline.datasets.findings import NAMED, Finding, listed
from pipeline.datasets.manifest import Record
from pipeline.datasets.masks import BACKGROUND_NAME

#: Least overlap (intersection over union) of the images whose masks hold a value with those that
#: are labelled with a class, from which on the value may mean the class.
AGREEMENT = 0.8
#: Masks of images of a class from which on none of them showing it is a finding of its own.
ENOUGH = 3
#: Values that a message lists.
VALUES = 10
#: What may be no class: background and ignored; the usual meaning first.
_RESERVED = ((BACKGROUND, IGNORE), (BACKGROUND,), (IGNORE,))


@dataclass(frozen=True)
class Seen:
    """What a mask holds.

    Attributes
    ----------
    record : Record
        Its image.
    stored : frozenset of int
        The values in the file.
    shown : frozenset of str or None
        The classes that it shows as it is read; None where it cannot be read that way.
    """

    record: Record
    stored: frozenset[int]
    shown: frozenset[str] | None

    @property
    def agrees(self) -> bool:
        """Whether it shows a class that its image is labelled with."""
        return bool((self.shown or frozenset()) & set(self.record.labels))

    @property
    def contradicts(self) -> bool:
        """Whether it shows other classes than its image is labelled with."""
        return self.shown is not None and self.shown != set(self.record.labels)


def meaningless(
    seen: Sequence[Seen], splits: Sequence[str], classes: Sequence[str], *, mapped: bool
) -> Iterator[str]:
    """Yield a problem if in some split no mask shows a class that its image has.

    Parameters
    ----------
    seen : sequence of Seen
        All masks.
    splits : sequence of str
        Those that are scored.
    classes : sequence of str
        Class number k is ``classes[k - 1]``.
    mapped : bool
        Whether the configuration says what the values mean.
    """
    of_split = {
        split: [item for item in seen if item.record.split == split and item.record.labels]
        for split in splits
    }
    yield from (
        problem
        for s, labelled in of_split.items()
        if not labelled
        for problem in _unlabelled(seen, s)
    )
    failed = [s for s, items in of_split.items() if items and not any(i.agrees for i in items)]
    if failed:
        masks = [item for split in failed for item in of_split[split]]
        found = sorted(frozenset().union(*(item.stored for item in masks)))
        yield (
            f"none of the {len(masks)} masks of labelled {' and '.join(failed)} images shows a "
            f"class that its image is labelled with: {_described(found, mapped)}, expected "
            f"{_expected(masks, classes, mapped)}{advice(seen, classes, mapped=mapped)}"
        )


def _unlabelled(seen: Sequence[Seen], split: str) -> Iterator[str]:
    """Yield a problem if a split has masks, of which none is a labelled image's."""
    masks = [item for item in seen if item.record.split == split]
    if masks:
        yield (
            f"none of the {split} images that have a mask has a label, such as "
            f"{masks[0].record.id} ({len(masks)} in all), so that scores tell of the background "
            "alone, expected masks of labelled images too: add their masks or their labels, or "
            "leave the split out of the dataset's `scored`"
        )


def unread(seen: Sequence[Seen], classes: Sequence[str], *, mapped: bool) -> Iterator[str]:
    """Yield what values may mean, where masks hold values that no class has."""
    if any(item.shown is None for item in seen):
        suggested = suggested_values(seen, classes)
        if suggested and not mapped:
            yield f"the masks agree with the labels if their values mean {_setting(suggested)}"


def contradiction_findings(
    seen: Sequence[Seen], classes: Sequence[str], *, mapped: bool
) -> Iterator[Finding]:
    """Yield what is worth checking of masks that contradict their images' labels."""
    against = [item for item in seen if item.contradicts]
    if against:
        yield Finding(
            "masks that contradict the labels",
            f"{len(against)} of {len(seen)} ({100 * len(against) / len(seen):.1f} %), such as "
            + listed(map(_difference, against)),
            "Labels teach and masks score: what only one of them has counts as wrong",
            "See which of the two is wrong, and that the masks hold the classes' numbers"
            + advice(seen, classes, mapped=mapped),
        )
    hidden = dict(_hidden(seen, classes))
    if hidden:
        yield Finding(
            "classes that no mask of their images shows",
            listed(f"{name} ({count} images)" for name, count in hidden.items()),
            "They score 0, whatever is predicted",
            "See that the masks hold their numbers, the places in `classes`",
        )


def suggested_values(seen: Sequence[Seen], classes: Sequence[str]) -> dict[int, str] | None:
    """Find what values must mean for the masks to agree with the labels.

    Every labelled class has to be the meaning of exactly one value, whose images are nearly those
    of the class, and every value but background and ignored has to mean a class.

    Parameters
    ----------
    seen : sequence of Seen
    classes : sequence of str

    Returns
    -------
    dict of int to str, or None
        As the configuration's ``mask_values``. None where nothing fits, several meanings do, or
        the usual meaning does.
    """
    images: dict[int, set[str]] = {}
    labelled: dict[str, set[str]] = {}
    for item in seen:
        for value in item.stored:
            images.setdefault(value, set()).add(item.record.id)
        for name in item.record.labels:
            labelled.setdefault(name, set()).add(item.record.id)
    for reserved in _RESERVED:
        if BACKGROUND not in reserved and IGNORE not in images:
            continue  # something has to be the background
        values = sorted(images.keys() - set(reserved))
        means = {
            value: [name for name in labelled if _overlap(images[value], labelled[name])]
            for value in values
        }
        names = [name for fitting in means.values() for name in fitting]
        if sorted(names) == sorted(labelled) and all(len(fit) == 1 for fit in means.values()):
            found = {value: fitting[0] for value, fitting in means.items()}
            if all(value == classes.index(name) + 1 for value, name in found.items()):
                return None
            return found | ({IGNORE: BACKGROUND_NAME} if BACKGROUND not in reserved else {})
    return None


def advice(seen: Sequence[Seen], classes: Sequence[str], *, mapped: bool) -> str:
    """Word which setting makes the masks agree with the labels; empty where none is known."""
    suggested = None if mapped else suggested_values(seen, classes)
    return f", or set {_setting(suggested)} if the values mean that" if suggested else ""


def _overlap(one: set[str], other: set[str]) -> bool:
    return len(one & other) >= AGREEMENT * len(one | other)


def _setting(values: dict[int, str]) -> str:
    pairs = ", ".join(f"{value}: {name}" for value, name in sorted(values.items()))
    return f"`mask_values: {{{pairs}}}` in the configuration's dataset"


def _described(values: Sequence[int], mapped: bool) -> str:
    """Say which values there are and, of the reserved ones, how they are read."""
    shown = ", ".join(map(str, values[:VALUES])) + (", ..." if len(values) > VALUES else "")
    text = f"their values are {shown}" if len(values) > 1 else f"their only value is {shown}"
    notes = {BACKGROUND: "0 is the background", IGNORE: "255 is ignored"}
    known = [] if mapped else [note for value, note in notes.items() if value in values]
    return text + (f" ({', '.join(known)})" if known else "")


def _expected(seen: Sequence[Seen], classes: Sequence[str], mapped: bool) -> str:
    used = sorted({classes.index(name) for item in seen for name in item.record.labels})
    if mapped:
        return f"values that `mask_values` gives to {listed(classes[k] for k in used)}"
    return "the classes' numbers: save " + listed(f"{classes[k]} as {k + 1}" for k in used)


def _difference(item: Seen) -> str:
    labels = ", ".join(item.record.labels) or "none"
    shown = ", ".join(sorted(item.shown or ())[:NAMED]) or "no class"
    return f"{item.record.id} (labels: {labels}; mask: {shown})"


def _hidden(seen: Sequence[Seen], classes: Sequence[str]) -> Iterator[tuple[str, int]]:
    for name in classes:
        own = [item for item in seen if name in item.record.labels]
        if len(own) >= ENOUGH and not any(name in (item.shown or ()) for item in own):
            yield name, len(own)
