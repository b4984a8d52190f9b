"""The user's own files that a configuration names."""

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake.io import ancient, is_flagged

from pipeline.config import PATHS
from pipeline.contents import state_of
from pipeline.datasets.cub import FILES as CUB_FILES
from pipeline.datasets.demo import CLASSES as DEMO_CLASSES
from pipeline.datasets.folder import find_images
from pipeline.datasets.masks import find_masks
from pipeline.datasets.source import Source
from pipeline.datasets.voc import find_photographs, read_list
from pipeline.errors import UserError
from pipeline.mending import MADE
from pipeline.user_files import file_problem, folder_problem
from pipeline.workflow import Plan, unique

Config = Mapping[str, Any]

#: Suffixes of results that other rules read, and folders of an experiment that none reads.
_RESULTS = frozenset({".csv", ".json", ".png", ".safetensors"})
_NO_INPUTS = frozenset({"benchmarks", "logs"})


def dataset_section(plan: Plan) -> dict[str, Any]:
    """Give the data set as `prepare_dataset` reads it; the demo is a folder in VOC layout."""
    given: dict[str, Any] = plan.config["dataset"]
    if is_downloaded(plan.config):
        return {**given, "root": devkit(plan.config)}
    if given["kind"] != "demo":
        # "photos/" is no other folder than "photos".
        paths = {key: str(Path(given[key])) for key in PATHS if given.get(key)}
        return given | paths
    return {
        "kind": "voc",
        "root": f"{plan.home}/demo",
        "train_list": "ImageSets/Segmentation/train.txt",
        "val_list": "ImageSets/Segmentation/val.txt",
        "labels": "labels.csv",
        "masks": "SegmentationClass",
        "scored": ["train", "val"],
        "classes": list(DEMO_CLASSES),
    }


def photographs_section(plan: Plan) -> dict[str, Any]:
    """Give the data set without its masks and boxes, on which no training depends."""
    section = dataset_section(plan)
    hidden = ("masks", "mask_values", "boxes", "score_list")
    known = {key: None for key in hidden if key in section}
    return {key: value for key, value in section.items() if key != "scored"} | known


def dataset_sources(plan: Plan) -> list[str]:
    """Give the files whose change makes the manifest stale, beside the photographs' state.

    A folder of the user's is none of them: a file manager that looks into it changes its time.
    """
    if is_made(plan.config):
        return [dataset_section(plan)["root"]]
    return _given(_tables(plan))


def truth_sources(plan: Plan) -> list[str]:
    """Give the files whose change makes the lists of truth stale, beside the masks' state."""
    return dataset_sources(plan) if is_made(plan.config) else _given(_truth_tables(plan))


def given_files(plan: Plan) -> list[str]:
    """Give every file of the user's that is an input of a rule."""
    tables = [] if is_made(plan.config) else [*_tables(plan), *_truth_tables(plan)]
    return unique([*tables, *given_weights(plan.config).values()])


def named_paths(config: Config) -> dict[str, str]:
    """Return the paths that a configuration gives, by the keys that name them."""
    dataset = config["dataset"]
    named = {f"dataset.{key}": dataset[key] for key in PATHS if dataset.get(key)}
    folders = {f"folders.{name}.images": item["images"] for name, item in config["folders"].items()}
    weights = {f"weights.{name}": path for name, path in config["weights"].items()}
    return named | folders | weights | {"downloads.folder": config["downloads"]["folder"]}


def downloaded_files(plan: Plan) -> list[str]:
    """Return what is in the folder of downloads, by rule or by hand, that is an input of a rule.

    A folder that a rule made stands for itself by the file that Snakemake takes its time from.
    """
    config = plan.config
    folder = Path(config["downloads"]["folder"])
    networks = [*config["classifiers"].values(), config.get("segmenter", {})]
    names = unique(str(settings.get("backbone")) for settings in networks)
    paths = [folder / f"weights/{name}.safetensors" for name in names]
    if is_downloaded(config):
        archives = [f"{folder}/archives/voc2012", *sbd_archive(config)]
        paths += [*map(Path, archives), Path(devkit(config), MADE)]
    return [str(path) for path in paths if path.is_file()]


