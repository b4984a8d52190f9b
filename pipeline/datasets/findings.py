"""What is worth checking in a data set: traps of weak supervision, named with their fix."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.datasets.manifest import Manifest, Record
from pipeline.datasets.overview import Overview, elongation, joined_names, look_alikes
from pipeline.errors import printable
from pipeline.files import damaged, replacing

#: Train images of a class below which it is rare.
RARE = 10
#: Train images of the commonest class per image of the rarest above which they are imbalanced.
IMBALANCED = 50
#: Share of the train images above which a class is everywhere.
EVERYWHERE = 0.95
#: Share of the train images above which those without a label are too many.
UNLABELLED = 0.5
#: Short side below which a picture is small, long side above which it is large, in pixels.
SMALL, LARGE = 64, 4096
#: Long side over short side above which a picture is elongated.
ELONGATED = 5
#: Examples that a finding names.
NAMED = 5

Twins = Sequence[Sequence[Record]]


@dataclass(frozen=True)
class Finding:
    """Something worth checking: what was got, why it matters, and how to mend it."""

    name: str
    got: str
    why: str
    fix: str

    def __str__(self) -> str:
        line = f"{self.name}: {self.got}. {self.why}. {self.fix}."
        return printable(" ".join(line.split()))  # names from a table may hold line breaks


def findings(
    manifest: Manifest,
    overview: Overview,
    twins: Twins,
    dim: Sequence[tuple[Record, int]] = (),
) -> list[Finding]:
    """List what is worth checking, at most one finding of each name.

    Parameters
    ----------
    manifest : Manifest
    overview : Overview
        Of that manifest.
    twins : sequence of sequence of Record
        Groups of records with identical files.
    dim : sequence of (Record, int)
        Pictures of 16 bits that use little of the range, with their largest values.
    """
    return [
        *_of_twins(twins),
        *_of_names(manifest.classes),
        *_of_counts(manifest.classes, overview),
        *_of_company(manifest.classes, overview),
        *_of_sizes(manifest.records),
        *of_depth(dim, len(manifest.records)),
    ]


def _of_twins(twins: Twins) -> Iterator[Finding]:
    leaks = [group for group in twins if len({record.split for record in group}) > 1]
    torn = [group for group in twins if len({frozenset(record.labels) for record in group}) > 1]
    if leaks:
        yield Finding(
            "same picture in train and val",
            listed(_equals(group, key=lambda record: record.split) for group in leaks),
            "Scores on val then reward memory",
            "Keep one of each, or put all of them into one split",
        )
    if torn:
        yield Finding(
            "same picture, other labels",
            listed(_equals(group, key=lambda record: frozenset(record.labels)) for group in torn),
            "At least one of the rows is wrong, and training is told both",
            "Keep the picture once, with all that it shows",
        )
    if rest := [group for group in twins if group not in leaks and group not in torn]:
        yield Finding(
            "same picture twice",
            listed(_equals(group, key=lambda record: record.id) for group in rest),
            "It counts twice, in training or in the scores",
            "Delete the copies and their rows",
        )


def _of_names(classes: Sequence[str]) -> Iterator[Finding]:
    joined = joined_names(classes)
    if joined:
        yield Finding(
            "classes that read as several",
            listed(f"“{name}”" for name in joined),
            "Labels that are not joined by “;” are one class, which is taught against its parts",
            "If they are several labels, join them by “;” in the table",
        )
    if pairs := look_alikes([name for name in classes if name not in joined]):
        yield Finding(
            "similar class names",
            listed(f"“{one}” and “{other}”" for one, other in pairs),
            "Where both mean one thing, each is taught not to be the other",
            "If so, give them one spelling in the labels",
        )


def _of_counts(classes: Sequence[str], overview: Overview) -> Iterator[Finding]:
    train, val = (overview.of_class[split].tolist() for split in ("train", "val"))
    counted = {name: count for name, count in zip(classes, train, strict=True) if count}
    if never := [name for name in classes if name not in counted]:
        yield Finding(
            "classes without a train image",
            listed(never),
            "Nothing is learned of them, and they are in no mask",
            "Label train images with them, or take them out of the classes",
        )
    if few := {name: count for name, count in counted.items() if count < RARE}:
        yield Finding(
            f"classes with fewer than {RARE} train images",
            listed(f"{name} ({count})" for name, count in few.items()),
            "So few teach the surroundings rather than the object",
            "Add pictures of them, or merge them into a wider class",
        )
    if unseen := [name for name, n in zip(classes, val, strict=True) if name in counted and not n]:
        yield Finding(
            "classes without a val image",
            listed(unseen),
            "Nothing measures how well they are learned",
            "Move some of their pictures to val, by a column split in the table of labels",
        )
    if counted and max(counted.values()) > IMBALANCED * min(counted.values()):
        most, least = max(counted, key=counted.__getitem__), min(counted, key=counted.__getitem__)
        yield Finding(
            "imbalanced classes",
            f"{most} has {counted[most]} train images, {least} {counted[least]}",
            "The common class makes the loss, and the rare one is hardly ever predicted",
            f"Add pictures of {least}, or leave out some of {most} alone",
        )


def _of_company(classes: Sequence[str], overview: Overview) -> Iterator[Finding]:
    images, counts = overview.images["train"], overview.of_class["train"]
    everywhere = counts > EVERYWHERE * images
    if everywhere.any():
        yield Finding(
            "classes on nearly every image",
            listed(
                f"{classes[k]} ({counts[k]} of {images})" for k in everywhere.nonzero()[0].tolist()
            ),
            "Without counter-examples a classifier is right without looking at the object",
            "Add pictures without it; where they show no class at all, leave their labels empty",
        )
    unlabelled = int(overview.with_labels["train"][0])
    if unlabelled > UNLABELLED * images:
        yield Finding(
            "mostly images without a label",
            f"{unlabelled} of {images} train images",
            "They say what is absent, never what a class looks like",
            "See that no labels were lost; else leave most of these pictures out",
        )
    # A class that is everywhere is in everyone's company, and is named above.
    apart = overview.together * ~np.eye(len(classes), dtype=bool) * ~everywhere
    always = (apart == counts[:, None]) & (counts > 0)[:, None]
    # Of two that are always together, once.
    pairs = [(a, b) for a, b in np.argwhere(always).tolist() if a < b or not always[b, a]]
    if pairs:
        yield Finding(
            "classes never seen without another",
            listed(f"{classes[a]} ({counts[a]}, always with {classes[b]})" for a, b in pairs),
            "Image labels cannot tell which pixels are whose, so that maps cover both",
            "Add pictures that show them without it, or merge the two",
        )


def _of_sizes(records: Sequence[Record]) -> Iterator[Finding]:
    if small := [record for record in records if min(record.width, record.height) < SMALL]:
        yield Finding(
            f"pictures below {SMALL} pixels a side",
            _listed_sizes(sorted(small, key=lambda record: min(record.width, record.height))),
            "A cell of a map is several pixels, so that little is left to localise in",
            "Take larger originals, or leave them out",
        )
    if long := [record for record in records if elongation(record) > ELONGATED]:
        yield Finding(
            f"pictures longer than {ELONGATED} : 1",
            _listed_sizes(sorted(long, key=elongation, reverse=True)),
            "Square training crops of them are mostly padding",
            "Cut them into squarer pieces and label each",
        )
    if large := [record for record in records if max(record.width, record.height) > LARGE]:
        yield Finding(
            f"pictures above {LARGE} pixels a side",
            _listed_sizes(sorted(large, key=lambda record: -max(record.width, record.height))),
            "Maps, random walk and CRF cost time and memory by the pixel",
            "Set max_size of attributions, random_walks and prediction, or shrink the files",
        )


def of_depth(dim: Sequence[tuple[Record, int]], images: int) -> Iterator[Finding]:
    """Yield a finding if pictures of 16 bits a channel use little of the range.

    Parameters
    ----------
    dim : sequence of (Record, int)
        Those pictures with their largest values.
    images : int
        Pictures in all.
    """
    if dim:
        brightest = max(most for _, most in dim)
        bits = brightest.bit_length()
        examples = listed(f"{record.id} (largest value {most})" for record, most in dim)
        yield Finding(
            "16-bit pictures that are almost black",
            f"{len(dim)} of {images}: {examples}",
            f"0 is read as black and 65535 as white in every file, so that {brightest} becomes "
            f"{brightest >> 8} of 255",
            f"If they hold {bits} bits, multiply all values by {2 ** (16 - bits)}, in all files "
            "alike, and save them again",
        )


def _listed_sizes(records: Sequence[Record]) -> str:
    return listed(f"{record.id} ({record.width} x {record.height})" for record in records)


def _equals(group: Sequence[Record], key: Callable[[Record], object]) -> str:
    """Name the first record of a group and the first that differs from it."""
    other = next(record for record in group if key(record) != key(group[0]))
    words = (f"{r.id} ({r.split}: {', '.join(r.labels) or 'no label'})" for r in (group[0], other))
    return " = ".join(words) + (f" and {len(group) - 2} more" if len(group) > 2 else "")


def listed(items: Iterable[str]) -> str:
    """Name the first few items, and count the others."""
    names = list(items)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def write_findings(path: Path, found: Sequence[Finding]) -> None:
    """Write findings as a JSON list; names that cannot be printed are escaped."""
    rows = [{key: printable(text) for key, text in asdict(item).items()} for item in found]
    with replacing(path) as partial:
        text = json.dumps(rows, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")


def read_findings(path: Path) -> list[Finding]:
    """Read what :func:`write_findings` wrote.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    try:
        return [Finding(**item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except (TypeError, ValueError) as error:
        raise damaged(path, "list of findings", error) from error
