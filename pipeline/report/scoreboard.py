"""All scores of all experiments, each set beside the others that are of the same images."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.metrics.bootstrap import Difference, difference, estimates, holm
from pipeline.report.inputs import KINDS
from pipeline.report.records import Result, Run, find_records, read_results, read_run, sorted_counts

logger = logging.getLogger(__name__)

#: Methods of a group up to which all pairs of them are compared.
MOST_PAIRED = 30
#: Resamples of a group, at the least and for each comparison: Holm's correction multiplies
#: the smallest p, 2 / (samples + 1), by the number of comparisons, to at most 0.02.
SAMPLES, SAMPLES_PER_COMPARISON = 2000, 100
#: Settings in which the runs of one experiment may differ and still be of one method.
OF_A_RUN = frozenset({"experiment", "report", "seed", "seeds", "shards"})


@dataclass(frozen=True)
class Entry:
    """One method of one experiment: its results, by seed."""

    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """The result of the first seed, for what all of them have in common."""
        return self.results[0]

    @property
    def experiment(self) -> str:
        """The experiment."""
        return self.first.run.experiment

    @property
    def name(self) -> str:
        """EXPERIMENT METHOD."""
        return f"{self.experiment} {self.first.method}"

    @property
    def miou(self) -> float:
        """Mean over the seeds, in [0, 1]."""
        return float(np.mean([result.miou for result in self.results]))

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; none of a single one."""
        values = [result.miou for result in self.results]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    @property
    def hours(self) -> float | None:
        """Mean over the seeds; none where it is not known of all."""
        known = [result.hours for result in self.results if result.hours is not None]
        return float(np.mean(known)) if len(known) == len(self.results) else None


@dataclass(frozen=True)
class Pair:
    """Two entries: mIoU of ``a`` less that of ``b``, and p corrected for the family of pairs."""

    a: Entry
    b: Entry
    found: Difference
    p_holm: float


@dataclass(frozen=True)
class Group:
    """Entries of one kind on the same images.

    Attributes
    ----------
    entries : tuple of Entry
        The best first.
    to_best : tuple of Pair
        Every other entry against the best; a family of Holm's correction.
    pairs : tuple of Pair
        Every entry against all that are behind it, a family too; empty where there are more
        than :data:`MOST_PAIRED`.
    samples : int
        Resamples behind each.
    """

    entries: tuple[Entry, ...]
    to_best: tuple[Pair, ...]
    pairs: tuple[Pair, ...]
    samples: int

    @property
    def first(self) -> Result:
        """A result, for the data, split and kind that all have in common."""
        return self.entries[0].first


@dataclass(frozen=True)
class Board:
    """All groups, by data set and split in the order of the data's way, and what is left out."""

    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def collect(root: Path, records: Sequence[Path]) -> Board:
    """Read every experiment below the folder of all results, and compare what can be compared.

    Parameters
    ----------
    root : Path
        The folder of all results.
    records : sequence of Path
        Records that count where another one claims the same experiment and seed, and that must
        be whole: of others, what cannot be read is left out with a note.

    Raises
    ------
    UserError
        If one of those records, or a score of its run, cannot be read.
    """
    own = {record.parent.relative_to(root).as_posix() for record in records}
    runs, notes = _read_runs(root, records)
    notes += _unlike_settings(runs)
    by_method: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for run in runs:
        results, words = read_results(run, whole=run.folder in own)
        notes += words
        for result in results:
            by_method[run.experiment, result.kind, result.method, result.split].append(result)
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for (experiment, kind, method, split), results in by_method.items():
        data = results[0].data
        if any(result.data != data for result in results):
            notes.append(
                f"{KINDS[kind]} {method} of {experiment} ({split}) are left out: its seeds were "
                "scored on different images or masks, so that they have no mean"
            )
            continue
        key = (data.split()[0], split, data, list(KINDS).index(kind))
        groups[key].append(Entry(tuple(results)))
    return Board(tuple(_compare(groups[key]) for key in sorted(groups)), tuple(notes))


def _read_runs(root: Path, records: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Read all records, one a seed of an experiment, by experiment and seed."""
    runs: dict[tuple[str, int], Run] = {}
    notes: list[str] = []
    # Of two that claim the same seed the later counts: one of seeds, or one that was given.
    found = set(find_records(root)) | set(records)
    for record in sorted(found, key=lambda path: (path in records, path)):
        try:
            run = read_run(record, root)
        except UserError as error:
            if record in records:
                raise
            notes.append(str(error))
            continue
        other = runs.get((run.experiment, run.seed))
        if other:
            notes.append(
                f"{other.folder} and {run.folder} are both seed {run.seed} of {run.experiment}: "
                "the latter counts; delete the one that is out of date"
            )
        runs[run.experiment, run.seed] = run
    return [runs[key] for key in sorted(runs)], notes


def _unlike_settings(runs: Sequence[Run]) -> list[str]:
    """Say of every experiment whose seeds differ in more than the seed in what they do."""
    notes = []
    for experiment in dict.fromkeys(run.experiment for run in runs):
        configs = [run.config for run in runs if run.experiment == experiment]
        keys = sorted(set().union(*configs) - OF_A_RUN)
        unlike = [key for key in keys if any(c.get(key) != configs[0].get(key) for c in configs)]
        if unlike:
            notes.append(
                f"the seeds of {experiment} were run with unlike settings ({', '.join(unlike)}): "
                "their mean is of no one method until all are run again"
            )
    return notes


def _compare(entries: Sequence[Entry]) -> Group:
    """Compare entries of one kind on the same images."""
    ranked = sorted(entries, key=lambda entry: (-entry.miou, entry.name))
    paired = list(combinations(range(len(ranked)), 2)) if len(ranked) <= MOST_PAIRED else []
    samples = max(SAMPLES, SAMPLES_PER_COMPARISON * max(len(paired), len(ranked) - 1))
    if len(ranked) == 1:
        return Group(tuple(ranked), (), (), samples)
    first = ranked[0].first
    logger.info("comparing %d %s on %d images", len(ranked), KINDS[first.kind], first.images)
    counts = [[sorted_counts(result.counts)[1] for result in entry.results] for entry in ranked]
    found = estimates(counts, samples=samples)

    def family(pairs: Sequence[tuple[int, int]]) -> tuple[Pair, ...]:
        differences = [difference(found[a], found[b]) for a, b in pairs]
        corrected = holm([item.p for item in differences])
        return tuple(
            Pair(ranked[a], ranked[b], item, p)
            for (a, b), item, p in zip(pairs, differences, corrected, strict=True)
        )

    to_best = family([(k, 0) for k in range(1, len(ranked))])
    return Group(tuple(ranked), to_best, family(paired), samples)