def made_files(plan: Plan) -> Iterator[str]:
    """Yield the results of an experiment that may be inputs of a rule.

    Of a folder that a rule made, only the file that Snakemake takes its time from: it may hold
    one label image for each photograph.
    """
    for folder, below, names in os.walk(plan.home):
        stamps = {name: f"{folder}/{name}/{MADE}" for name in sorted(below)}
        made = [name for name, stamp in stamps.items() if Path(stamp).is_file()]
        yield from (stamps[name] for name in made)
        # A folder that a rule made is not even listed.
        below[:] = [name for name in stamps if name not in {*made, *_NO_INPUTS}]
        results = (name for name in sorted(names) if not name.startswith("."))
        yield from (f"{folder}/{name}" for name in results if Path(name).suffix in _RESULTS)


def _given(paths: Iterable[str]) -> list[str]:
    """Mark files of the user's: their content, not their time, reruns what is made of them."""
    return [ancient(path) for path in paths]


def _tables(plan: Plan) -> list[str]:
    """Give the user's tables and lists that say which images there are and what they show."""
    dataset = dataset_section(plan)
    if dataset["kind"] == "folder":
        return [dataset["labels"]]
    root = Path(dataset["root"])
    if dataset["kind"] == "cub":
        return [str(root / name) for name in CUB_FILES]
    names = [dataset[key] for key in ("train_list", "val_list", "labels") if dataset[key]]
    return [str(root / name) for name in names]


def _truth_tables(plan: Plan) -> list[str]:
    """Return the user's table of true boxes and list of images to score, where they are given."""
    dataset = dataset_section(plan)
    named = [dataset[key] for key in ("boxes", "score_list") if dataset.get(key)]
    return [str(Path(dataset.get("root", ""), name)) for name in named]


def _folders(plan: Plan) -> list[str]:
    """Give the user's folders that the data set is read from."""
    dataset = dataset_section(plan)
    if dataset["kind"] == "folder":
        return [dataset[key] for key in ("images", "masks") if dataset[key]]
    root = Path(dataset["root"])
    if dataset["kind"] == "cub":
        return [str(root / "images")]
    annotations = [] if dataset["labels"] else ["Annotations"]
    masks = [dataset["masks"]] if dataset["masks"] else []
    return [str(root / name) for name in ("JPEGImages", *annotations, *masks)]


def state_of_photographs(plan: Plan) -> str:
    """Digest the names and contents of the photographs and tables that the user gives."""
    if is_made(plan.config):
        return ""
    return state_of([*map(Path, _tables(plan)), *_photographs(dataset_section(plan))])


def _photographs(dataset: Mapping[str, Any]) -> list[Path]:
    """Find the user's photographs, and annotations that say what is on them."""
    if dataset["kind"] != "voc":
        folder = Path(dataset.get("images") or Path(dataset["root"], "images"))
        return list(find_images(folder, Source()).values())
    root = Path(dataset["root"])
    photographs = find_photographs(root)
    wanted = _listed_ids(dataset, photographs)
    paths = [path for stem in wanted for path in photographs.get(stem, [])]
    if not dataset["labels"]:
        paths += [root / "Annotations" / f"{image_id}.xml" for image_id in wanted]
    return paths


def state_of_truth(plan: Plan) -> str:
    """Digest the names and contents of the masks and boxes that the user gives."""
    if is_made(plan.config):
        return ""
    return state_of([*map(Path, _truth_tables(plan)), *_masks(dataset_section(plan))])


