"""Write the report: one HTML file with scores, charts and images."""

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.findings import read_findings
from pipeline.datasets.manifest import (
    Manifest,
    evenly_spaced,
    read_boxes,
    read_manifest,
    read_masks,
)
from pipeline.datasets.masks import Mask
from pipeline.io.files import replacing
from pipeline.io.images import read_rgb
from pipeline.io.tables import read_document
from pipeline.refinement.graph_cut import GraphCutSettings
from pipeline.report.comparison import Comparison, comparison_rows, read_table
from pipeline.report.corrections import read_corrections
from pipeline.report.drawing import data_url
from pipeline.report.gallery import ALL, Split, gallery_cards, gallery_choices
from pipeline.report.inputs import (
    BOXES,
    LOCALIZATION,
    Quality,
    by_method,
    method_of,
    read_all_scores,
    read_history,
    read_image_scores,
    read_quality,
    read_times,
)
from pipeline.report.label_errors import read_section
from pipeline.report.page import Content, best_scores, render_page
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Maximum number of characters of the page's images; with its text, it stays below 20 MB.
IMAGE_BUDGET = 16_000_000
#: Kind of the scored labels that the gallery shows, by split.
SHOWN = {"train": "pseudo_labels", "val": "predictions"}


def report(
    *,
    manifest: Path,
    classes: Path,
    masks: Path,
    findings: Path,
    histories: list[Path],
    scores: list[Path],
    boxes: list[Path],
    image_scores: list[Path],
    quality: list[Path],
    quality_scores: list[Path],
    maps: list[Path],
    labels: list[Path],
    predictions: list[Path],
    class_models: list[Path],
    units: list[Path],
    label_errors: list[Path],
    corrected: list[Path],
    corrected_findings: list[Path],
    corrections: list[Path],
    comparison: list[Path],
    localization: list[Path],
    compared_maps: list[Path],
    true_boxes: Path,
    times: list[Path],
    config: Mapping[str, Any],
    gallery: int | str,
    report: Path,
) -> None:
    """Write all results of an experiment to one page.

    Parameters
    ----------
    manifest, classes, masks : Path
        Images, class names, and the ground truth (possibly of no image).
    findings : Path
        Possible problems of the ground truth.
    histories : list of Path
        Training histories.
    scores, image_scores : list of Path
        Scores, and per-image tables; empty without masks.
    boxes : list of Path
        Localization scores.
    quality, quality_scores : list of Path
        Per-image tables and summaries of label quality without ground truth; may be empty.
    maps, labels, predictions : list of Path
        All shards.
    class_models, units : list of Path
        Images of the classifiers' class models, and of their class-specific units.
    label_errors : list of Path
        The table of possible errors of image-level labels, if there is one.
    corrected, corrected_findings : list of Path
        The table of corrected masks, and the findings about them, if there are any.
    corrections : list of Path
        Scores of pseudo-labels against the corrected masks.
    comparison : list of Path
        The table of the compared maps; empty without a comparison.
    localization, compared_maps : list of Path
        Scores of the compared maps' boxes, and all shards of these maps.
    true_boxes : Path
        True boxes of the data set.
    times : list of Path
        Snakemake's benchmark files.
    config : mapping
        The resolved configuration.
    gallery : int or {"all"}
        Number of images in each group of the gallery (best, median, worst, and of every class),
        or every image.
    report : Path
        Output.
    """
    data = read_manifest(manifest, classes)
    ground_truth = read_masks(masks)
    documents = read_all_scores(scores)
    qualities = read_quality(quality, quality_scores)
    shown = {"train": (by_method(maps), by_method(labels)), "val": ({}, by_method(predictions))}
    splits = {
        name: _split(name, *files, documents, image_scores, qualities, config)
        for name, files in shown.items()
        if files[1]
    }
    compared = _comparison(
        comparison, data, config, by_method(compared_maps), ground_truth, true_boxes
    )
    sheets = _data_urls(class_models), _data_urls(units)
    spent = _spent(compared, *sheets)
    suspects = read_section(
        label_errors, data, config, by_method(maps), (IMAGE_BUDGET - spent) // 2
    )
    left = IMAGE_BUDGET - spent - (suspects.characters if suspects else 0)
    content = Content(
        manifest=data,
        scores=documents,
        boxes=[read_document(path, BOXES) for path in boxes],
        comparison=compared,
        localization=[read_document(path, LOCALIZATION) for path in localization],
        class_models=sheets[0],
        units=sheets[1],
        label_errors=suspects,
        corrections=read_corrections(corrected, corrections, corrected_findings, data),
        histories=[read_history(path) for path in histories],
        times=read_times(times),
        splits=splits,
        cards=gallery_cards(
            data,
            ground_truth,
            splits,
            gallery_choices(data, splits, gallery),
            inf if gallery == ALL else left,
        ),
        quality=qualities,
        findings=read_findings(findings),
        config=config,
    )
    with replacing(report) as partial:
        partial.write_text(render_page(content), encoding="utf-8")


