"""Input and params functions of the rules: what a job reads, from its wildcards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.upper_bound import GROUND_TRUTH
from pipeline.planning import corrected, inputs, jobs, settings
from pipeline.planning.plan import Plan, labels_path, maps_path
from pipeline.report.records import known_records

#: Files of a job, from its wildcards.
InputFunction = Callable[[Any], list[str]]


class RuleInputs:
    """Inputs and parameters of the jobs of a plan.

    Snakemake calls each method with the wildcards of a job to determine its input files or a
    parameter. Files are those of the job's run, which the wildcard ``seed`` selects if the
    configuration has several seeds.

    Parameters
    ----------
    plan : Plan
        The plan of all runs.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.config = plan.config

    # Manifests -----------------------------------------------------------------------------

    def manifest(self, wildcards: Any) -> str:
        """Return the manifest of a split."""
        return self.plan.at(wildcards).manifest(wildcards.split)

    def labeled_manifest(self, wildcards: Any) -> str:
        """Return the manifest of a split with the labels that maps are made for."""
        return self.plan.at(wildcards).manifest(wildcards.split, wildcards.classifier)

    def folder_manifest(self, wildcards: Any) -> str:
        """Return the manifest that is used for the results of a folder."""
        run = self.plan.at(wildcards)
        return run.folder_manifest(wildcards.folder, wildcards.kind, wildcards.classifier)

    # Weights -------------------------------------------------------------------------------

    def classifier_weights(self, wildcards: Any) -> list[str]:
        """Return the weights that the training of a classifier starts from."""
        return inputs.classifier_weights(self.plan.at(wildcards), wildcards.classifier)

    def probe_weights(self, wildcards: Any) -> list[str]:
        """Return the pretrained weights of a linear probe's backbone."""
        return inputs.pretrained(self.config, self.config["classifiers"][wildcards.classifier])

    def judging_weights(self, wildcards: Any) -> list[str]:
        """Return the pretrained weights of a linear probe that judges labels; none of a network."""
        is_probe = self.plan.kind_of(wildcards.classifier) == "linear-probe"
        return self.probe_weights(wildcards) if is_probe else []

    def affinity_weights(self, wildcards: Any) -> list[str]:
        """Return the pretrained weights that a boundary network starts from."""
        return inputs.affinity_pretrained(self.config, wildcards.classifier)

    def walk_weights(self, wildcards: Any) -> str:
        """Return the network whose outputs a random walk's affinities are computed from."""
        method = f"{wildcards.classifier}/{wildcards.attribution}"
        return self.plan.at(wildcards).walk_weights(method)

    def walk_pretrained(self, wildcards: Any) -> list[str]:
        """Return the pretrained weights that affinities are computed with; empty if learned."""
        return [] if self.plan.learns_affinities else self.affinity_weights(wildcards)

    def segmentation_weights(self, _wildcards: Any) -> list[str]:
        """Return the pretrained weights that a segmentation network starts from."""
        return inputs.pretrained(self.config, self.config["segmentation"])

    def map_weights(self, wildcards: Any) -> str:
        """Return the trained network that makes maps."""
        return self.plan.at(wildcards).map_weights(wildcards.classifier, wildcards.attribution)

    # Class scores, maps and labels ---------------------------------------------------------

    def class_scores(self, wildcards: Any) -> list[str]:
        """Return the tables of a classifier's scores on a split."""
        return self.plan.at(wildcards).class_scores(wildcards.classifier, wildcards.split)

    def judging_scores(self, wildcards: Any) -> list[str]:
        """Return the tables of a network's scores on train; none of a linear probe."""
        is_network = self.plan.kind_of(wildcards.classifier) == "network"
        run = self.plan.at(wildcards)
        return run.class_scores(wildcards.classifier, "train") if is_network else []

    def held_out_scores(self, wildcards: Any) -> list[str]:
        """Return the tables of a classifier's scores on val."""
        return self.plan.at(wildcards).class_scores(wildcards.classifier, "val")

    def folder_class_scores(self, wildcards: Any) -> list[str]:
        """Return the tables of a classifier's scores on a folder."""
        return self.plan.at(wildcards).class_scores(wildcards.classifier, wildcards.folder)

    def probe_features(self, wildcards: Any) -> list[str]:
        """Return the features that a linear probe is fitted to; empty without `views_of`."""
        return self.plan.at(wildcards).probe_features(wildcards.classifier)

    def map_features(self, wildcards: Any) -> list[str]:
        """Return the features that a shard of maps is computed from; empty without them."""
        return self.plan.at(wildcards).map_features(wildcards)

    def previous_maps(self, wildcards: Any) -> list[str]:
        """Return the maps of the previous self-training round that a shard is averaged with."""
        return self.plan.at(wildcards).previous_maps(wildcards)

    def maps(self, wildcards: Any) -> list[str]:
        """Return the maps of one method on a split."""
        return self.plan.at(wildcards).map_shards(maps_path(wildcards), wildcards.split)

    def maps_before_walk(self, wildcards: Any) -> list[str]:
        """Return the maps of one method on a split, without its random walk."""
        attribution = maps_path(wildcards).split("+", maxsplit=1)[0]
        return self.plan.at(wildcards).map_shards(attribution, wildcards.split)

    def affinity_labels(self, wildcards: Any) -> list[str]:
        """Return the labels that a boundary network is trained on."""
        method = f"{wildcards.classifier}/{wildcards.attribution}"
        return self.plan.at(wildcards).affinity_shards(method)

    def threshold(self, wildcards: Any) -> list[str]:
        """Return the file of the background threshold, if a label-free rule chooses it."""
        return self.plan.at(wildcards).threshold(labels_path(wildcards))

    def learned_corrections(self, wildcards: Any) -> list[str]:
        """Return the table of corrected masks if a network that learned them makes the maps."""
        return corrected.learned_for(self.plan, maps_path(wildcards))

    def regions(self, wildcards: Any) -> list[str]:
        """Return the regions of a shard; empty if the refinement uses none."""
        run = self.plan.at(wildcards)
        shards = run.region_shards(labels_path(wildcards), wildcards.split)
        return [shards[int(wildcards.shard)]] if shards else []

    def training_labels(self, wildcards: Any) -> list[str]:
        """Return the pseudo-labels that a segmentation network is trained on."""
        return self.plan.at(wildcards).label_shards(labels_path(wildcards))

    def labels(self, wildcards: Any) -> list[str]:
        """Return the pseudo-labels of one method on a split."""
        return self.plan.at(wildcards).label_shards(labels_path(wildcards), wildcards.split)

    def label_figures(self, wildcards: Any) -> list[str]:
        """Return the tables that are written with the pseudo-labels of one method on a split."""
        return [f"{folder}.csv" for folder in self.labels(wildcards)]

    def labels_of_all_methods(self, wildcards: Any) -> list[str]:
        """Return the pseudo-labels of every method on a split."""
        run = self.plan.at(wildcards)
        methods = self.plan.labels
        return [path for method in methods for path in run.label_shards(method, wildcards.split)]

    def predictions(self, wildcards: Any) -> list[str]:
        """Return the predictions of one segmentation network on a split."""
        return self.plan.at(wildcards).prediction_shards(labels_path(wildcards), wildcards.split)

    def upper_bound_predictions(self, wildcards: Any) -> list[str]:
        """Return the predictions of the upper bound on a split."""
        return self.plan.at(wildcards).prediction_shards(GROUND_TRUTH, wildcards.split)

    def label_agreement(self, wildcards: Any) -> list[str]:
        """Return the table of the agreement between methods on a split, if there are several."""
        return self.plan.at(wildcards).label_agreement(wildcards.split)

    def label_image_scores(self, wildcards: Any) -> list[str]:
        """Return the per-image scores of the pseudo-labels on a split, if there are masks."""
        run = self.plan.at(wildcards)
        return run.label_image_scores(labels_path(wildcards), wildcards.split)

    # Results -------------------------------------------------------------------------------

    def folder_labels(self, wildcards: Any) -> list[str]:
        """Return the pseudo-labels or predictions of a folder."""
        run = self.plan.at(wildcards)
        return run.kind_shards(wildcards.kind, labels_path(wildcards), wildcards.folder)

    def exported_labels(self, wildcards: Any) -> list[str]:
        """Return the label images of an export; empty for an export of probabilities."""
        return self._exported(wildcards)["labels"]

    def exported_probabilities(self, wildcards: Any) -> list[str]:
        """Return the probabilities of an export; empty for an export of label images."""
        return self._exported(wildcards)["soft"]

    def exported_scores(self, wildcards: Any) -> list[str]:
        """Return the scores on the data card of an export."""
        return self.plan.at(wildcards).export_scores(wildcards.kind, labels_path(wildcards))

    def exported_upper_bound(self, wildcards: Any) -> list[str]:
        """Return the label images of an export of the upper bound."""
        return self._exported_upper_bound(wildcards)["labels"]

    def exported_upper_bound_probabilities(self, wildcards: Any) -> list[str]:
        """Return the probabilities of an export of the upper bound."""
        return self._exported_upper_bound(wildcards)["soft"]

    def exported_upper_bound_scores(self, wildcards: Any) -> list[str]:
        """Return the scores on the data card of an export of the upper bound."""
        return self.plan.at(wildcards).export_scores("predictions", GROUND_TRUTH)

    def _exported_upper_bound(self, wildcards: Any) -> dict[str, list[str]]:
        run = self.plan.at(wildcards)
        return run.export_shards(wildcards.format, "predictions", GROUND_TRUTH)

    def _exported(self, wildcards: Any) -> dict[str, list[str]]:
        run = self.plan.at(wildcards)
        return run.export_shards(wildcards.format, wildcards.kind, labels_path(wildcards))

    # Settings ------------------------------------------------------------------------------

    def seed(self, wildcards: Any) -> int:
        """Return the seed of the run."""
        return self.plan.at(wildcards).seed

    def backbone_of_probe(self, wildcards: Any) -> dict[str, Any]:
        """Return the settings of a linear probe that its features depend on."""
        return settings.backbone_of_probe(self.config, wildcards.classifier)

    def views_of_probe(self, wildcards: Any) -> dict[str, Any]:
        """Return the views that the features of a linear probe are computed on."""
        return settings.views_of_probe(self.config, wildcards.classifier)

    def scales_of_probe(self, wildcards: Any) -> list[float]:
        """Return the scales of the features that a linear probe is fitted to."""
        scales: list[float] = self.views_of_probe(wildcards).get("scales", [])
        return scales

    def affinity_training(self, _wildcards: Any) -> dict[str, Any]:
        """Return the settings of the training of a boundary network."""
        return settings.affinity_training(self.config)

    def feature_affinity(self, _wildcards: Any) -> dict[str, Any] | None:
        """Return the settings of affinities of frozen features; None if they are learned."""
        return settings.feature_affinity(self.config)

    def segmentation_training(self, _wildcards: Any) -> dict[str, Any]:
        """Return the settings of a segmentation network's training."""
        return settings.segmentation_training(self.config)

    def map_precision(self, wildcards: Any) -> str:
        """Return the precision of the network that makes maps."""
        return settings.map_precision(self.config, wildcards.classifier, wildcards.attribution)

    def background(self, wildcards: Any) -> dict[str, Any]:
        """Return the settings of the background's score."""
        return settings.background(self.config, wildcards.refinement)

    def map_settings(self, wildcards: Any) -> dict[str, Any]:
        """Return the settings that are printed with the scores of maps."""
        return settings.map_settings(self.config, wildcards.maps)

    def label_settings(self, wildcards: Any) -> dict[str, Any]:
        """Return the settings that are printed with the scores of pseudo-labels."""
        return settings.label_settings(self.config, wildcards.maps, wildcards.refinement)

    def correction_settings(self, wildcards: Any) -> dict[str, Any]:
        """Return the settings that are printed with the scores against corrected masks."""
        return {"scored_against": "corrected masks"} | self.label_settings(wildcards)

    def export_splits(self, wildcards: Any) -> list[str]:
        """Return the splits of an export."""
        return self.plan.export_splits(wildcards.kind)

    def export_settings(self, wildcards: Any) -> dict[str, Any]:
        """Return the settings on the data card of an export."""
        return settings.export_settings(self.config, wildcards.kind, labels_path(wildcards))

    def export_options(self, _wildcards: Any) -> dict[str, Any]:
        """Return the settings of the files of an export."""
        return settings.export_options(self.config)

    def method(self, wildcards: Any) -> dict[str, Any]:
        """Return the part of the configuration that decides the results of the run."""
        return settings.method(self.config, self.seed(wildcards))

    def scored_results(self, wildcards: Any) -> list[dict[str, Any]]:
        """Return the scores of the run, with the jobs behind each."""
        return jobs.scored_results(self.plan.at(wildcards))

    # Digests of user files, which rerun a rule although no input file is newer ----------------

    def images_digest(self, _wildcards: Any) -> str:
        """Digest the images and tables of the user's data set."""
        return inputs.images_digest(self.plan)

    def ground_truth_digest(self, _wildcards: Any) -> str:
        """Digest the masks and boxes of the user's data set."""
        return inputs.ground_truth_digest(self.plan)

    def folder_digest(self, wildcards: Any) -> str:
        """Digest the images of a folder."""
        return inputs.folder_digest(Path(self.config["folders"][wildcards.folder]["images"]))

    def region_files_digest(self, wildcards: Any) -> str:
        """Digest the user's masks, for regions of kind ``folder``."""
        return inputs.region_files_digest(self.config["regions"][wildcards.regions])

    def records_digest(self, _wildcards: Any) -> list[str]:
        """Digest the records of other experiments."""
        return known_records(Path("results"), exclude=self.config["experiment"])


def weights_digest(weights: InputFunction) -> Callable[[Any], str]:
    """Return the params function that digests the user's files among a rule's weights.

    Parameters
    ----------
    weights : callable
        The input function of the weights.
    """
    return lambda wildcards: inputs.weights_digest(weights(wildcards))
