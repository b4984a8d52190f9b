"""The cost of every rule. A rule that is not listed only reads and writes small files."""

from collections.abc import Callable, Mapping

from pipeline.resources.classifications import (
    Classification,
    ClassModels,
    Faithfulness,
    Features,
    LabelErrors,
    Probe,
    Units,
)
from pipeline.resources.jobs import Cost, Job, RequestedCost, Work
from pipeline.resources.labels import ConfidentLabels, Predictions, PseudoLabels, RegionsCost
from pipeline.resources.maps import maps_cost, walk_cost
from pipeline.resources.trainings import BoundaryTraining, ClassifierTraining, SegmentationTraining

#: Approximate bytes of the published archives, and of the unpacked data.
DOWNLOADS = {"voc2012": 2.0e9, "sbd": 1.4e9}
DEVKIT_BYTES = 2.2e9

RequestedCosts = Mapping[str, Callable[[Job], RequestedCost]]


class Reading(Cost):
    """Cost of reading all label images of a split."""

    def work(self) -> Work:
        """Return the number of images."""
        return Work(refining={"image": self.job.images})


class Sweep(Cost):
    """Cost of scoring maps at many thresholds, which takes five times as long as one."""

    def work(self) -> Work:
        """Return five times the number of images."""
        return Work(refining={"image": 5 * self.job.images})


class Download(Cost):
    """Cost of an archive."""

    def work(self) -> Work:
        """Return the bytes of the archive."""
        return Work(bytes=DOWNLOADS[self.job.wildcards["archive"]])


class Devkit(Cost):
    """Cost of unpacking VOC 2012 and SBD."""

    def work(self) -> Work:
        """Return the bytes of the unpacked data."""
        return Work(bytes=DEVKIT_BYTES)


#: Rules that train a network, on all GPUs of the configuration.
TRAINING: RequestedCosts = {
    "train_affinity": BoundaryTraining,
    "train_classifier": ClassifierTraining,
    "train_segmentation": SegmentationTraining,
    "train_upper_bound": SegmentationTraining,
}
#: Rules that apply a network, on at most one GPU.
INFERENCE: RequestedCosts = {
    "classify": Classification,
    "evaluate_faithfulness": Faithfulness,
    "extract_features": Features,
    "find_label_errors": LabelErrors,
    "fit_probe": Probe,
    "make_maps": maps_cost,
    "predict_masks": Predictions,
    "predict_soft_masks": Predictions,
    "predict_soft_upper_bound": Predictions,
    "predict_upper_bound": Predictions,
    "propagate_maps": walk_cost,
    "visualize_classes": ClassModels,
    "visualize_units": Units,
}
#: Rules that refine label images on the CPU.
PER_IMAGE: RequestedCosts = {
    "make_affinity_labels": ConfidentLabels,
    "make_labels": PseudoLabels,
    "make_regions": RegionsCost,
    "make_soft_labels": PseudoLabels,
}
#: Rules that request resources by their cost. A profile sets those of all others.
REQUESTED: RequestedCosts = {**TRAINING, **INFERENCE, **PER_IMAGE}
COSTS: Mapping[str, Callable[[Job], Cost]] = {
    **REQUESTED,
    "assemble_devkit": Devkit,
    "compare_labels": Reading,
    "download_archive": Download,
    "evaluate_boxes": Reading,
    "evaluate_labels": Reading,
    "evaluate_predictions": Reading,
    "evaluate_upper_bound": Reading,
    "export_labels": Reading,
    "export_upper_bound": Reading,
    "sweep_thresholds": Sweep,
}


def work_of(rule: str, job: Job) -> Work:
    """Return the work of a job; none for rules that only read and write small files."""
    return COSTS.get(rule, Cost)(job).work()
