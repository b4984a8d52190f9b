"""What the needs of a job depend on: its settings, its network and its images."""

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
    """What a backbone takes at output stride 16 in 32 bits.

    Attributes
    ----------
    training : int
        Bytes a pixel of the input that autograd keeps, of a classifier.
    inference : int
        Bytes a pixel of the largest input and output of one layer together.
    parameters : int
        Millions.
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
#: Any other backbone: more than most of its size take.
UNKNOWN = Cost(4500, 512, 100)
#: The decoders of DeepLabV3+ above the encoder: bytes a pixel (320 to 480, 610 to 680), millions.
DECODERS = {"separable": Cost(480, 168, 4), "full": Cost(680, 140, 17)}


@dataclass(frozen=True)
class Pictures:
    """What a manifest says of a data set; the values here stand for one that is not made yet.

    Attributes
    ----------
    count : int
        Images.
    size : (int, int)
        Height and width of the largest.
    labels : int
        Most labels of one image.
    classes : int
        Without the background.
    """

    count: int = 12_000
    size: tuple[int, int] = (500, 500)
    labels: int = 6
    classes: int = 20


@dataclass(frozen=True)
class Job:
    """One job, as far as its needs go."""

    config: Config
    rule: str
    wildcards: Any
    pictures: Pictures
    threads: int

    @property
    def settings(self) -> Mapping[str, Any]:
        """The section of the configuration that the job follows."""
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
        """What the job's network takes."""
        segments = self.rule in {"train_segmentation", "predict_masks", "predict_soft_masks"}
        segments |= self.rule == "make_maps" and self.settings["method"] == "segmentation"
        name = None if segments else self.wildcards.classifier
        network = self.config["segmentation"] if segments else self.config["classifiers"][name]
        # A name may have the tag of its weights: resnet50.tv_in1k.
        base = COSTS.get(network["backbone"].split(".")[0], UNKNOWN)
        more = DECODERS[network["decoder"]] if segments else Cost(0, 0, 0)
        # 2.1 and 2.0 times as much were seen of mobilenetv2_100 and resnet50 in training.
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
        # PyTorch takes seconds to import, in every job: it is where it is needed alone.
        from pipeline.resources.operations import kept_share

        return kept_share(backbone, tuple(frozen))

    @property
    def view_pixels(self) -> float:
        """Pixels of the largest scale that an image is looked at, with its mirror image."""
        height, width = self._seen
        return height * width * max(self._scales) ** 2 * self._flips

    @property
    def image_pixels(self) -> float:
        """Pixels of all views of an image."""
        height, width = self._seen
        return height * width * sum(scale**2 for scale in self._scales) * self._flips

    @property
    def _seen(self) -> tuple[int, int]:
        """Height and width at scale 1 of what the network is shown."""
        size = fitted_size(self.pictures.size, self.settings.get("max_size"))
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


def pictures_of(input: Any) -> Pictures:
    """Read what a job's inputs ``manifest`` and ``classes`` say, as far as they are there."""
    manifest, classes = (getattr(input, name, None) for name in ("manifest", "classes"))
    if not (manifest and classes and Path(manifest).is_file() and Path(classes).is_file()):
        return Pictures()
    try:
        return _pictures(Path(manifest), Path(classes), Path(manifest).stat().st_mtime_ns)
    except UserError:
        return Pictures()  # damaged: the job that needs it says so


@cache
def _pictures(manifest: Path, classes: Path, _written: int) -> Pictures:
    data = read_manifest(manifest, classes)
    largest = max(data.records, key=lambda record: record.width * record.height, default=None)
    return Pictures(
        count=len(data.records),
        size=(largest.height, largest.width) if largest else (1, 1),
        labels=max((len(record.labels) for record in data.records), default=0),
        classes=len(data.classes),
    )
