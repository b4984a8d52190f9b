"""Cost of applying a classifier: class scores, linear probes, units, class models, faithfulness."""

from pipeline.io.images import fitted_size, scaled_size
from pipeline.resources.inferences import Inference
from pipeline.resources.jobs import Settings
from pipeline.resources.network import BACK
from pipeline.resources.networks import memory_of
from pipeline.resources.sizes import STORED_BYTES, TRAINING_FACTOR, WEIGHT_BYTES

#: Pixels in a forward pass of faithfulness metrics.
FAITHFULNESS_PIXELS = 2**22
#: Bytes of each pooled feature of a linear probe, as the solvers copy it to 64 bits.
POOLED_BYTES = 24


class Classification(Inference):
    """Cost of class scores."""

    section = ("classification",)


class Features(Inference):
    """Cost of the stored features of a linear probe."""

    section = ("classifiers", "classifier")

    @property
    def settings(self) -> Settings:
        """The attribution whose views are used."""
        views: Settings = self.job.settings("attributions")[super().settings["views_of"]]
        return views

    def bytes(self) -> float:
        """Return the bytes of the features of all views."""
        operations = self.job.operations(self.network)
        cells = self.view_pixels / operations.stride**2
        return STORED_BYTES * operations.channels * cells * self.job.images


class Probe(Inference):
    """Cost of fitting a linear probe to the features of the train images."""

    section = ("classifiers", "classifier")

    @property
    def passes(self) -> float:
        """No pass if the features are stored."""
        return 0.0 if self.settings["views_of"] else 1.0

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width with a long side of the probe's size: small images grow."""
        side = self.settings["size"]
        return fitted_size(scaled_size(size, side / max(size)), side)

    @property
    def pixels_at_once(self) -> float:
        """Pixels of a square of the probe's size, and of its mirror image."""
        return float(2 * self.settings["size"] ** 2)

    @property
    def held(self) -> float:
        """Bytes of the features of all images and mirror images."""
        channels = self.job.operations(self.network).channels
        return 2 * self.job.images * channels * POOLED_BYTES

    def bytes(self) -> float:
        """Return the bytes of the weights."""
        return float(WEIGHT_BYTES * self.job.operations(self.network).parameters)


class LabelErrors(Probe):
    """Cost of finding label errors from a linear probe's features or a network's scores."""

    @property
    def is_probe(self) -> bool:
        """Whether labels are judged by a linear probe, which is fitted to features."""
        return bool(self.settings["kind"] == "linear-probe")

    @property
    def passes(self) -> float:
        """No pass if features or scores are stored."""
        return super().passes if self.is_probe else 0.0

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the network's input."""
        return super().seen(size) if self.is_probe else size

    @property
    def held(self) -> float:
        """Bytes of the features, besides those of a training fold."""
        return 2 * super().held if self.is_probe else 0.0

    def bytes(self) -> float:
        """Return no bytes: the table is small."""
        return 0.0


class Units(Inference):
    """Cost of the images of class-specific units."""

    section = ("units",)

    @property
    def images(self) -> float:
        """Number of train images, and of images that are shown."""
        shown = self.settings["per_class"] * self.settings["images"]
        return float(self.job.images + shown * self.job.dataset.classes)


class ClassModels(Inference):
    """Cost of class models: gradient ascent on one image for each class."""

    section = ("class_models",)

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of a class model, whatever the size of the images."""
        del size
        return self.settings["size"], self.settings["size"]

    @property
    def pixels_at_once(self) -> float:
        """Pixels of all class models."""
        return float(self.job.dataset.classes * self.settings["size"] ** 2)

    @property
    def kept(self) -> float:
        """Bytes that autograd keeps for each pixel."""
        return TRAINING_FACTOR * memory_of(self.network).training

    @property
    def passes(self) -> float:
        """Forward and backward passes of all steps."""
        return float(self.settings["steps"] * (1 + BACK))

    @property
    def images(self) -> float:
        """Number of classes."""
        return self.job.dataset.classes


class Faithfulness(Inference):
    """Cost of faithfulness metrics: forward passes of images that a map changes."""

    section = ("comparison",)

    @property
    def pixels_at_once(self) -> float:
        """Pixels of the images of a forward pass."""
        return max(super().pixels_at_once, FAITHFULNESS_PIXELS)

    @property
    def images(self) -> float:
        """Number of compared images."""
        limit = self.settings["faithfulness"]["images"]
        return min(self.job.images, limit) if limit else self.job.images

    @property
    def passes(self) -> float:
        """The image itself, and for each label an explanation and the steps of both curves."""
        steps = self.settings["faithfulness"]["steps"]
        changed = 1 + (2 * (steps + 1) if steps else 0)
        return 1 + changed * self.job.dataset.labels
