"""The user's own files that a configuration names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.datasets.cub import FILES as CUB_FILES
from pipeline.datasets.demo import CLASSES as DEMO_CLASSES
from pipeline.workflow import Plan, unique

Config = Mapping[str, Any]


def dataset_section(plan: Plan) -> dict[str, Any]:
    """Give the data set as `prepare_dataset` reads it; the demo is a folder in VOC layout."""
    given: dict[str, Any] = plan.config["dataset"]
    if is_downloaded(plan.config):
        return {**given, "root": devkit(plan.config)}
    if given["kind"] != "demo":
        return given
    return {
        "kind": "voc",
        "root": f"{plan.home}/demo",
        "train_list": "ImageSets/Segmentation/train.txt",
        "val_list": "ImageSets/Segmentation/val.txt",
        "labels": "labels.csv",
        "masks": "SegmentationClass",
        "classes": list(DEMO_CLASSES),
    }


def dataset_sources(plan: Plan) -> list[str]:
    """Give the files and folders whose change makes the manifest stale."""
    dataset = plan.config["dataset"]
    if dataset["kind"] == "demo":
        return [f"{plan.home}/demo"]
    if is_downloaded(plan.config):
        return [devkit(plan.config)]
    if dataset["kind"] == "folder":
        keys = ("images", "labels", "masks", "boxes")
        return [dataset[key] for key in keys if dataset[key]]
    root = Path(dataset["root"])
    if dataset["kind"] == "cub":
        return [str(root / name) for name in CUB_FILES]
    names = [dataset["train_list"], dataset["val_list"], dataset["labels"] or "Annotations"]
    names += [dataset["boxes"]] if dataset["boxes"] else []
    return [str(root / name) for name in names]


def is_downloaded(config: Config) -> bool:
    """Tell whether the data set is VOC 2012 from its own site."""
    dataset = config["dataset"]
    return bool(dataset["kind"] == "voc" and dataset["root"] is None)


def devkit(config: Config) -> str:
    """Give the folder of the downloaded VOC 2012."""
    return f"{config['downloads']['folder']}/VOCdevkit/VOC2012"


def sbd_archive(config: Config) -> list[str]:
    """Give the downloaded archive of SBD, if it is wanted."""
    downloads = config["downloads"]
    return [f"{downloads['folder']}/archives/sbd"] if downloads["sbd"] else []


def pretrained(config: Config, settings: Mapping[str, Any]) -> list[str]:
    """Give the weights file that a network starts from, if it does: the user's, or a download."""
    name = settings["backbone"]
    fetched = f"{config['downloads']['folder']}/weights/{name}.safetensors"
    return [config["weights"].get(name, fetched)] if settings["pretrained"] else []


def classifier_start(plan: Plan, classifier: str) -> list[str]:
    """Give the weights file that a classifier's training starts from, if it does."""
    settings = plan.config["classifiers"][classifier]
    if settings["start"]:
        return [f"{plan.root}/classifiers/{settings['start']}/model.safetensors"]
    return pretrained(plan.config, settings)


def affinity_pretrained(config: Config, classifier: str) -> list[str]:
    """Give the local weights file of an affinity network that has pretrained features."""
    wanted = config["affinity"]["features"] == "pretrained"
    backbone = config["classifiers"][classifier]["backbone"]
    return pretrained(config, {"backbone": backbone, "pretrained": wanted})


def missing(plan: Plan) -> Iterator[str]:
    """Say of every file that the configuration names that it is not there."""
    config = plan.config
    if config["dataset"]["kind"] != "demo" and not is_downloaded(config):
        for path in dataset_sources(plan):
            if not Path(path).exists():
                yield f"{path}: no such file or folder, named by the configuration's dataset"
    for name, folder in config["folders"].items():
        if not Path(folder["images"]).is_dir():
            yield f"{folder['images']}: no such folder, named by the configuration's folders.{name}"
    networks = list(config["classifiers"].values())
    networks += [config["segmenter"]] if "segmenter" in config else []
    given = config["weights"].values()
    for path in unique(file for settings in networks for file in pretrained(config, settings)):
        if path in given and not Path(path).is_file():
            yield f"{path}: no such file, named by the configuration's weights"
