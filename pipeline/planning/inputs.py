"""Input files of a configuration: the user's own files and downloads."""

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake.io import ancient, is_flagged

from pipeline.config.resolve import PATHS
from pipeline.datasets.cub import FILES as CUB_FILES
from pipeline.datasets.demo import CLASSES as DEMO_CLASSES
from pipeline.datasets.folder import find_images
from pipeline.datasets.masks import find_masks
from pipeline.datasets.paths import in_dataset
from pipeline.datasets.region_files import find_region_files
from pipeline.datasets.source import Source
from pipeline.datasets.voc import find_voc_images, read_list
from pipeline.errors import UserError
from pipeline.io.repair import FOLDER_TIMESTAMP
from pipeline.io.user_files import file_problem, folder_problem
from pipeline.planning.contents import contents_digest
from pipeline.planning.plan import Plan, unique

Config = Mapping[str, Any]

#: Suffixes of results that other rules read, and folders of an experiment that none reads.
_RESULTS = frozenset({".csv", ".json", ".png", ".safetensors"})
_NO_INPUTS = frozenset({"benchmarks", "logs"})


def dataset_section(plan: Plan) -> dict[str, Any]:
    """Return the data set section for `prepare_dataset`; the demo has the layout of VOC."""
    given = plan.config["dataset"]
    # A review reaches jobs through pipeline.planning.review only: a verdict reruns no classifier.
    # Likewise corrected masks, through pipeline.planning.corrected.
    section = {key: value for key, value in given.items() if key not in ("review", "corrected")}
    if is_downloaded(plan.config):
        return {**section, "root": devkit(plan.config)}
    if section["kind"] != "demo":
        # "photos/" and "photos" are the same folder.
        paths = {key: str(Path(section[key])) for key in PATHS if section.get(key)}
        return section | paths
    return {
        "kind": "voc",
        "root": f"{plan.home}/demo",
        "train_list": "ImageSets/Segmentation/train.txt",
        "val_list": "ImageSets/Segmentation/val.txt",
        "image_labels": "labels.csv",
        "masks": "SegmentationClass",
        "scored_splits": ["train", "val"],
        "classes": list(DEMO_CLASSES),
    }


def dataset_without_ground_truth(plan: Plan) -> dict[str, Any]:
    """Return the data set section without masks and boxes, which no training uses."""
    section = dataset_section(plan)
    hidden = ("masks", "mask_values", "boxes", "score_list")
    known = {key: None for key in hidden if key in section}
    return {key: value for key, value in section.items() if key != "scored_splits"} | known


def dataset_sources(plan: Plan) -> list[str]:
    """Return the input files of the manifest; the images count by their digest instead.

    The user's folders are left out: a file manager that opens a folder can change its time.
    """
    if is_made(plan.config):
        root = dataset_section(plan)["root"]
        own = [path for path in _tables(plan) if not Path(path).is_relative_to(root)]
        return [root, *_as_ancient(own)]
    return _as_ancient(_tables(plan))


def ground_truth_sources(plan: Plan) -> list[str]:
    """Return the input files of the ground-truth lists; the masks count by their digest instead."""
    return (
        dataset_sources(plan) if is_made(plan.config) else _as_ancient(_ground_truth_tables(plan))
    )


def given_files(plan: Plan) -> list[str]:
    """Return all user files that are inputs of rules."""
    tables = [] if is_made(plan.config) else [*_tables(plan), *_ground_truth_tables(plan)]
    return unique([*tables, *given_weights(plan.config).values()])


def named_paths(config: Config) -> dict[str, str]:
    """Return the paths in a configuration by key."""
    dataset = config["dataset"]
    named = {f"dataset.{key}": dataset[key] for key in PATHS if dataset.get(key)}
    folders = {f"folders.{name}.images": item["images"] for name, item in config["folders"].items()}
    weights = {f"weights.{name}": path for name, path in config["weights"].items()}
    return (
        named
        | folders
        | weights
        | region_folders(config)
        | {"downloads.folder": config["downloads"]["folder"]}
    )


def region_folders(config: Config) -> dict[str, str]:
    """Return the user's folders of masks by key of the configuration."""
    sections = config.get("regions", {}).items()
    return {f"regions.{key}.folder": part["folder"] for key, part in sections if "folder" in part}


def downloaded_files(plan: Plan) -> list[str]:
    """Return the existing downloads, by a rule or by hand, that are inputs of rules.

    A folder made by a rule is represented by the file that Snakemake takes its time from.
    """
    config = plan.config
    folder = Path(config["downloads"]["folder"])
    networks = [*config["classifiers"].values(), config.get("segmentation", {})]
    names = unique(str(settings.get("backbone")) for settings in networks)
    paths = [folder / f"weights/{name}.safetensors" for name in names]
    if is_downloaded(config):
        archives = [f"{folder}/archives/voc2012", *sbd_archive(config)]
        paths += [*map(Path, archives), Path(devkit(config), FOLDER_TIMESTAMP)]
    return [str(path) for path in paths if path.is_file()]


