"""What the Snakefile asks for: paths, targets, settings of a rule, digests of code."""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.datasets.demo import CLASSES as DEMO_CLASSES

PACKAGE = Path(__file__).parent
#: Modules that change what a user sees of a run, never its result.
COSMETIC = frozenset({"pipeline.progress", "pipeline.stage", "pipeline.errors"})


class Plan:
    """The files that one configuration leads to.

    Parameters
    ----------
    config : mapping
        A resolved configuration (:func:`pipeline.config.resolve`).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.root = f"results/{config['experiment']}"
        self.shards = [str(number) for number in range(config["shards"])]

    @property
    def has_masks(self) -> bool:
        """Whether there is a ground truth to score against."""
        dataset = self.config["dataset"]
        return dataset["kind"] == "demo" or dataset["masks"] is not None

    @property
    def classifiers(self) -> list[str]:
        """Names of the classifiers that the wanted labels come from, in order."""
        return _unique(path.split("/")[0] for path in self.config["labels"])

    @property
    def maps(self) -> list[str]:
        """CLASSIFIER/MAPS of the wanted labels, in order."""
        return _unique("/".join(path.split("/")[:2]) for path in self.config["labels"])

    @property
    def labels(self) -> list[str]:
        """CLASSIFIER/MAPS/REFINEMENT of everything wanted, in order."""
        return _unique([*self.config["labels"], *self.config["segmenters"]])

    def map_shards(self, method: str) -> list[str]:
        """Give the map files of the train split."""
        return [f"{self.root}/maps/{method}/train/{shard}.safetensors" for shard in self.shards]

    @property
    def walked(self) -> list[str]:
        """CLASSIFIER/ATTRIBUTION of the maps that a random walk spreads, in order."""
        return _unique(path.split("+")[0] for path in self.maps if "+" in path)

    def affinity_shards(self, method: str) -> list[str]:
        """Give the folders of labels that affinities are learned from."""
        return [f"{self.root}/affinity/{method}/labels/{shard}" for shard in self.shards]

    def label_shards(self, method: str) -> list[str]:
        """Give the folders of pseudo-labels of the train split."""
        return [f"{self.root}/labels/{method}/train/{shard}" for shard in self.shards]

    def prediction_shards(self, method: str) -> list[str]:
        """Give the folders of a segmentation network's predictions of the val split."""
        return [f"{self.root}/predictions/{method}/val/{shard}" for shard in self.shards]

    def scores(self) -> list[str]:
        """Give every score file; none where there are no masks."""
        if not self.has_masks:
            return []
        maps = [f"{self.root}/scores/maps/{method}/train.json" for method in self.maps]
        return maps + [f"{stem}.json" for stem in self._scored_stems()]

    def box_scores(self) -> list[str]:
        """Give the localisation scores of all pseudo-labels; none without masks or boxes."""
        dataset = self.config["dataset"]
        annotated = dataset["kind"] == "voc" and dataset["labels"] is None
        if not (self.has_masks or annotated):
            return []
        return [f"{self.root}/scores/boxes/{method}/train.json" for method in self.labels]

    def class_models(self) -> list[str]:
        """Give the pictures of what the classifiers' classes look like, if they are wanted."""
        wanted = self.classifiers if "class_models" in self.config else []
        return [f"{self.root}/class_models/{name}.png" for name in wanted]

    def image_scores(self) -> list[str]:
        """Give the per-image tables beside the scores of label images."""
        return [f"{stem}.csv" for stem in self._scored_stems()] if self.has_masks else []

    def _scored_stems(self) -> list[str]:
        labels = [f"{self.root}/scores/labels/{method}/train" for method in self.labels]
        networks = self.config["segmenters"]
        return labels + [f"{self.root}/scores/predictions/{method}/val" for method in networks]

    def histories(self) -> list[str]:
        """Give the training histories of all networks."""
        networks = [f"classifiers/{name}" for name in self.classifiers]
        networks += [f"affinity/{method}" for method in self.walked]
        networks += [f"segmenters/{name}" for name in self.config["segmenters"]]
        return [f"{self.root}/{network}/history.csv" for network in networks]

    def times(self) -> list[str]:
        """Give the benchmark file of every job that the report counts."""
        stages = ["prepare_dataset"]
        stages += [f"train_classifier/{name}" for name in self.classifiers]
        if "class_models" in self.config:
            stages += [f"visualise_classes/{name}" for name in self.classifiers]
        for path in _unique(path.split("+")[0] for path in self.maps):
            stages += [f"make_maps/{path}/train/{shard}" for shard in self.shards]
        for path in self.walked:
            stages += [f"make_affinity_labels/{path}/{shard}" for shard in self.shards]
            stages += [f"train_affinity/{path}"]
        for path in self.maps:
            if "+" in path:
                stages += [f"propagate_maps/{path}/train/{shard}" for shard in self.shards]
        stages += [f"make_labels/{path}/train/{s}" for path in self.labels for s in self.shards]
        for path in self.config["segmenters"]:
            stages += [f"train_segmenter/{path}"]
            stages += [f"predict_masks/{path}/val/{shard}" for shard in self.shards]
        return [f"{self.root}/benchmarks/{stage}.tsv" for stage in stages]

    def dataset(self) -> dict[str, Any]:
        """Give the data set as `prepare_dataset` reads it; the demo is a folder in VOC layout."""
        given: dict[str, Any] = self.config["dataset"]
        if given["kind"] != "demo":
            return given
        return {
            "kind": "voc",
            "root": f"{self.root}/demo",
            "train_list": "ImageSets/Segmentation/train.txt",
            "val_list": "ImageSets/Segmentation/val.txt",
            "labels": "labels.csv",
            "masks": "SegmentationClass",
            "classes": list(DEMO_CLASSES),
        }

    def dataset_sources(self) -> list[str]:
        """Give the files and folders whose change makes the manifest stale."""
        dataset = self.config["dataset"]
        if dataset["kind"] == "demo":
            return [f"{self.root}/demo"]
        if dataset["kind"] == "folder":
            return [dataset[key] for key in ("images", "labels", "masks") if dataset[key]]
        root = Path(dataset["root"])
        labels = dataset["labels"] or "Annotations"
        return [str(root / name) for name in (dataset["train_list"], dataset["val_list"], labels)]

    def affinity_pretrained(self, classifier: str) -> list[str]:
        """Give the local weights file of an affinity network that has pretrained features."""
        wanted = self.config["affinity"]["features"] == "pretrained"
        backbone = self.config["classifiers"][classifier]["backbone"]
        return self.pretrained({"backbone": backbone, "pretrained": wanted})

    def pretrained(self, settings: Mapping[str, Any]) -> list[str]:
        """Give the local weights file that a network starts from, if it does from one."""
        file = self.config["weights"].get(settings["backbone"])
        return [file] if settings["pretrained"] and file else []

    def missing(self) -> Iterator[str]:
        """Say of every file or folder of the user's that is named and absent how to mend it."""
        dataset = self.config["dataset"]
        if dataset["kind"] != "demo":
            for path in self.dataset_sources():
                if not Path(path).exists():
                    yield f"{path}: no such file or folder, named by the configuration's dataset"
        networks = list(self.config["classifiers"].values())
        networks += [self.config["segmenter"]] if "segmenter" in self.config else []
        for path in _unique(file for settings in networks for file in self.pretrained(settings)):
            if not Path(path).is_file():
                yield f"{path}: no such file, named by the configuration's weights"

    def affinity_training(self) -> dict[str, Any]:
        """Give what decides an affinity network's training, without what made its labels."""
        settings = self.config["affinity"]
        return {key: value for key, value in settings.items() if key != "labels"}

    def background(self, refinement: str) -> dict[str, Any]:
        """Give what decides the background's score, without the words about it."""
        background = self.config["refinements"][refinement]["background"]
        return {"rule": background["rule"], "value": background["value"]}

    def map_settings(self, maps: str) -> dict[str, Any]:
        """Say what is printed with every score of maps."""
        attribution, _, walk = maps.partition("+")
        settings = dict(self.config["attributions"][attribution])
        shown = {"attribution": settings.pop("method"), "image labels given": True}
        shown["long side at most"] = settings.pop("max_size")
        walked = self.config["random_walks"][walk] if walk else None
        return shown | settings | {"random walk": walked, "crf": None}

    def label_settings(self, maps: str, refinement: str) -> dict[str, Any]:
        """Say what is printed with every score of pseudo-labels."""
        settings = dict(self.config["refinements"][refinement])
        if settings["graph_cut"] is not None:
            del settings["background"]
        return self.map_settings(maps) | settings

    def prediction_settings(self) -> dict[str, Any]:
        """Say what is printed with every score of predictions."""
        prediction = self.config["prediction"]
        return {
            "image labels given": False, "scales": prediction["scales"], "flip": prediction["flip"],
            "long side at most": prediction["max_size"], "crf": prediction["crf"],
        }  # fmt: skip


def code_digest(stage: str) -> str:
    """Digest the code that decides a stage's result.

    Snakemake sees a changed script, not a changed module that the script imports. The
    digest covers the stage and, through its imports, every module of the package behind
    it. It is taken of the syntax tree without docstrings, so that a comment reruns nothing.

    Parameters
    ----------
    stage : str
        Name of the rule and of its file in ``pipeline/stages``.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    modules = sorted(_reachable(f"pipeline.stages.{stage}", set()) - COSMETIC)
    return hashlib.sha256("".join(map(_syntax, modules)).encode()).hexdigest()[:16]


def _reachable(module: str, seen: set[str]) -> set[str]:
    if module not in seen:
        seen.add(module)
        for imported in _imports(module):
            _reachable(imported, seen)
    return seen


def _source(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _tree(module: str) -> ast.Module:
    source = _source(module)
    if source is None:
        raise ValueError(f"there is no module {module}")
    return ast.parse(source.read_text())


@cache
def _imports(module: str) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith("pipeline.") and _source(name))


@cache
def _syntax(module: str) -> str:
    tree = ast.parse(ast.unparse(_tree(module)))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)


def _unique(items: Any) -> list[str]:
    return list(dict.fromkeys(items))
