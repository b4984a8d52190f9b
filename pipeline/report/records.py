"""Records of runs: their location, whether they changed, and their scores."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

from pipeline.config.upper_bound import GROUND_TRUTH
from pipeline.datasets.corrected.table import IMAGE_LABELS
from pipeline.errors import UserError
from pipeline.io.arrays import read_counts
from pipeline.io.tables import read_document
from pipeline.metrics.segmentation import Counts, mean_iou
from pipeline.report.inputs import read_benchmark, read_score

#: Patterns of records below the folder of all results: of a single run, and of each seed.
RECORD_PATTERNS = ("*/experiment.json", "*/seed-*/experiment.json")
#: Errors that reading a file of another program can raise.
READ_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class ScoreFiles:
    """Files of one score of a run: document, counts, and the times of the jobs that led to it."""

    document: Path
    counts: Path
    times: tuple[Path, ...]


@dataclass(frozen=True)
class Run:
    """One run, as its record describes it.

    Attributes
    ----------
    experiment : str
        Name of the experiment's folder below the folder of all results.
    folder : str
        The run's folder relative to the folder of all results: EXPERIMENT or EXPERIMENT/seed-N.
    seed : int
    config : mapping
        The resolved configuration.
    scores : tuple of ScoreFiles
        All scores of the run, whether or not they exist yet.
    """

    experiment: str
    folder: str
    seed: int
    config: Mapping[str, Any]
    scores: tuple[ScoreFiles, ...]


@dataclass(frozen=True)
class Background:
    """The background's rule (``"threshold"`` or ``"power"``), its value and how it was chosen."""

    rule: str
    value: float
    threshold_source: str


@dataclass(frozen=True)
class Result:
    """One score of one run.

    Attributes
    ----------
    run : Run
    kind, method, split : str
        As in the score's document.
    data : str
        Kind of the data set, and a digest of image ids and ground-truth pixel counts. Scores of
        equal ``data`` can be compared.
    images : int
    miou : float
        In [0, 1].
    classifier : str or None
        Backbone of the classifier; None for the upper bound.
    segmentation : str or None
        Backbone of the segmentation network; None except for predictions.
    background : Background or None
    crf : int
        Iterations of the dense CRF; 0 without one.
    labels_given : bool or None
        Whether the image-level labels were given at inference; None if the score does not say.
    hours : float or None
        Total time of all jobs that led to the score; None if the time of a job is missing.
    counts : Path
    corrected_masks : int
        Number of corrected masks that a network behind the score learned.
    """

    run: Run
    kind: str
    method: str
    split: str
    data: str
    images: int
    miou: float
    classifier: str | None
    segmentation: str | None
    background: Background | None
    crf: int
    labels_given: bool | None
    hours: float | None
    counts: Path
    corrected_masks: int

    @property
    def is_upper_bound(self) -> bool:
        """Whether the result is of the network that is trained on masks."""
        return self.method == GROUND_TRUTH

    @property
    def supervision(self) -> str:
        """What the networks behind the score were trained on."""
        if self.is_upper_bound:
            return "masks"
        return f"{IMAGE_LABELS} and corrected masks" if self.corrected_masks else IMAGE_LABELS


def find_records(root: Path) -> list[Path]:
    """Return the records below the folder of all results, sorted by path."""
    return sorted(path for pattern in RECORD_PATTERNS for path in root.glob(pattern))


def known_records(root: Path, *, exclude: str | None = None) -> list[str]:
    """Return one line per record that changes when the record or one of its scores changes.

    The Snakefile calls this function at each parsing. To be fast, it does not read scores: they
    are identified by size and modification time.

    Parameters
    ----------
    root : Path
        The folder of all results; it need not exist.
    exclude : str, optional
        An experiment to leave out: the current one, whose records are separate inputs.

    Returns
    -------
    list of str
        Relative path and digest of each record, sorted by path.
    """
    lines = []
    for record in find_records(root):
        path = record.relative_to(root)
        if path.parts[0] == exclude:
            continue
        digest = hashlib.sha256(record.read_bytes())
        for score in sorted((record.parent / "scores").rglob("*")):
            if score.suffix in {".json", ".safetensors"}:
                status = score.stat()
                digest.update(f"{score} {status.st_size} {status.st_mtime_ns};".encode())
        lines.append(f"{path.as_posix()} {digest.hexdigest()[:16]}")
    return lines


def read_run(record: Path, root: Path) -> Run:
    """Read the record of a run.

    Parameters
    ----------
    record : Path
        A file ``experiment.json`` that the rule ``record_experiment`` wrote.
    root : Path
        The folder of all results.

    Raises
    ------
    UserError
        If the file is not a record.
    """
    folder = record.parent.relative_to(root)
    try:
        document = read_document(record)
        if not isinstance(document["config"], Mapping):
            raise TypeError(f"config is a {type(document['config']).__name__}")
        return Run(
            experiment=folder.parts[0],
            folder=folder.as_posix(),
            seed=int(document["seed"]),
            config=document["config"],
            scores=tuple(_score_files(record.parent, item) for item in document["scores"]),
        )
    except READ_ERRORS as error:
        raise UserError(
            f"{record}: not a record of an experiment ({type(error).__name__}: {error}), expected "
            "what the rule record_experiment writes: delete it and run the experiment again"
        ) from error


