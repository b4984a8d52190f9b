"""Write the report: one HTML file with scores, charts and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipeline.artifacts import read_scores, replacing
from pipeline.datasets.manifest import Manifest, read_boxes, read_manifest, read_masks
from pipeline.refinement.graph_cut import GraphCutSettings
from pipeline.report.comparison import Comparison, comparison_rows, read_table
from pipeline.report.gallery import Layers, gallery_rows
from pipeline.report.inputs import (
    by_method,
    method_of,
    read_all_scores,
    read_history,
    read_image_scores,
    read_times,
    representative_ids,
)
from pipeline.report.page import Content, render_page
from pipeline.report.pictures import data_url
from pipeline.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def report(
    *,
    manifest: Path,
    classes: Path,
    masks: Path,
    histories: list[Path],
    scores: list[Path],
    boxes: list[Path],
    image_scores: list[Path],
    maps: list[Path],
    labels: list[Path],
    predictions: list[Path],
    class_models: list[Path],
    units: list[Path],
    comparison: list[Path],
    localization: list[Path],
    compared_maps: list[Path],
    true_boxes: Path,
    times: list[Path],
    config: Mapping[str, Any],
    gallery: int,
    report: Path,
) -> None:
    """Put all results of an experiment on one page.

    Parameters
    ----------
    manifest, classes, masks : Path
        Images, class names, and the ground truth (possibly of no image).
    histories : list of Path
        Training histories.
    scores, image_scores : list of Path
        Scores, and per-image tables; empty without masks.
    boxes : list of Path
        Localisation scores.
    maps, labels, predictions : list of Path
        All shards.
    class_models, units : list of Path
        Pictures of what the classifiers' classes look like, and of their units.
    comparison : list of Path
        The table of the compared maps; empty without a comparison.
    localization, compared_maps : list of Path
        Scores of the compared maps' boxes, and all of their shards.
    true_boxes : Path
        Boxes of the images that have their own.
    times : list of Path
        Snakemake's benchmark files.
    config : mapping
        The resolved configuration.
    gallery : int
        Number of best, of median and of worst pictures.
    report : Path
        Output.
    """
    data = read_manifest(manifest, classes)
    truth = read_masks(masks)
    documents = read_all_scores(scores)
    tables = {method_of(path): read_image_scores(path) for path in image_scores}
    predicted = {f"prediction: {name}": shards for name, shards in by_method(predictions).items()}
    layers = {
        "train": Layers(truth, by_method(maps), by_method(labels), _cuts(labels, config)),
        "val": Layers(truth, {}, predicted),
    }
    galleries = {}
    for split, kind in (("train", "labels"), ("val", "predictions")):
        best = max(
            (item for item in documents if item["kind"] == kind),
            key=lambda item: item["miou"],
            default=None,
        )
        by_image = tables[kind, best["method"]] if best else {}
        first = [record.id for record in data.of_split(split)][: 3 * gallery]
        chosen = representative_ids(by_image, gallery) if best else {"first": first}
        if layers[split].labels:
            galleries[split] = gallery_rows(data, chosen, by_image, layers[split])
    content = Content(
        manifest=data,
        scores=documents,
        boxes=list(map(read_scores, boxes)),
        comparison=_comparison(
            comparison, data, config, by_method(compared_maps), truth, true_boxes
        ),
        localization=list(map(read_scores, localization)),
        class_models=_pictures(class_models),
        units=_pictures(units),
        histories=[read_history(path) for path in histories],
        times=read_times(times),
        galleries=galleries,
        config=config,
    )
    with replacing(report) as partial:
        partial.write_text(render_page(content), encoding="utf-8")


def _pictures(paths: Sequence[Path]) -> dict[str, str]:
    """Give the data URL of each classifier's picture."""
    return {path.stem: data_url(np.asarray(Image.open(path))) for path in paths}


def _comparison(
    tables: Sequence[Path],
    data: Manifest,
    config: Mapping[str, Any],
    maps: Mapping[str, Sequence[Path]],
    masks: Mapping[str, Path],
    boxes: Path,
) -> Comparison | None:
    if not tables:
        return None
    settings = config["comparison"]
    records = [record for record in data.of_split(settings["split"]) if record.labels]
    count = min(settings["gallery"], len(records))
    rows = comparison_rows(
        data,
        [records[index * len(records) // count] for index in range(count)],
        maps,
        masks=masks,
        boxes=read_boxes(boxes),
        threshold=settings["localization"]["threshold"],
    )
    return Comparison(*read_table(tables[0]), rows)


def _cuts(labels: Sequence[Path], config: Mapping[str, Any]) -> dict[str, GraphCutSettings]:
    """Tell of the maps that a graph cut refines how it tags their pixels."""
    cuts: dict[str, GraphCutSettings] = {}
    for method in by_method(labels):
        maps, _, refinement = method.rpartition("/")
        settings = config["refinements"][refinement]["graph_cut"]
        if settings is not None:
            cuts.setdefault(maps, GraphCutSettings.from_config(settings))
    return cuts


if __name__ == "__main__":
    run_stage(report, snakemake)
