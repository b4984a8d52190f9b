"""Scores of all experiments, compared with the other scores of the same images."""

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

#: Maximum number of methods in a group for which all pairs are compared.
MAX_PAIRED = 30
#: Minimum number of resamples of a group, and number per comparison. Holm's correction multiplies
#: the smallest p, 2 / (samples + 1), by the number of comparisons; it stays at most 0.02.
SAMPLES, SAMPLES_PER_COMPARISON = 2000, 100
#: Settings that may differ between the runs of one experiment.
PER_RUN_KEYS = frozenset({"experiment", "report", "seed", "seeds", "shards"})


@dataclass(frozen=True)
class Entry:
    """One method of one experiment, with one result per seed."""

    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """Result of the first seed, for properties that all seeds share."""
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
        """Sample standard deviation over the seeds; None for a single seed."""
        values = [result.miou for result in self.results]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    @property
    def hours(self) -> float | None:
        """Mean over the seeds; None unless it is known for all."""
        known = [result.hours for result in self.results if result.hours is not None]
        return float(np.mean(known)) if len(known) == len(self.results) else None


@dataclass(frozen=True)
class Pair:
    """Difference of mIoU (``a`` minus ``b``) of two entries, and p corrected for all pairs."""

    a: Entry
    b: Entry
    found: Difference
    p_holm: float


@dataclass(frozen=True)
class Group:
    """Entries of one kind and one supervision on the same images.

    Attributes
    ----------
    entries : tuple of Entry
        Entries, the best first.
    to_best : tuple of Pair
        Every other entry compared with the best; p is corrected over these comparisons.
    pairs : tuple of Pair
        Every entry compared with all lower ones; p is corrected over these comparisons. Empty
        for more than :data:`MAX_PAIRED` entries.
    samples : int
        Number of resamples.
    """

    entries: tuple[Entry, ...]
    to_best: tuple[Pair, ...]
    pairs: tuple[Pair, ...]
    samples: int

    @property
    def first(self) -> Result:
        """A result, for the data, split and kind that all entries share."""
        return self.entries[0].first


@dataclass(frozen=True)
class Board:
    """All groups, ordered by data set, split and stage, and notes about missing results."""

    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def collect(root: Path, records: Sequence[Path]) -> Board:
    """Read all experiments below the folder of all results, and compare scores of equal data.

    Parameters
    ----------
    root : Path
        The folder of all results.
    records : sequence of Path
        Records of the current experiment. They take precedence over other records of the same
        experiment and seed, and errors in them are raised. Other records that cannot be read
        are left out with a note.

    Raises
    ------
    UserError
        If one of those records, or a score of its run, cannot be read.
    """
    own = {record.parent.relative_to(root).as_posix() for record in records}
    runs, notes = _read_runs(root, records)
    notes += _differing_settings(runs)
    by_method: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for run in runs:
        results, problems = read_results(run, whole=run.folder in own)
        notes += problems
        for result in results:
            by_method[run.experiment, result.kind, result.method, result.split].append(result)
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for (experiment, kind, method, split), results in by_method.items():
        data = results[0].data
        if any(result.data != data for result in results):
            notes.append(
                f"{KINDS[kind]} {method} of {experiment} ({split}) are left out: the seeds were "
                "scored on different images or masks, so their mean is undefined"
            )
            continue
        # Methods are compared with the best of them; the upper bound is none of them, and one
        # that learned corrected masks has another supervision.
        more = (results[0].is_upper_bound, any(result.corrected_masks for result in results))
        key = (data.split()[0], split, data, list(KINDS).index(kind), *more)
        groups[key].append(Entry(tuple(results)))
    return Board(tuple(_compare(groups[key]) for key in sorted(groups)), tuple(notes))


def _read_runs(root: Path, records: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Read one record per experiment and seed, sorted by both."""
    runs: dict[tuple[str, int], Run] = {}
    notes: list[str] = []
    # If two records have the same seed, the later one is used: one of several seeds, or one
    # that was passed.
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
                f"{run.folder} is used; delete the outdated one"
            )
        runs[run.experiment, run.seed] = run
    return [runs[key] for key in sorted(runs)], notes


def _differing_settings(runs: Sequence[Run]) -> list[str]:
    """Return a note for every experiment whose seeds were run with different settings."""
    notes = []
    for experiment in dict.fromkeys(run.experiment for run in runs):
        configs = [run.config for run in runs if run.experiment == experiment]
        keys = sorted(set().union(*configs) - PER_RUN_KEYS)
        differing = [key for key in keys if any(c.get(key) != configs[0].get(key) for c in configs)]
        if differing:
            notes.append(
                f"the seeds of {experiment} were run with different settings "
                f"({', '.join(differing)}): their mean mixes methods; run all seeds again"
            )
    return notes


def _compare(entries: Sequence[Entry]) -> Group:
    """Compare entries of one kind on the same images."""
    ranked = sorted(entries, key=lambda entry: (-entry.miou, entry.name))
    paired = list(combinations(range(len(ranked)), 2)) if len(ranked) <= MAX_PAIRED else []
    samples = max(SAMPLES, SAMPLES_PER_COMPARISON * max(len(paired), len(ranked) - 1))
    if len(ranked) == 1:
        return Group(tuple(ranked), (), (), samples)
    first = ranked[0].first
    logger.info("comparing %d %s on %d images", len(ranked), KINDS[first.kind], first.images)
    counts = [[sorted_counts(result.counts)[1] for result in entry.results] for entry in ranked]
    found = estimates(counts, samples=samples)

    def corrected_pairs(pairs: Sequence[tuple[int, int]]) -> tuple[Pair, ...]:
        differences = [difference(found[a], found[b]) for a, b in pairs]
        corrected = holm([item.p for item in differences])
        return tuple(
            Pair(ranked[a], ranked[b], item, p)
            for (a, b), item, p in zip(pairs, differences, corrected, strict=True)
        )

    to_best = corrected_pairs([(k, 0) for k in range(1, len(ranked))])
    return Group(tuple(ranked), to_best, corrected_pairs(paired), samples)