def _split(
    name: str,
    maps: Mapping[str, Sequence[Path]],
    labels: Mapping[str, Sequence[Path]],
    documents: Sequence[Mapping[str, Any]],
    tables: Sequence[Path],
    quality: Sequence[Quality],
    config: Mapping[str, Any],
) -> Split:
    kind = SHOWN[name]
    best = best_scores(documents).get(kind)
    is_train = kind == "pseudo_labels"
    cuts = _cuts([path for paths in labels.values() for path in paths], config) if is_train else {}
    used = _used_labels(config) if is_train else []
    shown = [item for item in quality if item.split == name and item.method in labels]
    return Split(
        maps=maps,
        labels=labels,
        scores={
            method: read_image_scores(path)
            for path in tables
            for of, method in [method_of(path)]
            if of == kind
        },
        best=best["method"] if best else None,
        used=next((method for method in used if method in labels), None),
        doubts={item.method: item.doubts for item in shown},
        doubtful=[item.worth_a_look for item in shown],
        cuts={method: settings for method, settings in cuts.items() if method in maps},
    )


def _used_labels(config: Mapping[str, Any]) -> list[str]:
    """Return the pseudo-labels that are exported, and then those that networks learn."""
    exported = config.get("export", {}).get("pseudo_labels", [])
    learned = config.get("segmentation", {}).get("trained_on", [])
    return [*exported, *learned]


def _spent(compared: Comparison | None, *sheets: Mapping[str, str]) -> int:
    """Count the characters of the page's images outside the gallery."""
    rows = compared.rows if compared else ()
    cells = sum(len(cell.url) for row in rows for cell in row.cells)
    return cells + sum(len(url) for sheet in sheets for url in sheet.values())


def _data_urls(paths: Sequence[Path]) -> dict[str, str]:
    """Return the data URL of each classifier's image."""
    return {path.stem: data_url(read_rgb(path)) for path in paths}


def _comparison(
    tables: Sequence[Path],
    data: Manifest,
    config: Mapping[str, Any],
    maps: Mapping[str, Sequence[Path]],
    masks: Mapping[str, Mask],
    boxes: Path,
) -> Comparison | None:
    if not tables:
        return None
    settings = config["comparison"]
    records = [record for record in data.of_split(settings["split"]) if record.labels]
    rows = comparison_rows(
        data,
        evenly_spaced(records, settings["gallery"]),
        maps,
        masks=masks,
        boxes=read_boxes(boxes),
        threshold=settings["localization"]["threshold"],
    )
    return Comparison(*read_table(tables[0]), rows)


def _cuts(labels: Sequence[Path], config: Mapping[str, Any]) -> dict[str, GraphCutSettings]:
    """Return the graph cut settings by method of maps, for maps that a graph cut refines."""
    cuts: dict[str, GraphCutSettings] = {}
    for method in by_method(labels):
        maps, _, refinement = method.rpartition("/")
        settings = config["refinements"][refinement]["graph_cut"]
        if settings is not None:
            cuts.setdefault(maps, GraphCutSettings.from_config(settings))
    return cuts


if __name__ == "__main__":
    run_stage(report, snakemake)
