"""Properties of a job that its resources depend on: settings, network and images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.datasets.manifest import read_manifest
from pipeline.errors import UserError
from pipeline.io.images import at_least, fitted_size

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """Memory of a backbone at output stride 16 in 32 bits.

    Attributes
    ----------
    training : int
        Bytes per input pixel that autograd keeps for a classifier.
    inference : int
        Bytes per input pixel of the layer with the largest input and output together.
    parameters : int
        Millions of parameters.
    """

    training: int
    inference: int
    parameters: int


COSTS = {
    "convnext_tiny": Cost(2512, 192, 28),
    "efficientnet_b0": Cost(2245, 192, 4),
    "inception_v3": Cost(1672, 128, 22),
    "mobilenetv2_100": Cost(1852, 192, 3),
    "resnest101e": Cost(4037, 256, 47),
    "resnest269e": Cost(9273, 256, 109),
    "resnet18": Cost(497, 128, 12),
    "resnet50": Cost(1943, 128, 24),
    "resnet101": Cost(2762, 128, 43),
    "seresnet50": Cost(2458, 128, 27),
    "test_resnet": Cost(244, 64, 1),
    "vgg16": Cost(1452, 512, 15),
}
#: Any other backbone: more than most backbones of its size need.
UNKNOWN = Cost(4500, 512, 100)
#: The decoders of DeepLabV3+: bytes per pixel (measured 320 to 480, 610 to 680), millions.
DECODERS = {"separable": Cost(480, 168, 4), "full": Cost(680, 140, 17)}


@dataclass(frozen=True)
class DatasetSize:
    """Numbers from a manifest; the defaults are used until the manifest is made.

    Attributes
    ----------
    count : int
        Number of images.
    size : (int, int)
        Height and width of the largest image.
    labels : int
        Largest number of labels of one image.
    classes : int
        Number of classes without the background.
    """

    count: int = 12_000
    size: tuple[int, int] = (500, 500)
    labels: int = 6
    classes: int = 20


@dataclass(frozen=True)
class Job:
    """One job, with all that its resources depend on."""

    config: Config
    rule: str
    wildcards: Any
    dataset: DatasetSize
    threads: int

    @property
    def settings(self) -> Mapping[str, Any]:
        """The section of the configuration with the settings of the job."""
        config, wildcards = self.config, self.wildcards
        sections: dict[str, Callable[[], Mapping[str, Any]]] = {
            "train_classifier": lambda: config["classifiers"][wildcards.classifier],
            "train_affinity": lambda: config["affinity"],
            "train_segmentation": lambda: config["segmentation"],
            "classify": lambda: config["classification"],
            "fit_probe": lambda: config["classifiers"][wildcards.classifier],
            "evaluate_faithfulness": lambda: config["comparison"],
            "make_maps": lambda: config["attributions"][wildcards.attribution],
            "predict_masks": lambda: config["prediction"],
            "predict_soft_masks": lambda: config["prediction"],
            "propagate_maps": lambda: config["random_walks"][wildcards.walk],
            "visualize_classes": lambda: config["class_models"],
            "visualize_units": lambda: config["units"],
        }
        return sections[self.rule]()

    @property
    def cost(self) -> Cost:
        """Memory of the job's network."""
        segments = self.rule in {"train_segmentation", "predict_masks", "predict_soft_masks"}
        segments |= self.rule == "make_maps" and self.settings["method"] == "segmentation"
        name = None if segments else self.wildcards.classifier
        network = self.config["segmentation"] if segments else self.config["classifiers"][name]
        # A name may include the tag of its weights: resnet50.tv_in1k.
        base = COSTS.get(network["backbone"].split(".")[0], UNKNOWN)
        more = DECODERS[network["decoder"]] if segments else Cost(0, 0, 0)
        # Measured in training: 2.1 times for mobilenetv2_100, 2.0 times for resnet50.
        dense = 2.2 if network["output_stride"] == 8 else 1.0
        kept = self._kept_share(network["backbone"], network.get("frozen", []))
        return Cost(
            round(kept * dense * base.training) + more.training,
            max(round(dense * base.inference), more.inference),
            base.parameters + more.parameters,
        )

    @staticmethod
    def _kept_share(backbone: str, frozen: Sequence[str]) -> float:
        if not frozen:
            return 1.0
        # Importing torch takes seconds in every job, so it is imported only where needed.
        from pipeline.resources.operations import kept_share

        return kept_share(backbone, tuple(frozen))

    @property
    def view_pixels(self) -> float:
        """Number of pixels of an image at the largest scale, with its mirror image."""
        height, width = self._seen
        return height * width * max(self._scales) ** 2 * self._flips

    @property
    def image_pixels(self) -> float:
        """Number of pixels of all views of an image."""
        height, width = self._seen
        return height * width * sum(scale**2 for scale in self._scales) * self._flips

    @property
    def _seen(self) -> tuple[int, int]:
        """Height and width of the network's input at scale 1."""
        size = fitted_size(self.dataset.size, self.settings.get("max_size"))
        if self.rule == "propagate_maps":
            return at_least(size, self.config["affinity"]["augmentation"]["crop"])
        return size

    @property
    def _scales(self) -> Sequence[float]:
        scales: Sequence[float] = self.settings.get("scales", [1.0])
        return scales

    @property
    def _flips(self) -> int:
        return 2 if self.settings.get("flip") else 1


def dataset_size(input: Any) -> DatasetSize:
    """Return numbers from a job's inputs ``manifest`` and ``classes``, or defaults without them."""
    manifest, classes = (getattr(input, name, None) for name in ("manifest", "classes"))
    if not (manifest and classes and Path(manifest).is_file() and Path(classes).is_file()):
        return DatasetSize()
    try:
        return _read_size(Path(manifest), Path(classes), Path(manifest).stat().st_mtime_ns)
    except UserError:
        return DatasetSize()  # damaged: the job that needs the file reports it


@cache
def _read_size(manifest: Path, classes: Path, _written: int) -> DatasetSize:
    data = read_manifest(manifest, classes)
    largest = max(data.records, key=lambda record: record.width * record.height, default=None)
    return DatasetSize(
        count=len(data.records),
        size=(largest.height, largest.width) if largest else (1, 1),
        labels=max((len(record.labels) for record in data.records), default=0),
        classes=len(data.classes),
    )