def _masks(dataset: Mapping[str, Any]) -> list[Path]:
    """Find the user's masks; of a VOC, those of its images."""
    if not dataset.get("masks"):
        return []
    found = find_masks(Path(dataset.get("root", "")) / dataset["masks"], [])
    if dataset["kind"] == "voc":
        wanted = _listed_ids(dataset, find_photographs(Path(dataset["root"])))
        found = {stem: found[stem] for stem in wanted & found.keys()}
    return [path for paths in found.values() for path in paths]


def state_of_folder(folder: Path) -> str:
    """Digest the names and contents of all pictures below a folder."""
    return state_of(find_images(folder, Source()).values())


def place_of_links(plan: Plan) -> str:
    """Return the working folder where links to photographs depend on it; else nothing.

    Relative links survive a move of the project (:func:`pipeline.export.photographs.link_target`);
    with results on another disk, or photographs beside the project, they are absolute.
    """
    dataset = dataset_section(plan)
    folder = Path(dataset.get("images") or dataset["root"])
    project = Path.cwd().resolve()
    inside = ".." not in folder.parts or folder.resolve().is_relative_to(project)
    if folder.is_absolute() or (inside and Path(plan.home).resolve().is_relative_to(project)):
        return ""
    return str(project)


def _listed_ids(dataset: Mapping[str, Any], known: Container[str]) -> set[str]:
    """Give the ids of both lists of a VOC; none of a list that `prepare_dataset` will refuse."""
    ids: set[str] = set()
    for key in ("train_list", "val_list"):
        with suppress(UserError):
            ids.update(read_list(Path(dataset["root"], dataset[key]), known))
    return ids


def is_made(config: Config) -> bool:
    """Tell whether a rule of the workflow makes the data set: the demo, or a download."""
    return config["dataset"]["kind"] == "demo" or is_downloaded(config)


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
    if not settings["pretrained"]:
        return []
    name = settings["backbone"]
    if name in config["weights"]:
        return _given([config["weights"][name]])
    return [f"{config['downloads']['folder']}/weights/{name}.safetensors"]


def state_of_weights(paths: Iterable[str]) -> str:
    """Digest the user's files among the weights that a network starts from.

    A download is known by its checksum, and what a rule makes by its time.
    """
    given = [Path(path) for path in paths if is_flagged(path, "ancient")]
    return state_of(given) if given else ""


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
    """Say of every file and folder that the configuration names that it is not there."""
    config = plan.config
    if not is_made(config):
        for path in [*_tables(plan), *_truth_tables(plan)]:
            yield from _absent(path, _key(plan, path))
        for path in _folders(plan):
            yield from _absent(path, _key(plan, path), folder=True)
    for name, further in config["folders"].items():
        yield from _absent(further["images"], f"folders.{name}.images", folder=True)
    for name, path in given_weights(config).items():
        yield from _absent(path, f"weights.{name}")


def given_weights(config: Config) -> dict[str, str]:
    """Give the user's own weights files that networks start from, by backbone."""
    given = config["weights"]
    return {name: given[name] for name in pretrained_backbones(config) if name in given}


def pretrained_backbones(config: Config) -> list[str]:
    """Give the backbones of all networks that start from pretrained weights, in order."""
    networks = [*config["classifiers"].values(), config.get("segmenter", {})]
    return unique(settings["backbone"] for settings in networks if settings.get("pretrained"))


def _absent(path: str, key: str, *, folder: bool = False) -> Iterator[str]:
    problem = folder_problem(Path(path)) if folder else file_problem(Path(path))
    if problem:
        yield f"{path}: {problem}, named by the configuration's {key}"


def _key(plan: Plan, path: str) -> str:
    """Give the key that names a file of the data set; what a root holds is named by the root."""
    dataset = dataset_section(plan)
    root = Path(dataset.get("root") or "")
    named = [key for key in PATHS if dataset.get(key) and str(root / dataset[key]) == path]
    return f"dataset.{named[0] if named else 'root'}"