def read_results(run: Run, *, whole: bool = False) -> tuple[list[Result], list[str]]:
    """Read the scores of a run that exist.

    Parameters
    ----------
    run : Run
    whole : bool
        Whether a score that cannot be read is an error instead of a note.

    Returns
    -------
    results : list of Result
    notes : list of str
        Messages about scores that could not be read or do not exist yet.

    Raises
    ------
    UserError
        If ``whole`` is true and a score cannot be read.
    """
    results: list[Result] = []
    notes: list[str] = []
    made = [files for files in run.scores if files.document.is_file() and files.counts.is_file()]
    for files in made:
        try:
            results.append(_read_result(run, files))
        except UserError as error:
            if whole:
                raise
            notes.append(str(error))
    if len(made) < len(run.scores):
        missing = len(run.scores) - len(made)
        notes.append(f"{missing} of {len(run.scores)} scores of {run.folder} do not exist yet")
    if not run.scores:
        notes.append(f"{run.folder} has no scores: its data set has no masks")
    return results, notes


def sorted_counts(path: Path) -> tuple[list[str], Counts]:
    """Read counts sorted by image id, so that the counts of two files can be paired.

    Returns
    -------
    ids : list of N str
    counts : (N, 3, C) int64 array
        As returned by :func:`pipeline.metrics.segmentation.image_counts`.

    Raises
    ------
    UserError, ValueError
        If the file is damaged, or the counts have another shape.
    """
    ids, counts = read_counts(path)
    if not ids or counts.ndim != 3 or counts.shape[:2] != (len(ids), 3):
        raise ValueError(f"counts of {len(ids)} images are {counts.shape}, expected (N, 3, C)")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return [ids[k] for k in order], counts[order]


def _score_files(folder: Path, item: Mapping[str, Any]) -> ScoreFiles:
    times = tuple(folder / path for path in item["times"])
    return ScoreFiles(folder / item["file"], folder / item["counts"], times)


def _read_result(run: Run, files: ScoreFiles) -> Result:
    try:
        return _result_of(run, files)
    except UserError:
        raise
    except READ_ERRORS as error:
        raise UserError(
            f"{files.document}: not a score of this configuration ({type(error).__name__}: "
            f"{error}), expected what the scoring rules write: delete it and make it again"
        ) from error


def _result_of(run: Run, files: ScoreFiles) -> Result:
    document = read_score(files.document)
    kind, method, settings = document["kind"], document["method"], document["settings"]
    ids, counts = sorted_counts(files.counts)
    miou = float(mean_iou(counts.sum(axis=0)))
    if not isclose(miou, float(document["miou"]), abs_tol=1e-9):
        raise UserError(
            f"{files.document}: mIoU is {document['miou']}, but {files.counts.name} gives {miou}: "
            "the files are from different runs; delete both and make them again"
        )
    config, given = run.config, settings.get("image_labels_given")
    return Result(
        run=run,
        kind=kind,
        method=method,
        split=str(document["split"]),
        data=f"{config['dataset']['kind']} {_digest(ids, counts)}",
        images=len(ids),
        miou=miou,
        classifier=_classifier(config, method),
        segmentation=str(config["segmentation"]["backbone"]) if kind == "predictions" else None,
        background=_background(document),
        crf=0 if settings.get("crf") is None else int(settings["crf"]["iterations"]),
        labels_given=given if isinstance(given, bool) else None,
        hours=_hours(files.times),
        counts=files.counts,
        corrected_masks=int(document.get("corrected_masks", 0)),
    )


def _classifier(config: Mapping[str, Any], method: str) -> str | None:
    if method == GROUND_TRUTH:
        return None
    return str(config["classifiers"][method.split("/", maxsplit=1)[0]]["backbone"])


def _digest(ids: Sequence[str], counts: Counts) -> str:
    ground_truth = json.dumps(ids).encode() + counts[:, 2].astype("<i8").tobytes()
    return hashlib.sha256(ground_truth).hexdigest()[:8]


def _background(document: Mapping[str, Any]) -> Background | None:
    threshold = document["threshold"]
    if threshold is None:
        return None
    # Scores of maps have no rule: only thresholds are swept.
    rule = (document["settings"].get("background") or {}).get("rule", "threshold")
    return Background(str(rule), float(threshold["value"]), str(threshold["threshold_source"]))


def _hours(times: Sequence[Path]) -> float | None:
    taken = [read_benchmark(path) for path in times]
    known = [item for item in taken if item is not None]
    return sum(s for s, _ in known) / 3600 if known and len(known) == len(taken) else None
