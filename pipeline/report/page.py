"""The report page: its content, and the template that shows it."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import yaml
from markupsafe import Markup

from pipeline.config.upper_bound import FULLY_SUPERVISED, GROUND_TRUTH, display_name
from pipeline.datasets.findings import Finding
from pipeline.datasets.manifest import Manifest
from pipeline.report.charts import confusion_chart, history_chart, threshold_chart
from pipeline.report.comparison import Comparison
from pipeline.report.corrections import Corrections
from pipeline.report.data import class_colors, page_data
from pipeline.report.full_supervision import shares_of_full_supervision
from pipeline.report.gallery import ROWS, Card, Split
from pipeline.report.html import render
from pipeline.report.inputs import KINDS, History, Quality, StageTime
from pipeline.report.label_errors import LabelErrors
from pipeline.report.selection import MAX_LISTED

PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "pydensecrf2",
            "opencv-python-headless", "numpy", "snakemake")  # fmt: skip


@dataclass(frozen=True)
class Content:
    """All content of the page.

    Attributes
    ----------
    manifest : Manifest
    scores : sequence of dict
        Score documents in the order of the pipeline; empty without masks.
    boxes : sequence of dict
        Localization scores; empty without masks and boxes.
    comparison : Comparison or None
        Comparison of class maps, if any is configured.
    localization : sequence of dict
        Scores of the compared maps' boxes.
    class_models, units : mapping of str to str
        By classifier, data URLs of the images of its class models and of its units.
    label_errors : LabelErrors or None
        Possible errors of image-level labels, if configured.
    corrections : Corrections or None
        The distance of pseudo-labels to corrected masks, if there are any.
    histories : sequence of History
    times : sequence of StageTime
    splits : mapping of str to Split
        Files and scores of each split.
    cards : mapping of str to sequence of Card
        The gallery's images by split.
    quality : sequence of Quality
        Label quality without ground truth.
    findings : sequence of Finding
        Possible problems of the masks and boxes that the scores depend on.
    config : mapping
        The resolved configuration.
    """

    manifest: Manifest
    scores: Sequence[Mapping[str, Any]]
    boxes: Sequence[Mapping[str, Any]]
    comparison: Comparison | None
    localization: Sequence[Mapping[str, Any]]
    class_models: Mapping[str, str]
    units: Mapping[str, str]
    label_errors: LabelErrors | None
    corrections: Corrections | None
    histories: Sequence[History]
    times: Sequence[StageTime]
    splits: Mapping[str, Split]
    cards: Mapping[str, Sequence[Card]]
    quality: Sequence[Quality]
    findings: Sequence[Finding]
    config: Mapping[str, Any]


def render_page(content: Content) -> str:
    """Return the HTML document. Equal content gives identical bytes."""
    return render(
        "page.html.j2",
        content=content,
        kinds=KINDS,
        listed=MAX_LISTED,
        rows=ROWS,
        charts=_charts(content),
        best=best_scores(content.scores),
        shares=shares_of_full_supervision(content.scores),
        fully_supervised=_fully_supervised(content.scores),
        label_free=[s for s in content.scores if s.get("label_free")],
        legend=dict(zip(content.manifest.classes, class_colors(content.manifest), strict=True)),
        data=page_data(
            content.manifest,
            content.scores,
            content.splits,
            content.cards,
            content.config["experiment"],
        ),
        counts={split: len(content.manifest.of_split(split)) for split in ("train", "val")},
        configuration=yaml.safe_dump(_plain_types(content.config), sort_keys=False),
        versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    )


def best_scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the score document with the highest mIoU of each kind; the first among ties.

    The upper bound is not a method of weak supervision, so it is never the best.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for score in scores:
        kind = score["kind"]
        if score["method"] == GROUND_TRUTH:
            continue
        if kind not in best or score["miou"] > best[kind]["miou"]:
            best[kind] = score
    return best


def _fully_supervised(scores: Sequence[Mapping[str, Any]]) -> str:
    """Return the display text of the upper bound; empty if it has no score."""
    return FULLY_SUPERVISED if any(s["method"] == GROUND_TRUTH for s in scores) else ""


def _charts(content: Content) -> dict[str, Any]:
    # matplotlib escapes the names that it writes.
    sweeps = {s["method"]: s["sweep"] for s in content.scores if s["kind"] == "maps"}
    boxes = {s["method"]: s["curve"] for s in content.localization if s["curve"]}
    names = ["background", *content.manifest.classes]
    rules = {s["method"]: s["label_free"] for s in content.scores if s.get("label_free")}
    matrices = {
        f"{KINDS[kind]} {score['method']}": score["confusion"]
        for kind, score in best_scores(content.scores).items()
        if kind != "maps"
    }
    return {
        "sweeps": _threshold_chart(sweeps, "miou", "background threshold", "mIoU", rules),
        "boxes": _threshold_chart(
            boxes, "share", "box threshold (share of the map's maximum)", "localized pairs"
        ),
        "histories": [
            (f"{h.kind} {display_name(h.method)}", Markup(history_chart(h)))  # noqa: S704
            for h in content.histories
        ],
        "matrices": [
            (title, Markup(confusion_chart(counts, names, title)))  # noqa: S704
            for title, counts in matrices.items()
        ],
    }


def _threshold_chart(
    curves: Mapping[str, Any],
    value: str,
    xlabel: str,
    ylabel: str,
    rules: Mapping[str, Any] | None = None,
) -> Markup | None:
    if not curves:
        return None
    chart = threshold_chart(curves, value=value, xlabel=xlabel, ylabel=ylabel, rules=rules)
    return Markup(chart)  # noqa: S704 - matplotlib escapes the names that it writes


def _plain_types(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_types(item) for item in value]
    return value
