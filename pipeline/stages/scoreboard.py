"""Compare the scores of all experiments: two tables and a page."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.files import replacing
from pipeline.io.tables import write_table
from pipeline.report.scoreboard import Board, Entry, Pair, collect
from pipeline.report.scoreboard_page import render_scoreboard
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

logger = logging.getLogger(__name__)

COMPARED = ("difference", "low", "high", "p", "p_holm")
#: Columns of the table: one row per method of an experiment, compared with the best of its group.
COLUMNS = (
    "experiment", "kind", "method", "supervision", "data", "split", "images", "classifier",
    "segmentation", "seeds", "runs", "miou_mean", "miou_sd", "background_rule", "background_value",
    "threshold_source", "crf_iterations", "image_labels_given", "hours", "best", *COMPARED,
)  # fmt: skip
#: Columns of the table of pairs; a is the better method.
PAIR_COLUMNS = (
    "data", "split", "kind", "experiment_a", "method_a", "experiment_b", "method_b", *COMPARED,
)  # fmt: skip


def scoreboard(
    *, records: list[Path], others: Sequence[str], table: Path, differences: Path, page: Path
) -> None:
    """Write the scores of all experiments, and their differences with confidence intervals.

    Parameters
    ----------
    records : list of Path
        Records of this experiment's runs. Records of other experiments are searched below the
        folder of ``table``.
    others : sequence of str
        :func:`pipeline.report.records.known_records` of the other experiments; a change reruns
        the rule.
    table : Path
        Output (CSV): one row per method of an experiment; shares are in [0, 1], and differences
        are to the best method of the same kind on the same images.
    differences : Path
        Output (CSV): one row per pair of methods of the same kind on the same images.
    page : Path
        Output (HTML).
    """
    board = collect(table.parent, records)
    for note in board.notes:
        logger.warning("%s", note)
    write_table(table, COLUMNS, ([row.get(name) for name in COLUMNS] for row in _rows(board)))
    pairs = ([row[name] for name in PAIR_COLUMNS] for row in _pair_rows(board))
    write_table(differences, PAIR_COLUMNS, pairs)
    with replacing(page) as partial:
        text = render_scoreboard(board, table=table.name, differences=differences.name)
        partial.write_text(text, encoding="utf-8")


def _rows(board: Board) -> Iterable[dict[str, Any]]:
    for group in board.groups:
        best, *others = group.entries
        yield _row(best)
        for entry, pair in zip(others, group.to_best, strict=True):
            yield _row(entry) | {"best": best.name} | _compared(pair)


def _row(entry: Entry) -> dict[str, Any]:
    first = entry.first
    backgrounds = [result.background for result in entry.results if result.background]
    return {
        "experiment": entry.experiment,
        "kind": first.kind,
        "method": first.method,
        "supervision": first.supervision,
        "data": first.data,
        "split": first.split,
        "images": first.images,
        "classifier": first.classifier,
        "segmentation": first.segmentation,
        "seeds": " ".join(str(result.run.seed) for result in entry.results),
        "runs": len(entry.results),
        "miou_mean": entry.miou,
        "miou_sd": entry.deviation,
        "background_rule": _listed(background.rule for background in backgrounds),
        "background_value": _listed(background.value for background in backgrounds),
        "threshold_source": _listed(
            (background.threshold_source for background in backgrounds), "; "
        ),
        "crf_iterations": first.crf,
        "image_labels_given": {True: "yes", False: "no", None: None}[first.labels_given],
        "hours": entry.hours,
    }


def _pair_rows(board: Board) -> Iterable[dict[str, Any]]:
    for group in board.groups:
        for pair in group.pairs:
            yield {
                "data": group.first.data,
                "split": group.first.split,
                "kind": group.first.kind,
                "experiment_a": pair.a.experiment,
                "method_a": pair.a.first.method,
                "experiment_b": pair.b.experiment,
                "method_b": pair.b.first.method,
            } | _compared(pair)


def _compared(pair: Pair) -> dict[str, float]:
    found = pair.found
    values = (found.difference, found.low, found.high, found.p, pair.p_holm)
    return dict(zip(COMPARED, values, strict=True))


def _listed(values: Iterable[Any], between: str = " ") -> str:
    """Join the values of the seeds; equal values appear once."""
    return between.join(dict.fromkeys(map(str, values)))


if __name__ == "__main__":
    run_stage(scoreboard, snakemake)
