"""What the Snakefile asks for: paths, targets, settings of a rule, digests of code."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.datasets.cub import FILES as CUB_FILES
from pipeline.datasets.demo import CLASSES as DEMO_CLASSES


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
        return dataset["kind"] == "demo" or dataset.get("masks") is not None

    @property
    def has_boxes(self) -> bool:
        """Whether there are true boxes of the data set's own to score against."""
        dataset = self.config["dataset"]
        annotated = dataset["kind"] == "voc" and dataset["labels"] is None
        return annotated or dataset["kind"] == "cub" or dataset.get("boxes") is not None

    @property
    def classifiers(self) -> list[str]:
        """Names of the classifiers that the wanted maps come from, in order."""
        return _unique(path.split("/")[0] for path in [*self.maps, *self.compared])

    def classifiers_of(self, kind: str) -> str:
        """Give a regular expression of the names of all classifiers of a kind."""
        classifiers = self.config["classifiers"]
        names = [name for name, settings in classifiers.items() if settings["kind"] == kind]
        return "|".join(names) or "(?!)"  # which nothing matches

    @property
    def maps(self) -> list[str]:
        """CLASSIFIER/MAPS of the wanted labels, in order."""
        return _unique("/".join(path.split("/")[:2]) for path in self.labels)

    @property
    def compared(self) -> list[str]:
        """CLASSIFIER/MAPS that are compared, in order."""
        methods: list[str] = self.config.get("comparison", {}).get("methods", [])
        return methods

    @property
    def labels(self) -> list[str]:
        """CLASSIFIER/MAPS/REFINEMENT of everything wanted, in order."""
        return _unique([*self.config["labels"], *self.config["segmenters"]])

    def map_shards(self, method: str, split: str = "train") -> list[str]:
        """Give the map files of a split."""
        return [f"{self.root}/maps/{method}/{split}/{shard}.safetensors" for shard in self.shards]

    @property
    def walked(self) -> list[str]:
        """CLASSIFIER/ATTRIBUTION of the maps that a random walk spreads, in order."""
        wanted = [*self.maps, *self.compared]
        return _unique(path.split("+")[0] for path in wanted if "+" in path)

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
        if not (self.has_masks or self.has_boxes):
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
        networks = [f"classifiers/{name}" for name in self.classifiers if self._is_trained(name)]
        networks += [f"affinity/{method}" for method in self.walked]
        networks += [f"segmenters/{name}" for name in self.config["segmenters"]]
        return [f"{self.root}/{network}/history.csv" for network in networks]

    def times(self) -> list[str]:
        """Give the benchmark file of every job that the report counts."""
        stages = ["prepare_dataset"]
        for name in self.classifiers:
            rule = "train_classifier" if self._is_trained(name) else "fit_probe"
            stages += [f"{rule}/{name}"]
        if "class_models" in self.config:
            stages += [f"visualise_classes/{name}" for name in self.classifiers]
        if "units" in self.config:
            stages += [f"visualise_units/{name}" for name in self.classifiers]
        stages += self._map_jobs("make_maps")
        for path in self.walked:
            stages += [f"make_affinity_labels/{path}/{shard}" for shard in self.shards]
            stages += [f"train_affinity/{path}"]
        stages += self._map_jobs("propagate_maps")
        stages += [f"make_labels/{path}/train/{s}" for path in self.labels for s in self.shards]
        for path in self.config["segmenters"]:
            stages += [f"train_segmenter/{path}"]
            stages += [f"predict_masks/{path}/val/{shard}" for shard in self.shards]
        return [f"{self.root}/benchmarks/{stage}.tsv" for stage in stages]

    def _map_jobs(self, rule: str) -> list[str]:
        """Give RULE/CLASSIFIER/MAPS/SPLIT/SHARD of all jobs of a rule that makes maps."""
        wanted = [f"{method}/train" for method in self.maps]
        if self.compared:
            wanted += [f"{method}/{self.config['comparison']['split']}" for method in self.compared]
        if rule == "propagate_maps":
            wanted = [path for path in wanted if "+" in path]
        else:
            wanted = [_without_walk(path) for path in wanted]
        return [f"{rule}/{path}/{shard}" for path in _unique(wanted) for shard in self.shards]

    def comparison(self) -> list[str]:
        """Give the table of the compared maps, if there are any."""
        return [f"{self.root}/comparison.csv"] if self.compared else []

    def compared_scores(self, kind: str, suffix: str = "json") -> list[str]:
        """Give the scores of one kind of every compared method, in order.

        Parameters
        ----------
        kind : {"maps", "localization", "faithfulness"}
            Scores of maps need masks, those of localisation masks or boxes.
        suffix : {"json", "csv"}
            The scores, or the table of their pairs.
        """
        possible = {"maps": self.has_masks, "localization": self.has_masks or self.has_boxes}
        if not (self.compared and possible.get(kind, True)):
            return []
        split = self.config["comparison"]["split"]
        return [f"{self.root}/scores/{kind}/{method}/{split}.{suffix}" for method in self.compared]

    def compared_times(self) -> list[str]:
        """Give the benchmark files of all jobs that made the compared maps."""
        jobs = [*self._map_jobs("make_maps"), *self._map_jobs("propagate_maps")]
        split = self.config["comparison"]["split"] if self.compared else ""
        return [f"{self.root}/benchmarks/{job}.tsv" for job in jobs if job.split("/")[3] == split]

    def compared_maps(self) -> list[str]:
        """Give all map files of the compared methods."""
        split = self.config["comparison"]["split"] if self.compared else ""
        return [shard for method in self.compared for shard in self.map_shards(method, split)]

    def units(self) -> list[str]:
        """Give the pictures of the classifiers' units, if they are wanted."""
        wanted = self.classifiers if "units" in self.config else []
        return [f"{self.root}/units/{name}.png" for name in wanted]

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
            keys = ("images", "labels", "masks", "boxes")
            return [dataset[key] for key in keys if dataset[key]]
        root = Path(dataset["root"])
        if dataset["kind"] == "cub":
            return [str(root / name) for name in CUB_FILES]
        names = [dataset["train_list"], dataset["val_list"], dataset["labels"] or "Annotations"]
        names += [dataset["boxes"]] if dataset["boxes"] else []
        return [str(root / name) for name in names]

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

    def _is_trained(self, classifier: str) -> bool:
        kind: str = self.config["classifiers"][classifier]["kind"]
        return kind == "network"

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


def _without_walk(path: str) -> str:
    """Give the path of the maps that a random walk starts from, CLASSIFIER/ATTRIBUTION/SPLIT."""
    classifier, maps, split = path.split("/")
    return f"{classifier}/{maps.split('+')[0]}/{split}"


def _unique(items: Any) -> list[str]:
    return list(dict.fromkeys(items))
