"""Cost of class maps by attribution method, and of the random walk."""

from math import ceil, pi, sqrt

from pipeline.config.stored_features import has_stored_features
from pipeline.io.images import at_least
from pipeline.resources.inferences import Inference
from pipeline.resources.jobs import Job
from pipeline.resources.network import BACK, Network
from pipeline.resources.networks import memory_of
from pipeline.resources.sizes import CELL, STORED_BYTES, TRAINING_FACTOR, map_bytes, pixels

#: Pixels in a backward pass of saliency.
SALIENCY_PIXELS = 2**20
#: Bytes of boundaries and paths for each pair of cells.
WALK_PAIR = 8
#: Bytes of the cosine of a pair of cells.
COSINE = 4
#: Radius and steps of the random walk that the rate in ``rates.yaml`` was measured with, and the
#: number of products with the transition matrix that its polynomial needs.
WALK_RADIUS, WALK_STEPS, WALK_PRODUCTS = 5, 256, 80


class ActivationMaps(Inference):
    """Cost of class activation maps."""

    section = ("attributions", "attribution")

    @property
    def held(self) -> float:
        """Bytes of full-resolution maps: float16 until the shard is written, then twice.

        In addition, there are float32 sums for each scale of an image.
        """
        if not self.settings.get("full_resolution"):
            return 0.0
        height, width = self.job.dataset.largest
        planes = 4 * ceil(self.job.images) + 8 * len(self._scales)
        return float(planes * self.job.dataset.most_labels * height * width)

    def refining(self) -> dict[str, float]:
        """Return the number of images."""
        return {"image": self.job.images}

    def bytes(self) -> float:
        """Return the bytes of cells, and of pixels at full resolution."""
        planes = 1 + CELL * self.settings.get("full_resolution", False)
        return float(planes * map_bytes(self.job.dataset) * self.job.images)


class StoredMaps(ActivationMaps):
    """Cost of class activation maps from stored features of a linear probe."""

    @property
    def held(self) -> float:
        """Bytes of the features of all views of the largest image, stored and in 32 bits."""
        operations = self.job.operations(self.network)
        height, width = self.seen(self.job.dataset.largest)
        cells = height * width * self.view_area / operations.stride**2
        return super().held + (STORED_BYTES + 4) * operations.channels * cells

    @property
    def passes(self) -> float:
        """No pass of the network."""
        return 0.0


class GradientMaps(ActivationMaps):
    """Cost of Grad-CAM: a backward pass for each label."""

    @property
    def kept(self) -> float:
        """Bytes for each pixel; autograd keeps them if an inner layer is explained."""
        if not self.settings.get("layer"):
            return super().kept
        return TRAINING_FACTOR * memory_of(self.network).training

    @property
    def passes(self) -> float:
        """A forward pass, and a backward pass for each label."""
        return 1 + BACK * self.job.dataset.labels


class SaliencyMaps(GradientMaps):
    """Cost of saliency: backward passes of each crop and of its noisy copies."""

    @property
    def kept(self) -> float:
        """Bytes that autograd keeps for each pixel."""
        return TRAINING_FACTOR * memory_of(self.network).training

    @property
    def pixels_at_once(self) -> float:
        """Pixels of a backward pass: crops of a view, as many as fit."""
        view = super().pixels_at_once
        return float(max(view, min(SALIENCY_PIXELS, view * self.settings["crops"])))

    @property
    def passes(self) -> float:
        """Passes of all crops and noisy copies."""
        noisy = self.settings.get("smooth_grad") or {"samples": 1}
        return float(super().passes * self.settings["crops"] * noisy["samples"])


class SegmentationMaps(ActivationMaps):
    """Cost of the maps of a self-training round, which a segmentation network makes."""

    @property
    def network(self) -> Network:
        """The segmentation network."""
        return Network.of(self.job.settings("segmentation"))

    @property
    def held(self) -> float:
        """Bytes of float32 logits, of their softmax, and of a copy that is resized back."""
        return 4 * (self.job.dataset.classes + 1) * 3 * self.pixels_at_once


#: Costs of ``make_maps`` by attribution method.
METHODS: dict[str, type[ActivationMaps]] = {
    "cam": ActivationMaps,
    "grad-cam": GradientMaps,
    "grad-cam-pp": GradientMaps,
    "saliency": SaliencyMaps,
    "segmentation": SegmentationMaps,
}


def maps_cost(job: Job) -> ActivationMaps:
    """Return the cost of class maps by the attribution method of a job."""
    maps = (job.wildcards[name] for name in ("classifier", "attribution", "split"))
    if has_stored_features(job.config, *maps):
        return StoredMaps(job)
    return METHODS[job.settings("attributions", "attribution")["method"]](job)


class RandomWalk(Inference):
    """Cost of a random walk, and of the boundary map that it needs."""

    section = ("random_walks", "walk")

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of an image that is padded to the crops of the training."""
        crop = self.job.settings("affinity")["augmentation"]["crop"]
        return at_least(super().seen(size), crop)

    @property
    def held(self) -> float:
        """Bytes of the pairs of each cell with half a disc of others."""
        height, width = self.job.dataset.largest
        pairs: float = pi / 2 * self.settings["radius"] ** 2
        return WALK_PAIR * pairs * height * width / CELL

    def refining(self) -> dict[str, float]:
        """Return the number of images, and cells x classes of the walk."""
        cells = pixels(self.job.dataset) / CELL * self.job.dataset.labels
        return {"image": self.job.images, "walk": cells * self.job.images * self._length}

    @property
    def _length(self) -> float:
        """Ratio of the operations of the walk to those of the measured one, at least 1."""
        settings, steps = self.settings, self.settings["steps"]
        products = sqrt(steps / WALK_STEPS) if settings["tolerance"] else steps / WALK_PRODUCTS
        return float(max(1.0, (settings["radius"] / WALK_RADIUS) ** 2 * products))

    def bytes(self) -> float:
        """Return the bytes of the maps."""
        return map_bytes(self.job.dataset) * self.job.images


class FeatureWalk(RandomWalk):
    """Cost of a random walk over affinities of frozen features."""

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of an image, which is not padded."""
        return Inference.seen(self, size)

    @property
    def kept(self) -> float:
        """Bytes for each pixel: of the network, and of the features of all its layers."""
        return 2 * super().kept

    @property
    def held(self) -> float:
        """Bytes of the pairs of the walk, and of one cosine of each pair for each source."""
        return super().held * (1 + COSINE * self._sources / WALK_PAIR)

    def refining(self) -> dict[str, float]:
        """Return the amounts of the walk, and pairs x channels of the cosines of all sources."""
        pairs = pi / 2 * self.settings["radius"] ** 2
        cells = pixels(self.job.dataset) / CELL * self.job.images
        channels = self.job.operations(self.network).channels * self._sources
        return super().refining() | {"cosines": pairs * cells * channels}

    @property
    def _sources(self) -> int:
        """Number of layers and views whose cosines are computed."""
        layers = self.job.settings("affinity")["layers"]
        return (1 if layers is None else len(layers)) * self._flips


def walk_cost(job: Job) -> RandomWalk:
    """Return the cost of a random walk by the kind of its affinities."""
    features = job.settings("affinity")["kind"] == "features"
    return FeatureWalk(job) if features else RandomWalk(job)
