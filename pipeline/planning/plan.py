"""What the Snakefile asks for: the files that a configuration leads to."""

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any


def use_own_package() -> None:
    """Let scripts import the package beside the Snakefile, wherever another one is installed.

    An environment knows the checkout that it was made in. From a second checkout, its scripts
    would run the first one's code under the second one's Snakefile and digests.
    """
    own = str(Path(__file__).parents[2])
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in others if path and path != own]
    os.environ["PYTHONPATH"] = os.pathsep.join([own, *kept])


class Plan:
    """The files that one configuration leads to.

    A configuration with several seeds has a run for each of them. All share the data set;
    everything else is below a folder of the seed. Without a seed, the plan of such a
    configuration gives paths with the wildcard ``{seed}``.

    Parameters
    ----------
    config : mapping
        A resolved configuration (:func:`pipeline.config.resolve.resolve`).
    seed : int, optional
        The run.

    Attributes
    ----------
    home : str
        Folder of the experiment.
    root : str
        Folder of the run: that of the experiment, where it has one seed.
    seed : int
        Seed of the run's trainings.
    """

    def __init__(self, config: Mapping[str, Any], seed: int | None = None) -> None:
        self.config = config
        self.home = f"results/{config['experiment']}"
        self.root = self.home
        if config["seeds"]:
            self.root += f"/seed-{'{seed}' if seed is None else seed}"
        self.seed: int = config["seed"] if seed is None else seed
        self.shards = [str(number) for number in range(config["shards"])]

    def at(self, wildcards: Any) -> "Plan":
        """Give the plan of the run that a job's wildcards are of."""
        seed = getattr(wildcards, "seed", None)
        return self if seed is None else Plan(self.config, int(seed))

    @property
    def runs(self) -> list["Plan"]:
        """One plan a seed."""
        return [Plan(self.config, seed) for seed in self.config["seeds"]] or [self]

    def targets(self) -> list[str]:
        """Give what a whole run of the workflow makes."""
        made = [f"{run.root}/report.html" for run in self.runs]
        made += [path for run in self.runs for path in [*run.exports(), *run.folder_results()]]
        return [f"{self.home}/dataset/check.html", *made, "results/scoreboard.html"]

    # What there is ------------------------------------------------------------------------

    @property
    def has_masks(self) -> bool:
        """Whether there is a ground truth to score against."""
        dataset = self.config["dataset"]
        return dataset["kind"] == "demo" or dataset.get("masks") is not None

    def has_masks_of(self, split: str) -> bool:
        """Whether a split is scored against masks."""
        return self.has_masks and split in self.config["dataset"].get(
            "scored_splits", ["train", "val"]
        )

    @property
    def has_boxes(self) -> bool:
        """Whether there are true boxes of the data set's own to score against."""
        dataset = self.config["dataset"]
        annotated = dataset["kind"] == "voc" and dataset["image_labels"] is None
        return annotated or dataset["kind"] == "cub" or dataset.get("boxes") is not None

    @property
    def folders(self) -> dict[str, Any]:
        """Folders of further pictures by name; each is a split of its own."""
        folders: dict[str, Any] = self.config["folders"]
        return folders

    @property
    def splits(self) -> str:
        """A regular expression of the names of all splits."""
        return "|".join(["train", "val", *self.folders])

    @cached_property
    def labels(self) -> list[str]:
        """CLASSIFIER/MAPS/REFINEMENT of everything wanted, in order."""
        exported = self.config.get("export", {}).get("pseudo_labels", [])
        wanted = [*self.config["pseudo_labels"], *self.segmentation_labels, *exported]
        steps = [step for path in wanted for step in [*self.rounds(path), path]]
        return unique([*steps, *(path for maps in self.compared for path in self.rounds(maps))])

    @property
    def segmentation_labels(self) -> list[str]:
        """Pseudo-labels that the requested segmentation networks are trained on, in order."""
        labels: list[str] = self.config.get("segmentation", {}).get("trained_on", [])
        return labels

    @property
    def networks(self) -> list[str]:
        """CLASSIFIER/MAPS/REFINEMENT of the labels that segmentation networks learn, in order."""
        wanted = [*self.labels, *self.compared]
        before = [path for maps in wanted for path in self.rounds(maps)]
        return unique([*before, *self.segmentation_labels])

    @property
    def maps(self) -> list[str]:
        """CLASSIFIER/MAPS of the wanted labels, in order."""
        return unique("/".join(path.split("/")[:2]) for path in self.labels)

    @property
    def compared(self) -> list[str]:
        """CLASSIFIER/MAPS that are compared, in order."""
        methods: list[str] = self.config.get("comparison", {}).get("methods", [])
        return methods

    @property
    def classifiers(self) -> list[str]:
        """Names of the classifiers that the wanted maps come from, in order."""
        return unique(path.split("/")[0] for path in [*self.maps, *self.compared])

    @property
    def walked(self) -> list[str]:
        """CLASSIFIER/ATTRIBUTION of the maps that a random walk spreads, in order."""
        wanted = [*self.maps, *self.compared]
        return unique(path.split("+")[0] for path in wanted if "+" in path)

    def classifiers_of(self, kind: str) -> str:
        """Give a regular expression of the names of all classifiers of a kind."""
        names = [name for name in self.config["classifiers"] if self.kind_of(name) == kind]
        return _any_of(names)

    def names_of(self, section: str) -> str:
        """Give a regular expression of the names that a section defines."""
        return _any_of(self.config[section])

    def names_of_maps(self) -> str:
        """Give a regular expression of ATTRIBUTION and ATTRIBUTION+WALK."""
        attributions, walks = self.names_of("attributions"), self.names_of("random_walks")
        return rf"(?:{attributions})(?:\+(?:{walks}))?"

    def kind_of(self, classifier: str) -> str:
        """Tell whether a classifier is a network or a linear probe."""
        kind: str = self.config["classifiers"][classifier]["kind"]
        return kind

    def trained_on(self, maps: str) -> str | None:
        """Give the labels whose segmentation network makes maps; None where a classifier does.

        Parameters
        ----------
        maps : str
            CLASSIFIER/MAPS, or a longer path that starts so.
        """
        attribution = maps.split("/")[1].partition("+")[0]
        labels: str | None = self.config["attributions"][attribution].get("trained_on")
        return labels

    def rounds(self, maps: str) -> list[str]:
        """Give the labels of all earlier rounds that maps come from, the first round first."""
        labels = self.trained_on(maps)
        return [*self.rounds(labels), labels] if labels else []

    # Files that a job reads ---------------------------------------------------------------

    def manifest(self, split: str, classifier: str | None = None) -> str:
        """Give the manifest of a split; a folder's has the labels that a classifier predicts."""
        if split not in self.folders:
            return f"{self.home}/dataset/manifest.csv"
        if classifier is None:
            return f"{self.home}/folders/{split}/manifest.csv"
        return f"{self.root}/folders/{split}/labeled/{classifier}.csv"

    def class_scores(self, classifier: str, split: str) -> list[str]:
        """Give the tables of a classifier's scores."""
        stem = f"{self.root}/class_scores/{classifier}/{split}"
        return [f"{stem}/{shard}.csv" for shard in self.shards]

    def map_weights(self, classifier: str, attribution: str) -> str:
        """Give the network that makes maps: the classifier, or a segmentation network."""
        labels = self.trained_on(f"{classifier}/{attribution}")
        network = f"segmentation/{labels}" if labels else f"classifiers/{classifier}"
        return f"{self.root}/{network}/model.safetensors"

    def previous_maps(self, wildcards: Any) -> list[str]:
        """Give the shard of the round before that maps are a mean with, where they are."""
        maps = f"{wildcards.classifier}/{wildcards.attribution}"
        labels = self.trained_on(maps)
        if (
            labels is None
            or not self.config["attributions"][wildcards.attribution]["previous_weight"]
        ):
            return []
        before = self.map_shards(labels.rpartition("/")[0], wildcards.split)
        return [before[int(wildcards.shard)]]

    def map_shards(self, method: str, split: str = "train") -> list[str]:
        """Give the map files of a split."""
        return [f"{self.root}/maps/{method}/{split}/{shard}.safetensors" for shard in self.shards]

    def affinity_shards(self, method: str) -> list[str]:
        """Give the folders of labels that affinities are learned from."""
        return [f"{self.root}/affinity/{method}/labels/{shard}" for shard in self.shards]

    def label_shards(self, method: str, split: str = "train") -> list[str]:
        """Give the folders of pseudo-labels."""
        return [f"{self.root}/pseudo_labels/{method}/{split}/{shard}" for shard in self.shards]

    def prediction_shards(self, method: str, split: str = "val") -> list[str]:
        """Give the folders of a segmentation network's predictions."""
        return [f"{self.root}/predictions/{method}/{split}/{shard}" for shard in self.shards]

    def kind_shards(self, kind: str, method: str, split: str) -> list[str]:
        """Return the folders of label images of one kind, ``pseudo_labels`` or ``predictions``."""
        shards = self.label_shards if kind == "pseudo_labels" else self.prediction_shards
        return shards(method, split)

    def threshold(self, method: str) -> list[str]:
        """Give the file of the threshold that a rule chooses from the train maps of a method."""
        maps, _, refinement = method.rpartition("/")
        value = self.config["refinements"][refinement]["background"]["value"]
        return [f"{self.root}/thresholds/{maps}/train.json"] if isinstance(value, str) else []

    # Files that a run makes ---------------------------------------------------------------

    def scores(self) -> list[str]:
        """Give every score file; none where there are no masks."""
        methods = self.maps if self.has_masks_of("train") else []
        maps = [f"{self.root}/scores/maps/{method}/train.json" for method in methods]
        return maps + [f"{stem}.json" for stem in self._scored_stems()]

    def image_scores(self) -> list[str]:
        """Give the per-image tables beside the scores of label images."""
        return [f"{stem}.csv" for stem in self._scored_stems()]

    def label_image_scores(self, method: str, split: str) -> list[str]:
        """Give the per-image table of pseudo-labels; none where there are no masks."""
        path = f"{self.root}/scores/pseudo_labels/{method}/{split}.csv"
        return [path] if self.has_masks_of(split) else []

    def _scored_stems(self) -> list[str]:
        methods = self.labels if self.has_masks_of("train") else []
        labels = [f"{self.root}/scores/pseudo_labels/{method}/train" for method in methods]
        networks = self.segmentation_labels if self.has_masks_of("val") else []
        return labels + [f"{self.root}/scores/predictions/{method}/val" for method in networks]

    def box_scores(self) -> list[str]:
        """Give the localization scores of all pseudo-labels; none without masks or boxes."""
        if not (self.has_masks_of("train") or self.has_boxes):
            return []
        return [f"{self.root}/scores/boxes/{method}/train.json" for method in self.labels]

    def quality(self, suffix: str) -> list[str]:
        """Give the tables (csv) or summaries (json) of what labels are like without masks."""
        return [f"{self.root}/quality/{method}/train.{suffix}" for method in self.labels]

    def label_agreement(self, split: str) -> list[str]:
        """Give the table of how much the methods agree, where there are several."""
        return [f"{self.root}/quality/agreement/{split}.csv"] if len(self.labels) > 1 else []

    def histories(self) -> list[str]:
        """Give the training histories of all networks."""
        trained = [name for name in self.classifiers if self.kind_of(name) == "network"]
        networks = [f"classifiers/{name}" for name in trained]
        networks += [f"affinity/{method}" for method in self.walked]
        networks += [f"segmentation/{name}" for name in self.networks]
        return [f"{self.root}/{network}/history.csv" for network in networks]

    def class_models(self) -> list[str]:
        """Give the pictures of what the classifiers' classes look like, if they are wanted."""
        wanted = self.classifiers if "class_models" in self.config else []
        return [f"{self.root}/class_models/{name}.png" for name in wanted]

    def units(self) -> list[str]:
        """Give the pictures of the classifiers' units, if they are wanted."""
        wanted = self.classifiers if "units" in self.config else []
        return [f"{self.root}/units/{name}.png" for name in wanted]

    def comparison(self) -> list[str]:
        """Give the table of the compared maps, if there are any."""
        return [f"{self.root}/comparison.csv"] if self.compared else []

    def compared_scores(self, kind: str, suffix: str = "json") -> list[str]:
        """Give the scores of one kind of every compared method, in order.

        Parameters
        ----------
        kind : {"maps", "localization", "faithfulness"}
            Scores of maps need masks, those of localization masks or boxes.
        suffix : {"json", "csv"}
            The scores, or the table of their pairs.
        """
        if not self.compared:
            return []
        split = self.config["comparison"]["split"]
        masked = self.has_masks_of(split)
        possible = {"maps": masked, "localization": masked or self.has_boxes}
        if not possible.get(kind, True):
            return []
        return [f"{self.root}/scores/{kind}/{method}/{split}.{suffix}" for method in self.compared]

    def compared_maps(self) -> list[str]:
        """Give all map files of the compared methods."""
        split = self.config["comparison"]["split"] if self.compared else ""
        return [shard for method in self.compared for shard in self.map_shards(method, split)]

    def exports(self) -> list[str]:
        """Give the folders of all exports, FORMAT/KIND/CLASSIFIER/MAPS/REFINEMENT."""
        wanted = self.config.get("export")
        if wanted is None:
            return []
        kinds = ("pseudo_labels", "predictions")
        methods = [f"{kind}/{path}" for kind in kinds for path in wanted[kind]]
        return [
            f"{self.root}/export/{form}/{path}" for form in wanted["formats"] for path in methods
        ]

    def export_splits(self, kind: str) -> list[str]:
        """Give the splits that an export of a kind holds."""
        usual = {"pseudo_labels": ["train"], "predictions": ["val"]}
        splits: list[str] = self.config["export"]["splits"] or usual[kind]
        return splits

    def export_shards(self, form: str, kind: str, method: str) -> dict[str, list[str]]:
        """Give the folders that an export is made of: label images, and probabilities."""
        splits = self.export_splits(kind)
        labels = [path for split in splits for path in self.kind_shards(kind, method, split)]
        soft = [f"{self.root}/soft_{path.removeprefix(f'{self.root}/')}" for path in labels]
        return {"labels": [], "soft": soft} if form == "soft" else {"labels": labels, "soft": []}

    def folder_manifest(self, name: str, kind: str, classifier: str) -> str:
        """Give the manifest that a folder's label images of one kind are made with."""
        return self.manifest(name, classifier if kind == "pseudo_labels" else None)

    def export_scores(self, kind: str, method: str) -> list[str]:
        """Give the scores that an export's data card tells."""
        splits = [split for split in self.export_splits(kind) if self.has_masks_of(split)]
        return [f"{self.root}/scores/{kind}/{method}/{split}.json" for split in splits]

    def folder_results(self) -> list[str]:
        """Give the results of all folders of further pictures."""
        return [
            f"{self.root}/folders/{name}/{kind}/{method}"
            for name, folder in self.folders.items()
            for kind in ("predictions", "pseudo_labels")
            for method in folder[kind]
        ]


def maps_path(wildcards: Any) -> str:
    """Give CLASSIFIER/MAPS of a job."""
    return f"{wildcards.classifier}/{wildcards.maps}"


def labels_path(wildcards: Any) -> str:
    """Give CLASSIFIER/MAPS/REFINEMENT of a job."""
    return f"{maps_path(wildcards)}/{wildcards.refinement}"


def _any_of(names: Iterable[str]) -> str:
    return "|".join(names) or "(?!)"  # which nothing matches


def unique(items: Iterable[str]) -> list[str]:
    """Give the items in order, each once."""
    return list(dict.fromkeys(items))
