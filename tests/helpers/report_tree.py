"""A results tree made by hand, in the formats that the stages write."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pipeline.datasets.findings import write_findings
from pipeline.datasets.manifest import (
    Box,
    Record,
    write_boxes,
    write_classes,
    write_manifest,
    write_masks,
)
from pipeline.io.arrays import ClassMaps, write_label, write_maps
from pipeline.io.tables import write_json
from pipeline.metrics.segmentation import confusion_matrix, scores_of

METHOD = "plain/cam/crf"


def score(kind, method, names, ground_truth, predicted) -> dict[str, Any]:
    counts = confusion_matrix(ground_truth, predicted, len(names))
    given = {
        "kind": kind,
        "method": method,
        "split": "val" if kind == "predictions" else "train",
        "images": 3,
        "settings": {"image_labels_given": kind != "predictions", "crf": None},
        "threshold": {"value": 0.35, "threshold_source": "somehow"}
        if kind != "predictions"
        else None,
    }
    if kind == "maps":
        given["sweep"] = [{"threshold": 0.2, "miou": 0.1}, {"threshold": 0.35, "miou": 0.25}]
        given["label_free"] = {"rule": "otsu", "value": 0.2, "miou": 0.1, "cost": 0.15}
    return given | scores_of(counts, names)


def build(root: Path, classes: list[str]) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    names = ["background", *classes]
    records, masks, maps = [], {}, []
    for index in range(6):
        split = "train" if index < 3 else "val"
        image, mask = root / f"images/{index}.png", root / f"masks/{index}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(image)
        label = rng.choice(np.array([0, 1, 255], np.uint8), (20, 30))
        write_label(mask, label)
        labels = () if index == 0 else (classes[0],)
        records.append(Record(f"i{index}", image, 30, 20, split, labels))
        masks[f"i{index}"] = mask
        kind = f"pseudo_labels/{METHOD}/train" if split == "train" else f"predictions/{METHOD}/val"
        write_label(root / f"{kind}/0/i{index}.png", label)
        if split == "train":
            numbers = np.array([1] * len(labels), np.int64)
            values = np.full((len(numbers), 5, 8), 0.5, np.float16)
            maps.append((f"i{index}", ClassMaps(numbers, values, (20, 30))))
    write_manifest(root / "dataset/manifest.csv", records)
    write_classes(root / "dataset/classes.json", classes)
    write_masks(root / "dataset/masks.csv", masks)
    write_findings(root / "dataset/findings.json", [])
    write_boxes(root / "dataset/boxes.csv", {"i1": [Box(classes[0], 3, 4, 21, 16)]})
    write_maps(root / "maps/plain/cam/train/0.safetensors", maps)
    ground_truth = rng.integers(0, 2, (9, 9)).astype(np.uint8)
    predicted = rng.integers(0, 2, (9, 9)).astype(np.uint8)
    files = {
        "maps/plain/cam/train": score("maps", "plain/cam", names, ground_truth, predicted),
        f"pseudo_labels/{METHOD}/train": score(
            "pseudo_labels", METHOD, names, ground_truth, ground_truth
        ),
        f"predictions/{METHOD}/val": score("predictions", METHOD, names, ground_truth, predicted),
    }
    for stem, document in files.items():
        write_json(root / f"scores/{stem}.json", document)
    for kind, split, first in (("pseudo_labels", "train", 0), ("predictions", "val", 3)):
        ious = [f"iou:{name}" for name in names]
        with (root / f"scores/{kind}/{METHOD}/{split}.csv").open(
            "w", newline="", encoding="utf-8"
        ) as file:
            writer = csv.writer(file)
            writer.writerow(["id", "miou", "pixel_accuracy", *ious])
            for k in range(3):
                miou = round(0.2 + 0.3 * k, 1)
                writer.writerow([f"i{first + k}", miou, 0.5, 0.9, 0.75 - miou / 2, ""])
    errors = {"0.3": 0.125, "0.5": 0.4375, "0.7": None}
    document = {
        "method": METHOD, "split": "train", "images": 3, "pairs": 2,
        "images_with_known_boxes": 1, "error": errors, "classes": {},
    }  # fmt: skip
    write_json(root / f"scores/boxes/{METHOD}/train.json", document)
    table = root / f"quality/{METHOD}/train.csv"
    table.parent.mkdir(parents=True)
    table.write_text("id,certainty,doubt\ni0,0.5,0.25\ni1,0.25,0.75\ni2,,\n", encoding="utf-8")
    figure = {"name": "certainty", "title": "Certainty of the maps", "mean": 0.375, "classes": {}}
    write_json(
        table.with_suffix(".json"),
        {
            "kind": "quality", "method": METHOD, "split": "train", "images": 3,
            "figures": [figure | {"correlation": {"images": 0.42, "classes": None}}],
            "worth_a_look": ["i1", "i0"],
        },
    )  # fmt: skip
    grid = root / "class_models/plain.png"
    grid.parent.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(grid)
    history = root / "classifiers/plain/history.csv"
    history.parent.mkdir(parents=True)
    history.write_text(
        "epoch,loss,learning_rate,val_map\n1,0.7,0.1,0.5\n2,0.4,0.05,0.6\n", encoding="utf-8"
    )
    for shard in range(2):
        path = root / f"benchmarks/make_maps/plain/cam/train/{shard}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\th:m:s\tmax_rss\n61.5\t0:01:01\t2048\n", encoding="utf-8")
    arguments = {
        "manifest": root / "dataset/manifest.csv",
        "classes": root / "dataset/classes.json",
        "masks": root / "dataset/masks.csv",
        "findings": root / "dataset/findings.json",
        "histories": [history],
        "scores": [root / f"scores/{stem}.json" for stem in files],
        "boxes": [root / f"scores/boxes/{METHOD}/train.json"],
        "class_models": [grid],
        "units": [],
        "label_errors": [],
        "corrected": [],
        "corrected_findings": [],
        "corrections": [],
        "comparison": [],
        "localization": [],
        "compared_maps": [],
        "true_boxes": root / "dataset/boxes.csv",
        "image_scores": [
            root / f"scores/pseudo_labels/{METHOD}/train.csv",
            root / f"scores/predictions/{METHOD}/val.csv",
        ],
        "quality": [table],
        "quality_scores": [table.with_suffix(".json")],
        "maps": [root / "maps/plain/cam/train/0.safetensors"],
        "labels": [root / f"pseudo_labels/{METHOD}/train/0"],
        "predictions": [root / f"predictions/{METHOD}/val/0"],
        "times": sorted(root.rglob("*.tsv")),
        "config": {
            "experiment": "exp",
            "seed": 3,
            "dataset": {"kind": "folder"},
            "pseudo_labels": [METHOD],
            "refinements": {"crf": {"graph_cut": None}},
        },
        "gallery": 1,
        "report": root / "report.html",
    }
    return SimpleNamespace(root=root, arguments=arguments)