def made_files(plan: Plan) -> Iterator[str]:
    """Yield the results of an experiment that may be inputs of a rule.

    Of a folder that a rule made, only the file that Snakemake takes its time from: it may hold
    one label image per image.
    """
    for folder, below, names in os.walk(plan.home):
        stamps = {name: f"{folder}/{name}/{FOLDER_TIMESTAMP}" for name in sorted(below)}
        made = [name for name, stamp in stamps.items() if Path(stamp).is_file()]
        yield from (stamps[name] for name in made)
        # A folder that a rule made is not even listed.
        below[:] = [name for name in stamps if name not in {*made, *_NO_INPUTS}]
        results = (name for name in sorted(names) if not name.startswith("."))
        yield from (f"{folder}/{name}" for name in results if Path(name).suffix in _RESULTS)


def _as_ancient(paths: Iterable[str]) -> list[str]:
    """Mark user files as ancient: a changed content reruns jobs, a changed time does not."""
    return [ancient(path) for path in paths]


def _tables(plan: Plan) -> list[str]:
    """Return the user's lists of images and tables of image-level labels."""
    dataset = dataset_section(plan)
    if dataset["kind"] == "folder":
        return [dataset["image_labels"]]
    root = Path(dataset["root"])
    if dataset["kind"] == "cub":
        return [str(root / name) for name in CUB_FILES]
    names = [dataset[key] for key in ("train_list", "val_list", "image_labels") if dataset[key]]
    return [str(in_dataset(root, name)) for name in names]


def _ground_truth_tables(plan: Plan) -> list[str]:
    """Return the user's ground-truth boxes and list of images to score, if configured."""
    dataset = dataset_section(plan)
    named = [dataset[key] for key in ("boxes", "score_list") if dataset.get(key)]
    return [str(in_dataset(dataset.get("root", ""), name)) for name in named]


def _folders(plan: Plan) -> list[str]:
    """Return the user's folders that the data set is read from."""
    dataset = dataset_section(plan)
    if dataset["kind"] == "folder":
        return [dataset[key] for key in ("images", "masks") if dataset[key]]
    root = Path(dataset["root"])
    if dataset["kind"] == "cub":
        return [str(root / "images")]
    annotations = [] if dataset["image_labels"] else ["Annotations"]
    masks = [dataset["masks"]] if dataset["masks"] else []
    return [str(root / name) for name in ("JPEGImages", *annotations, *masks)]


def images_digest(plan: Plan) -> str:
    """Return a digest of the names and contents of the user's images and tables."""
    if is_made(plan.config):
        return ""
    return contents_digest([*map(Path, _tables(plan)), *_images(dataset_section(plan))])


def _images(dataset: Mapping[str, Any]) -> list[Path]:
    """Return the user's images, and the annotations with their image-level labels."""
    if dataset["kind"] != "voc":
        folder = Path(dataset.get("images") or Path(dataset["root"], "images"))
        return list(find_images(folder, Source()).values())
    root = Path(dataset["root"])
    images = find_voc_images(root)
    wanted = _listed_ids(dataset, images)
    paths = [path for stem in wanted for path in images.get(stem, [])]
    if not dataset["image_labels"]:
        paths += [root / "Annotations" / f"{image_id}.xml" for image_id in wanted]
    return paths


def ground_truth_digest(plan: Plan) -> str:
    """Return a digest of the names and contents of the user's masks and boxes."""
    if is_made(plan.config):
        return ""
    return contents_digest([*map(Path, _ground_truth_tables(plan)), *_masks(dataset_section(plan))])


def _masks(dataset: Mapping[str, Any]) -> list[Path]:
    """Return the user's masks; for VOC, only those of listed images."""
    if not dataset.get("masks"):
        return []
    found = find_masks(Path(dataset.get("root", "")) / dataset["masks"], [])
    if dataset["kind"] == "voc":
        wanted = _listed_ids(dataset, find_voc_images(Path(dataset["root"])))
        found = {stem: found[stem] for stem in wanted & found.keys()}
    return [path for paths in found.values() for path in paths]


def folder_digest(folder: Path) -> str:
    """Return a digest of the names and contents of all images below a folder."""
    return contents_digest(find_images(folder, Source()).values())


def region_files_digest(regions: Mapping[str, Any]) -> str:
    """Return a digest of the user's masks of an entry of ``regions``; empty for superpixels."""
    return contents_digest(_region_files(regions))


def _region_files(regions: Mapping[str, Any]) -> list[Path]:
    """Return the JSON files, and the PNG files in folders, of an entry of ``regions``."""
    if regions["kind"] != "folder":
        return []
    found = find_region_files(Path(regions["folder"])).files.values()
    files = [path for path in found if not path.is_dir()]
    return files + [png for path in found if path.is_dir() for png in path.glob("*.png")]


