"""Settings of a result: parts of the configuration for jobs, scores and data cards."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.upper_bound import GROUND_TRUTH

Config = Mapping[str, Any]

#: Precision of methods that use gradients of a score. 16 bits are too coarse: the saliency of a
#: random network is wrong by a fifth of its maximum.
GRADIENT_PRECISION = "32-true"


#: Settings of a linear probe that its features depend on.
PROBE_BACKBONE = (
    "backbone", "pretrained", "output_stride", "last_layer", "interpolation", "precision",
)  # fmt: skip


def backbone_of_probe(config: Config, classifier: str) -> dict[str, Any]:
    """Return the settings of a linear probe that its features depend on."""
    return {key: config["classifiers"][classifier][key] for key in PROBE_BACKBONE}


def views_of_probe(config: Config, classifier: str) -> dict[str, Any]:
    """Return the views that a linear probe's stored features are of; a network has none."""
    attribution = config["classifiers"][classifier].get("views_of")
    if attribution is None:
        return {}
    return {key: config["attributions"][attribution][key] for key in ("scales", "flip", "max_size")}


def segmentation_training(config: Config) -> dict[str, Any]:
    """Return the settings that decide a segmentation network's training."""
    return {key: value for key, value in config["segmentation"].items() if key != "trained_on"}


def affinity_training(config: Config) -> dict[str, Any]:
    """Return the settings of a boundary network's training, without those of its labels."""
    other = ("kind", "confident_labels")
    return {key: value for key, value in config["affinity"].items() if key not in other}


def feature_affinity(config: Config) -> dict[str, Any] | None:
    """Return the settings of affinities of frozen features; None if affinities are learned."""
    section = config.get("affinity", {})
    if section.get("kind") != "features":
        return None
    return {key: section[key] for key in ("features", "layers")}


def background(config: Config, refinement: str) -> dict[str, Any]:
    """Return the settings that decide the background score, without ``threshold_source``."""
    section = config["refinements"][refinement]["background"]
    return {"rule": section["rule"], "value": section["value"]}


def map_precision(config: Config, classifier: str, attribution: str) -> str:
    """Return the precision of the network that makes maps."""
    settings = config["attributions"][attribution]
    if settings["method"] == "saliency" or settings.get("layer"):
        return GRADIENT_PRECISION
    segments = settings["method"] == "segmentation"
    network = config["segmentation"] if segments else config["classifiers"][classifier]
    precision: str = network["precision"]
    return precision


def map_settings(config: Config, maps: str) -> dict[str, Any]:
    """Return the settings that are printed with scores of maps."""
    attribution, _, walk = maps.partition("+")
    settings = dict(config["attributions"][attribution])
    shown = {"attribution": settings.pop("method"), "image_labels_given": True}
    shown["max_size"] = settings.pop("max_size")
    if "trained_on" in settings:
        shown["trained_on"] = settings.pop("trained_on")
    if config["dataset"].get("score_list"):
        shown["score_list"] = config["dataset"]["score_list"]
    walked = config["random_walks"][walk] if walk else None
    if walk and (affinity := feature_affinity(config)):
        settings["affinity"] = {"kind": "features"} | affinity
    return shown | settings | {"random_walk": walked, "crf": None}


def label_settings(config: Config, maps: str, refinement: str) -> dict[str, Any]:
    """Return the settings that are printed with scores of pseudo-labels."""
    settings = dict(config["refinements"][refinement])
    if settings["graph_cut"] is not None:
        del settings["background"]
    if "regions" in settings:
        source = settings["regions"]["source"]
        settings["regions"] = settings["regions"] | {source: config["regions"][source]}
    return map_settings(config, maps) | settings


def prediction_settings(config: Config) -> dict[str, Any]:
    """Return the settings that are printed with scores of predictions."""
    return {"image_labels_given": False, **config["prediction"]}


def upper_bound_settings(config: Config) -> dict[str, Any]:
    """Return the settings that are printed with the scores and exports of the upper bound."""
    return {"trained_on": "ground-truth masks of train"} | prediction_settings(config)


def export_settings(config: Config, kind: str, method: str) -> dict[str, Any]:
    """Return the settings that are printed on an export's data card."""
    if method == GROUND_TRUTH:
        return upper_bound_settings(config)
    if kind == "predictions":
        return prediction_settings(config)
    _, maps, refinement = method.split("/")
    return label_settings(config, maps, refinement)


def export_options(config: Config) -> dict[str, Any]:
    """Return the settings that decide how an export's files are written."""
    return {
        key: config["export"][key]
        for key in ("images", "polygons", "tolerance", "ignore_mask_below")
    }


def method(config: Config, seed: int) -> dict[str, Any]:
    """Return the configuration of one run, without keys that do not affect results."""
    return {
        **{key: value for key, value in config.items() if key not in ("gpus", "downloads")},
        "seed": seed,
    }
