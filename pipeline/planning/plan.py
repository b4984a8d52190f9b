"""The plan of a configuration: targets and paths of all files that the workflow makes."""

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.config.stored_features import has_stored_features
from pipeline.config.upper_bound import GROUND_TRUTH, wants_upper_bound


def import_from_checkout() -> None:
    """Make scripts import the package next to the Snakefile, even if another one is installed.

    An environment imports the checkout that it was installed from. In a second checkout, scripts
    would otherwise run the first checkout's code with the second one's Snakefile and digests.
    """
    own = str(Path(__file__).parents[2])
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in others if path and path != own]
    os.environ["PYTHONPATH"] = os.pathsep.join([own, *kept])


class Plan:
    """Paths and targets of one configuration.

    A configuration with several seeds has a run for each seed. All runs share the data set; all
    other files are in a folder for each seed. If ``seed`` is not given, the paths of such a
    configuration contain the wildcard ``{seed}``.

    Parameters
    ----------
    config : mapping
        A resolved configuration (:func:`pipeline.config.resolve.resolve`).
    seed : int, optional
        Seed of the run.

    Attributes
    ----------
    home : str
        Folder of the experiment.
    root : str
        Folder of the run; equal to ``home`` if the configuration has no list of seeds.
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
        """Return the plan of the run that a job's wildcards belong to."""
        seed = getattr(wildcards, "seed", None)
        return self if seed is None else Plan(self.config, int(seed))

    @property
    def runs(self) -> list["Plan"]:
        """One plan for each seed."""
        return [Plan(self.config, seed) for seed in self.config["seeds"]] or [self]

    def targets(self) -> list[str]:
        """Return all targets of the workflow."""
        made = [f"{run.root}/report.html" for run in self.runs]
        made += [path for run in self.runs for path in [*run.exports(), *run.folder_results()]]
        return [f"{self.home}/dataset/check.html", *made, "results/scoreboard.html"]

    # Names and settings -------------------------------------------------------------------

    @property
    def has_masks(self) -> bool:
        """Whether there are ground-truth masks."""
        dataset = self.config["dataset"]
        return dataset["kind"] == "demo" or dataset.get("masks") is not None

    def has_masks_of(self, split: str) -> bool:
        """Return whether a split is scored against masks."""
        return self.has_masks and split in self.config["dataset"].get(
            "scored_splits", ["train", "val"]
        )

    @property
    def has_boxes(self) -> bool:
        """Whether the data set has ground-truth boxes."""
        dataset = self.config["dataset"]
        annotated = dataset["kind"] == "voc" and dataset["image_labels"] is None
        return annotated or dataset["kind"] == "cub" or dataset.get("boxes") is not None

    @property
    def folders(self) -> dict[str, Any]:
        """Folders of unlabeled images by name; each is a split of its own."""
        folders: dict[str, Any] = self.config["folders"]
        return folders

    @property
    def splits(self) -> str:
        """A regular expression of the names of all splits."""
        return "|".join(["train", "val", *self.folders])

    @cached_property
    def labels(self) -> list[str]:
        """CLASSIFIER/MAPS/REFINEMENT of all pseudo-labels to make, in order."""
        exported = self.config.get("export", {}).get("pseudo_labels", [])
        wanted = [*self.config["pseudo_labels"], *self.segmentation_labels, *exported]
        steps = [step for path in wanted for step in [*self.rounds(path), path]]
        return unique([*steps, *(path for maps in self.compared for path in self.rounds(maps))])

    @property
    def segmentation_labels(self) -> list[str]:
        """Pseudo-labels that the requested segmentation networks are trained on, in order."""
        return [name for name in self.predicted if name != GROUND_TRUTH]

    @property
    def predicted(self) -> list[str]:
        """Names of the segmentation networks that are applied to val, in order.

        A network is named by the pseudo-labels that it is trained on, the upper bound by
        :data:`pipeline.config.upper_bound.GROUND_TRUTH`.
        """
        names: list[str] = self.config.get("segmentation", {}).get("trained_on", [])
        return names

    @property
    def has_upper_bound(self) -> bool:
        """Whether a network is trained on the masks of train."""
        return wants_upper_bound(self.config)

    @property
    def networks(self) -> list[str]:
        """CLASSIFIER/MAPS/REFINEMENT of the labels of all segmentation networks, in order."""
        wanted = [*self.labels, *self.compared]
        before = [path for maps in wanted for path in self.rounds(maps)]
        return unique([*before, *self.segmentation_labels])

    @property
    def maps(self) -> list[str]:
        """CLASSIFIER/MAPS of all pseudo-labels, in order."""
        return unique("/".join(path.split("/")[:2]) for path in self.labels)

    @property
    def compared(self) -> list[str]:
        """CLASSIFIER/MAPS of all compared maps, in order."""
        methods: list[str] = self.config.get("comparison", {}).get("methods", [])
        return methods

    @property
    def classifiers(self) -> list[str]:
        """Names of the classifiers of all maps, in order."""
        return unique(path.split("/")[0] for path in [*self.maps, *self.compared])

    @property
    def walked(self) -> list[str]:
        """CLASSIFIER/ATTRIBUTION of the maps that a random walk refines, in order."""
        wanted = [*self.maps, *self.compared]
        return unique(path.split("+")[0] for path in wanted if "+" in path)

    @property
    def learns_affinities(self) -> bool:
        """Whether random walks use boundary networks, not affinities of frozen features."""
        return bool(self.config.get("affinity", {}).get("kind") == "learned")

    def classifiers_of(self, kind: str) -> str:
        """Return a regular expression of the names of all classifiers of a kind."""
        names = [name for name in self.config["classifiers"] if self.kind_of(name) == kind]
        return _any_of(names)

    def probes_with_views(self) -> str:
        """Return a regular expression of the names of all linear probes with ``views_of``."""
        sections = self.config["classifiers"].items()
        return _any_of([name for name, part in sections if part.get("views_of")])

    def names_of(self, section: str) -> str:
        """Return a regular expression of the names that a section defines."""
        return _any_of(self.config.get(section, {}))

    def names_of_maps(self) -> str:
        """Return a regular expression of ATTRIBUTION and ATTRIBUTION+WALK."""
        attributions, walks = self.names_of("attributions"), self.names_of("random_walks")
        return rf"(?:{attributions})(?:\+(?:{walks}))?"

    def kind_of(self, classifier: str) -> str:
        """Return ``network`` or ``linear-probe``."""
        kind: str = self.config["classifiers"][classifier]["kind"]
        return kind

    def trained_on(self, maps: str) -> str | None:
        """Return the pseudo-labels whose segmentation network makes maps; None for a classifier.

        Parameters
        ----------
        maps : str
            CLASSIFIER/MAPS, or a longer path that begins with it.
        """
        attribution = maps.split("/")[1].partition("+")[0]
        labels: str | None = self.config["attributions"][attribution].get("trained_on")
        return labels

    def rounds(self, maps: str) -> list[str]:
        """Return the pseudo-labels of all previous self-training rounds of maps, oldest first."""
        labels = self.trained_on(maps)
        return [*self.rounds(labels), labels] if labels else []

    # Files that a job reads ---------------------------------------------------------------

    def manifest(self, split: str, classifier: str | None = None) -> str:
        """Return the manifest of a split; for a folder, with labels predicted by a classifier."""
        if split not in self.folders:
            return f"{self.home}/dataset/manifest.csv"
        if classifier is None:
            return f"{self.home}/folders/{split}/manifest.csv"
        return f"{self.root}/folders/{split}/labeled/{classifier}.csv"

    def class_scores(self, classifier: str, split: str) -> list[str]:
        """Return the tables of a classifier's class scores."""
        stem = f"{self.root}/class_scores/{classifier}/{split}"
        return [f"{stem}/{shard}.csv" for shard in self.shards]

    def probe_features(self, classifier: str) -> list[str]:
        """Return the folders of features that a linear probe is fitted to, if it has any."""
        if not self.config["classifiers"][classifier].get("views_of"):
            return []
        return [f"{self.root}/features/{classifier}/{shard}" for shard in self.shards]

    def map_features(self, wildcards: Any) -> list[str]:
        """Return the folder of features that a shard of maps is computed from, if there is one."""
        maps = (wildcards.classifier, wildcards.attribution, wildcards.split)
        if not has_stored_features(self.config, *maps):
            return []
        return [self.probe_features(wildcards.classifier)[int(wildcards.shard)]]

    def map_weights(self, classifier: str, attribution: str) -> str:
        """Return the weights of the network that makes maps: classifier or segmentation network."""
        labels = self.trained_on(f"{classifier}/{attribution}")
        network = f"segmentation/{labels}" if labels else f"classifiers/{classifier}"
        return f"{self.root}/{network}/model.safetensors"

    def previous_maps(self, wildcards: Any) -> list[str]:
        """Return the shard of the previous round's maps, if the mean with them is configured."""
        maps = f"{wildcards.classifier}/{wildcards.attribution}"
        labels = self.trained_on(maps)
        if (
            labels is None
            or not self.config["attributions"][wildcards.attribution]["previous_weight"]
        ):
            return []
        previous = self.map_shards(labels.rpartition("/")[0], wildcards.split)
        return [previous[int(wildcards.shard)]]

    def map_shards(self, method: str, split: str = "train") -> list[str]:
        """Return the map files of a split."""
        return [f"{self.root}/maps/{method}/{split}/{shard}.safetensors" for shard in self.shards]

    def walk_weights(self, method: str) -> str:
        """Return the weights that a random walk's affinities are computed with.

        Parameters
        ----------
        method : str
            CLASSIFIER/ATTRIBUTION of the maps that walk.
        """
        network = f"affinity/{method}"
        if not self.learns_affinities:
            network = f"classifiers/{method.partition('/')[0]}"
        return f"{self.root}/{network}/model.safetensors"

    def affinity_shards(self, method: str) -> list[str]:
        """Return the folders of confident labels that affinities are learned from."""
        return [f"{self.root}/affinity/{method}/labels/{shard}" for shard in self.shards]

    def label_shards(self, method: str, split: str = "train") -> list[str]:
        """Return the folders of pseudo-labels."""
        return [f"{self.root}/pseudo_labels/{method}/{split}/{shard}" for shard in self.shards]

    def prediction_shards(self, method: str, split: str = "val") -> list[str]:
        """Return the folders of a segmentation network's predictions."""
        return [f"{self.root}/predictions/{method}/{split}/{shard}" for shard in self.shards]

    def kind_shards(self, kind: str, method: str, split: str) -> list[str]:
        """Return the folders of label images of one kind, ``pseudo_labels`` or ``predictions``."""
        shards = self.label_shards if kind == "pseudo_labels" else self.prediction_shards
        return shards(method, split)

    def threshold(self, method: str) -> list[str]:
        """Return the file of a label-free threshold, if the refinement of a method uses one."""
        maps, _, refinement = method.rpartition("/")
        value = self.config["refinements"][refinement]["background"]["value"]
        return [f"{self.root}/thresholds/{maps}/train.json"] if isinstance(value, str) else []

    def region_source(self, method: str) -> str | None:
        """Return the name of the regions that the refinement of a method votes in, if any."""
        section = self.config["refinements"][method.rpartition("/")[2]].get("regions")
        source: str | None = section["source"] if section else None
        return source

    def region_folder(self, method: str) -> str | None:
        """Return the user's folder of masks that the refinement of a method votes in, if any."""
        source = self.region_source(method)
        folder: str | None = self.config["regions"][source].get("folder") if source else None
        return folder

    def region_shards(self, method: str, split: str) -> list[str]:
        """Return the files of the regions of a split; empty if a method uses none."""
        source = self.region_source(method)
        stem = f"{self.root}/regions/{source}/{split}"
        return [f"{stem}/{shard}.safetensors" for shard in self.shards] if source else []

    # Files that a run makes ---------------------------------------------------------------

    def scores(self) -> list[str]:
        """Return all score files; empty without masks."""
        methods = self.maps if self.has_masks_of("train") else []
        maps = [f"{self.root}/scores/maps/{method}/train.json" for method in methods]
        return maps + [f"{stem}.json" for stem in self._scored_stems()]

    def image_scores(self) -> list[str]:
        """Return the per-image score tables of label images."""
        return [f"{stem}.csv" for stem in self._scored_stems()]

    def label_image_scores(self, method: str, split: str) -> list[str]:
        """Return the per-image score table of pseudo-labels; empty without masks."""
        path = f"{self.root}/scores/pseudo_labels/{method}/{split}.csv"
        return [path] if self.has_masks_of(split) else []

    def _scored_stems(self) -> list[str]:
        methods = self.labels if self.has_masks_of("train") else []
        labels = [f"{self.root}/scores/pseudo_labels/{method}/train" for method in methods]
        networks = self.predicted if self.has_masks_of("val") else []
        return labels + [f"{self.root}/scores/predictions/{name}/val" for name in networks]

    def box_scores(self) -> list[str]:
        """Return the localization scores of all pseudo-labels; empty without masks and boxes."""
        if not (self.has_masks_of("train") or self.has_boxes):
            return []
        return [f"{self.root}/scores/boxes/{method}/train.json" for method in self.labels]

    def correction_scores(self) -> list[str]:
        """Return the scores of all pseudo-labels against the corrected masks, if there are any."""
        if self.config["dataset"].get("corrected") is None:
            return []
        return [f"{self.root}/scores/corrections/{method}/train.json" for method in self.labels]

    def quality(self, suffix: str) -> list[str]:
        """Return the tables (csv) or summaries (json) of label quality without ground truth."""
        return [f"{self.root}/quality/{method}/train.{suffix}" for method in self.labels]

    def label_agreement(self, split: str) -> list[str]:
        """Return the table of the agreement between methods, if there are several."""
        return [f"{self.root}/quality/agreement/{split}.csv"] if len(self.labels) > 1 else []

    def histories(self) -> list[str]:
        """Return the training histories of all networks."""
        trained = [name for name in self.classifiers if self.kind_of(name) == "network"]
        networks = [f"classifiers/{name}" for name in trained]
        if self.learns_affinities:
            networks += [f"affinity/{method}" for method in self.walked]
        networks += [f"segmentation/{name}" for name in self.networks]
        networks += [f"segmentation/{GROUND_TRUTH}"] if self.has_upper_bound else []
        return [f"{self.root}/{network}/history.csv" for network in networks]

    def class_models(self) -> list[str]:
        """Return the class-model images of all classifiers, if configured."""
        wanted = self.classifiers if "class_models" in self.config else []
        return [f"{self.root}/class_models/{name}.png" for name in wanted]

    def units(self) -> list[str]:
        """Return the images of class-specific units of all classifiers, if configured."""
        wanted = self.classifiers if "units" in self.config else []
        return [f"{self.root}/units/{name}.png" for name in wanted]

    def label_errors(self) -> list[str]:
        """Return the table of possible errors of image-level labels, if configured."""
        section = self.config.get("label_errors")
        return [f"{self.root}/label_errors/{section['classifier']}.csv"] if section else []

    def comparison(self) -> list[str]:
        """Return the table of the compared maps, if any."""
        return [f"{self.root}/comparison.csv"] if self.compared else []

    def compared_scores(self, kind: str, suffix: str = "json") -> list[str]:
        """Return the score files of one kind for all compared methods, in order.

        Parameters
        ----------
        kind : {"maps", "localization", "faithfulness"}
            Kind of scores. ``maps`` needs masks, ``localization`` masks or boxes.
        suffix : {"json", "csv"}
            Scores, or the table of pairs of image and class.
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
        """Return all map files of the compared methods."""
        split = self.config["comparison"]["split"] if self.compared else ""
        return [shard for method in self.compared for shard in self.map_shards(method, split)]

    def exports(self) -> list[str]:
        """Return the folders of all exports, FORMAT/KIND/METHOD."""
        wanted = self.config.get("export")
        if wanted is None:
            return []
        kinds = ("pseudo_labels", "predictions")
        methods = [f"{kind}/{path}" for kind in kinds for path in wanted[kind]]
        return [
            f"{self.root}/export/{form}/{path}" for form in wanted["formats"] for path in methods
        ]

    def export_splits(self, kind: str) -> list[str]:
        """Return the splits that an export of a kind contains."""
        usual = {"pseudo_labels": ["train"], "predictions": ["val"]}
        splits: list[str] = self.config["export"]["splits"] or usual[kind]
        return splits

    def export_shards(self, form: str, kind: str, method: str) -> dict[str, list[str]]:
        """Return the input folders of an export: label images, or class probabilities."""
        splits = self.export_splits(kind)
        labels = [path for split in splits for path in self.kind_shards(kind, method, split)]
        soft = [f"{self.root}/soft_{path.removeprefix(f'{self.root}/')}" for path in labels]
        return {"labels": [], "soft": soft} if form == "soft" else {"labels": labels, "soft": []}

    def folder_manifest(self, name: str, kind: str, classifier: str) -> str:
        """Return the manifest used for label images of one kind in a folder of unlabeled images."""
        return self.manifest(name, classifier if kind == "pseudo_labels" else None)

    def export_scores(self, kind: str, method: str) -> list[str]:
        """Return the score files that an export's data card lists."""
        splits = [split for split in self.export_splits(kind) if self.has_masks_of(split)]
        return [f"{self.root}/scores/{kind}/{method}/{split}.json" for split in splits]

    def folder_results(self) -> list[str]:
        """Return the results of all folders of unlabeled images."""
        return [
            f"{self.root}/folders/{name}/{kind}/{method}"
            for name, folder in self.folders.items()
            for kind in ("predictions", "pseudo_labels")
            for method in folder[kind]
        ]


def maps_path(wildcards: Any) -> str:
    """Return CLASSIFIER/MAPS of a job."""
    return f"{wildcards.classifier}/{wildcards.maps}"


def labels_path(wildcards: Any) -> str:
    """Return CLASSIFIER/MAPS/REFINEMENT of a job."""
    return f"{maps_path(wildcards)}/{wildcards.refinement}"


def _any_of(names: Iterable[str]) -> str:
    return "|".join(names) or "(?!)"  # matches nothing


def unique(items: Iterable[str]) -> list[str]:
    """Return the items in order, without duplicates."""
    return list(dict.fromkeys(items))