def place_of_links(plan: Plan) -> str:
    """Return the working folder if links to images depend on it, otherwise an empty string.

    Relative links survive a move of the project (:func:`pipeline.export.images.link_target`).
    They are absolute if results are on another disk, or images outside the project.
    """
    dataset = dataset_section(plan)
    folder = Path(dataset.get("images") or dataset["root"])
    project = Path.cwd().resolve()
    inside = ".." not in folder.parts or folder.resolve().is_relative_to(project)
    if folder.is_absolute() or (inside and Path(plan.home).resolve().is_relative_to(project)):
        return ""
    return str(project)


def _listed_ids(dataset: Mapping[str, Any], known: Container[str]) -> set[str]:
    """Return the ids of both VOC lists; lists that `prepare_dataset` will refuse are skipped."""
    ids: set[str] = set()
    for key in ("train_list", "val_list"):
        with suppress(UserError):
            ids.update(read_list(in_dataset(dataset["root"], dataset[key]), known))
    return ids


def is_made(config: Config) -> bool:
    """Return whether a rule makes the data set: the demo or a download."""
    return config["dataset"]["kind"] == "demo" or is_downloaded(config)


def is_downloaded(config: Config) -> bool:
    """Return whether the data set is a download of VOC 2012."""
    dataset = config["dataset"]
    return bool(dataset["kind"] == "voc" and dataset["root"] is None)


def devkit(config: Config) -> str:
    """Return the folder of the downloaded VOC 2012."""
    return f"{config['downloads']['folder']}/VOCdevkit/VOC2012"


def sbd_archive(config: Config) -> list[str]:
    """Return the downloaded archive of SBD, if it is configured."""
    downloads = config["downloads"]
    return [f"{downloads['folder']}/archives/sbd"] if downloads["sbd"] else []


def pretrained(config: Config, settings: Mapping[str, Any]) -> list[str]:
    """Return the file of pretrained weights of a network, if any: the user's or a download."""
    if not settings["pretrained"]:
        return []
    name = settings["backbone"]
    if name in config["weights"]:
        return _as_ancient([config["weights"][name]])
    return [f"{config['downloads']['folder']}/weights/{name}.safetensors"]


def weights_digest(paths: Iterable[str]) -> str:
    """Return a digest of the user files among weights files.

    Downloads are identified by their checksum, outputs of rules by their time.
    """
    own = [Path(path) for path in paths if is_flagged(path, "ancient")]
    return contents_digest(own) if own else ""


def classifier_weights(plan: Plan, classifier: str) -> list[str]:
    """Return the weights file that a classifier's training starts from, if any."""
    settings = plan.config["classifiers"][classifier]
    if settings["init_from"]:
        return [f"{plan.root}/classifiers/{settings['init_from']}/model.safetensors"]
    return pretrained(plan.config, settings)


def affinity_pretrained(config: Config, classifier: str) -> list[str]:
    """Return the weights file of pretrained features that affinities are computed from, if any."""
    wanted = config["affinity"]["features"] == "pretrained"
    backbone = config["classifiers"][classifier]["backbone"]
    return pretrained(config, {"backbone": backbone, "pretrained": wanted})


def missing(plan: Plan) -> Iterator[str]:
    """Yield a message for each file or folder of the configuration that is missing."""
    config = plan.config
    if not is_made(config):
        for path in [*_tables(plan), *_ground_truth_tables(plan)]:
            yield from _absent(path, _key(plan, path))
        for path in _folders(plan):
            yield from _absent(path, _key(plan, path), folder=True)
    if review := config["dataset"].get("review"):
        yield from _absent(review, "dataset.review")
    if corrected := config["dataset"].get("corrected"):
        yield from _absent(corrected, "dataset.corrected", folder=Path(corrected).is_dir())
    for name, further in config["folders"].items():
        yield from _absent(further["images"], f"folders.{name}.images", folder=True)
    for key, path in region_folders(config).items():
        yield from _absent(path, key, folder=True)
    for name, path in given_weights(config).items():
        yield from _absent(path, f"weights.{name}")


def given_weights(config: Config) -> dict[str, str]:
    """Return the user's weights files that networks start from, by backbone."""
    files = config["weights"]
    return {name: files[name] for name in pretrained_backbones(config) if name in files}


def pretrained_backbones(config: Config) -> list[str]:
    """Return the backbones of all networks that start from pretrained weights, in order."""
    networks = [*config["classifiers"].values(), config.get("segmentation", {})]
    return unique(settings["backbone"] for settings in networks if settings.get("pretrained"))


def _absent(path: str, key: str, *, folder: bool = False) -> Iterator[str]:
    problem = folder_problem(Path(path)) if folder else file_problem(Path(path))
    if problem:
        yield f"{path}: {problem}, named by the configuration's {key}"


def _key(plan: Plan, path: str) -> str:
    """Return the configuration key of a data set file; ``root`` if no other key names it."""
    dataset = dataset_section(plan)
    root = Path(dataset.get("root") or "")
    named = [
        key for key in PATHS if dataset.get(key) and str(in_dataset(root, dataset[key])) == path
    ]
    return f"dataset.{named[0] if named else 'root'}"
