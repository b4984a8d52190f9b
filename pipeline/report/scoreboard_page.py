"""The scoreboard page: one row per method, with dots for its seeds and its interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor, isnan
from urllib.parse import quote

from pipeline.config.upper_bound import FULLY_SUPERVISED
from pipeline.metrics.bootstrap import Difference
from pipeline.report.html import render
from pipeline.report.inputs import KINDS
from pipeline.report.records import Result
from pipeline.report.scoreboard import MAX_PAIRED, Board, Entry, Group

#: Possible steps of an axis in %, and the maximum number of steps.
STEPS, MAX_STEPS = (1, 2, 5, 10, 20), 6
MINUS = "\N{MINUS SIGN}"
#: Width of a strip of dots, and the margin on either side for half a dot.
WIDTH, MARGIN = 150, 6
#: Below this number of images, bootstrap intervals are too narrow.
FEW_IMAGES = 30
#: Text about networks that learned corrected masks.
WITH_CORRECTIONS = "trained with corrected masks"
#: Significance level of the corrected p.
LEVEL = 0.05


@dataclass(frozen=True)
class Axis:
    """A linear axis in % with its marks, from start to end."""

    marks: tuple[int, ...]

    @classmethod
    def around(cls, values: Iterable[float]) -> "Axis":
        """Create an axis that covers the given shares and at least one step."""
        known = [100 * value for value in values if not isnan(value)]
        low, high = min(known), max(known)
        step = next((s for s in STEPS if high - low <= MAX_STEPS * s), STEPS[-1])
        first, last = floor(low / step), ceil(high / step)
        return cls(tuple(step * k for k in range(first, max(last, first + 1) + 1)))

    def __call__(self, value: float) -> float:
        """Return the position of a share in a strip."""
        share = (100 * value - self.marks[0]) / (self.marks[-1] - self.marks[0])
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 2)

    def __str__(self) -> str:
        """Return the range of the axis as text."""
        return f"{_signed(self.marks[0])} to {_signed(self.marks[-1])}"


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes
    ----------
    entry : Entry
    reports : tuple of (str, str)
        Seed and URL of each run's report.
    footnotes : tuple of int
        Numbers of the footnotes on how the background's value was chosen.
    found : Difference or None
        Difference to the best entry; None for the best entry itself.
    p : float or None
        Corrected p; None if there is none.
    """

    entry: Entry
    reports: tuple[tuple[int, str], ...]
    footnotes: tuple[int, ...]
    found: Difference | None
    p: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the difference to the best is significant."""
        return self.p is not None and self.p < LEVEL

    @property
    def background(self) -> str:
        """Background threshold or power; minimum and maximum if the seeds differ."""
        known = [result.background for result in self.entry.results if result.background]
        if not known:
            return ""
        ends = (f"{end(item.value for item in known):.3g}" for end in (min, max))
        rule = "power " if known[0].rule == "power" else ""
        return rule + " to ".join(dict.fromkeys(ends))

    @property
    def backbones(self) -> str:
        """Backbones of the classifier and of the segmentation network."""
        first = self.entry.first
        return " → ".join(filter(None, (first.classifier, first.segmentation)))


@dataclass(frozen=True)
class Table:
    """A group as one table of the page."""

    title: str
    lines: tuple[Line, ...]
    footnotes: tuple[str, ...]
    scores: Axis
    differences: Axis | None
    group: Group

    @property
    def has_seeds(self) -> bool:
        """Whether any method was run with more than one seed."""
        return any(len(entry.results) > 1 for entry in self.group.entries)


@dataclass(frozen=True)
class Section:
    """All tables of the same images."""

    name: str
    first: Result
    tables: tuple[Table, ...]

    @property
    def title(self) -> str:
        """Data set kind and split."""
        return f"{self.first.data.rpartition(' ')[0]}, {self.first.split} split"

    @property
    def digest(self) -> str:
        """Digest of the images and masks."""
        return self.first.data.rpartition(" ")[2]


def render_scoreboard(board: Board, *, table: str, differences: str) -> str:
    """Return the HTML document. Equal boards give identical bytes.

    Parameters
    ----------
    board : Board
    table, differences : str
        URLs of the CSV files, relative to the page.
    """
    same = groupby(board.groups, key=lambda group: (group.first.data, group.first.split))
    sections = [_section(list(groups)) for _, groups in same]
    return render(
        "scoreboard.html.j2",
        sections=sections,
        notes=board.notes,
        experiments=sorted({e.experiment for group in board.groups for e in group.entries}),
        files={"table": table, "differences": differences},
        few_images=FEW_IMAGES,
        max_paired=MAX_PAIRED,
        level=LEVEL,
        width=WIDTH,
        signed=_signed,
        p_value=_p_value,
    )


def _section(groups: Sequence[Group]) -> Section:
    first = groups[0].first
    name = f"{first.data}-{first.split}".replace(" ", "-")
    return Section(name, first, tuple(map(_table, groups)))


def _table(group: Group) -> Table:
    notes: dict[str, int] = {}
    lines = []
    for entry, pair in zip(group.entries, (None, *group.to_best), strict=True):
        chosen = [
            result.background.threshold_source for result in entry.results if result.background
        ]
        numbers = [notes.setdefault(source, len(notes) + 1) for source in chosen]
        lines.append(
            Line(
                entry=entry,
                reports=tuple(
                    (result.run.seed, f"{quote(result.run.folder)}/report.html")
                    for result in entry.results
                ),
                footnotes=tuple(dict.fromkeys(numbers)),
                found=pair.found if pair else None,
                p=pair.p_holm if pair and not isnan(pair.p_holm) else None,
            )
        )
    found = [line.found for line in lines if line.found]
    ends = [0.0, *(end for item in found for end in (item.difference, item.low, item.high))]
    return Table(
        title=_title(group.first),
        lines=tuple(lines),
        footnotes=tuple(notes),
        scores=Axis.around(result.miou for line in lines for result in line.entry.results),
        differences=Axis.around(ends) if found else None,
        group=group,
    )


def _title(result: Result) -> str:
    kind = KINDS[result.kind].capitalize()
    if result.corrected_masks:
        return f"{kind}, {WITH_CORRECTIONS}"
    return f"{kind}, {FULLY_SUPERVISED}" if result.is_upper_bound else kind


def _signed(value: float) -> str:
    """Format a number with a minus sign; floats with one decimal place, integers without."""
    text = str(value) if isinstance(value, int) else f"{value:.1f}"
    return ("0.0" if text == "-0.0" else text).replace("-", MINUS)


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
