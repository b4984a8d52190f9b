"""The page: everything the report shows, put into its template."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import yaml
from markupsafe import Markup

from pipeline.datasets.manifest import Manifest
from pipeline.report.charts import confusion_chart, history_chart, threshold_chart
from pipeline.report.comparison import Comparison
from pipeline.report.gallery import Row
from pipeline.report.html import render
from pipeline.report.inputs import KINDS, History, StageTime
from pipeline.report.pictures import palette_colours

PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "pydensecrf2",
            "opencv-python-headless", "numpy", "snakemake")  # fmt: skip


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes
    ----------
    manifest : Manifest
    scores : sequence of dict
        Score documents in the order of the data's way; empty without masks.
    boxes : sequence of dict
        Localisation scores; empty without masks and boxes.
    comparison : Comparison or None
        Maps side by side, where some are compared.
    localization : sequence of dict
        Scores of the compared maps' boxes.
    class_models, units : mapping of str to str
        Data URL of the picture of each classifier's classes, and of their units.
    histories : sequence of History
    times : sequence of StageTime
    galleries : mapping of str to sequence of Row
        Rows by split.
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
    histories: Sequence[History]
    times: Sequence[StageTime]
    galleries: Mapping[str, Sequence[Row]]
    config: Mapping[str, Any]


def render_page(content: Content) -> str:
    """Give the HTML document. The same content gives the same bytes."""
    return render(
        "page.html.j2",
        content=content,
        kinds=KINDS,
        charts=_charts(content),
        legend=_legend(content.manifest),
        counts={split: len(content.manifest.of_split(split)) for split in ("train", "val")},
        configuration=yaml.safe_dump(_plain_types(content.config), sort_keys=False),
        versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    )


def _charts(content: Content) -> dict[str, Any]:
    # matplotlib escapes the names that it writes.
    sweeps = {s["method"]: s["sweep"] for s in content.scores if s["kind"] == "maps"}
    boxes = {s["method"]: s["curve"] for s in content.localization if s["curve"]}
    names = ["background", *content.manifest.classes]
    best: dict[str, Mapping[str, Any]] = {}
    for score in content.scores:
        kind = score["kind"]
        if kind != "maps" and (kind not in best or score["miou"] > best[kind]["miou"]):
            best[kind] = score
    matrices = {
        f"{KINDS[kind]} {score['method']}": score["confusion"] for kind, score in best.items()
    }
    return {
        "sweeps": _threshold_chart(sweeps, "miou", "background threshold", "mIoU"),
        "boxes": _threshold_chart(
            boxes, "share", "box threshold (share of the map's maximum)", "pairs localised"
        ),
        "histories": [(h.method, Markup(history_chart(h))) for h in content.histories],  # noqa: S704
        "matrices": [
            (title, Markup(confusion_chart(counts, names, title)))  # noqa: S704
            for title, counts in matrices.items()
        ],
    }


def _threshold_chart(
    curves: Mapping[str, Any], value: str, xlabel: str, ylabel: str
) -> Markup | None:
    if not curves:
        return None
    chart = threshold_chart(curves, value=value, xlabel=xlabel, ylabel=ylabel)
    return Markup(chart)  # noqa: S704 - matplotlib escapes the names that it writes


def _legend(manifest: Manifest) -> list[tuple[str, str]]:
    colours = palette_colours()
    return [
        (name, f"rgb({', '.join(str(int(value)) for value in colours[number])})")
        for number, name in enumerate(manifest.classes, start=1)
    ]


def _plain_types(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_types(item) for item in value]
    return value
