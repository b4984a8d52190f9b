"""Cost of trainings: the classifier, the boundary network and the segmentation network."""

from dataclasses import dataclass
from math import pi

from pipeline.resources.jobs import RequestedCost, Work
from pipeline.resources.network import Network
from pipeline.resources.networks import Memory, memory_of
from pipeline.resources.sizes import (
    CELL,
    INFERENCE_FACTOR,
    MEBIBYTE,
    TRAINING_FACTOR,
    WEIGHT_BYTES,
    WITH_CUDA,
    WITH_TORCH,
)
from pipeline.training.epochs import number_of_epochs, steps_of_epoch, validated_epochs

#: Share of its parent's resident memory that counts in each loader process (.72, .75).
SHARED = 0.8
#: Copies of the weights: weights, gradients, momentum, checkpoint (measured 4.3).
COPIES = 6
#: Bytes of boundaries and paths for each pair of cells (46).
PAIR = 50
#: Images in a batch of validation.
VALIDATION_BATCH = 16


@dataclass(frozen=True)
class Training(RequestedCost):
    """Cost of a training."""

    @property
    def network(self) -> Network:
        """The network that is trained, or whose features are."""
        return Network.of(self.settings)

    @property
    def passes(self) -> int:
        """Passes of an image in a step: 2 with Puzzle-CAM's tiles, otherwise 1."""
        return 2 if self.settings.get("puzzle") else 1

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return number_of_epochs(self.settings, self.job.images)

    @property
    def pixels(self) -> float:
        """Pixels of the crops of all epochs."""
        side = self.settings["augmentation"]["crop"]
        return float(self._samples * self.epochs * side**2 * self.passes)

    @property
    def pairs(self) -> float:
        """Pairs of pixels within the crops of all epochs, and within their tiles."""
        side, puzzle = self.settings["augmentation"]["crop"], self.settings.get("puzzle")
        parts = 1 + (1 / puzzle["pieces"] if puzzle else 0)
        return float(self._samples * self.epochs * side**4 * parts)

    @property
    def _samples(self) -> float:
        """Number of crops of an epoch."""
        settings, images = self.settings, self.job.images
        return float(steps_of_epoch(settings, images) * min(settings["batch_size"], images))

    def kept(self, memory: Memory) -> float:
        """Return the bytes that a step keeps for each pixel of its crops."""
        return TRAINING_FACTOR * memory.training

    def memory(self) -> float:
        """Return the MiB of the training and its loader processes."""
        if self.job.gpus:
            # Activations are on the GPUs. Each loader process counts its parent's pages.
            loaders = self.job.threads // self.job.gpus
            return float(self.job.gpus * WITH_CUDA * (1 + SHARED * loaders))
        settings, memory = self.settings, memory_of(self.network)
        at_once = -(-settings["batch_size"] // settings["accumulate"])
        crops = at_once * settings["augmentation"]["crop"] ** 2 * self.passes
        validated = VALIDATION_BATCH * settings.get("eval_size", 0) ** 2
        step = max(crops * self.kept(memory), INFERENCE_FACTOR * validated * memory.inference)
        own = step + COPIES * 1e6 * WEIGHT_BYTES * memory.parameters
        loaders = 0 if self.job.threads == 1 else max(1, self.job.threads // 4)
        return float((WITH_TORCH + own / MEBIBYTE) * (1 + SHARED * loaders))

    def work(self) -> Work:
        """Return the operations of all steps, and the bytes of the weights."""
        operations = self.job.operations(self.network)
        return Work(
            self.network.name,
            training=operations.training(self.pixels, self.pairs),
            bytes=WEIGHT_BYTES * operations.parameters,
        )


class ClassifierTraining(Training):
    """Cost of training a classifier, which is validated on image-level labels."""

    section = ("classifiers", "classifier")

    def work(self) -> Work:
        """Return the operations of all steps and validations, and the bytes of the weights."""
        settings, work = self.settings, super().work()
        held_out = self.job.dataset.images("val") * len(validated_epochs(settings, self.epochs))
        area, operations = settings["eval_size"] ** 2, self.job.operations(self.network)
        validated = operations.inference(held_out * area, held_out * area**2)
        return Work(work.network, work.training, inference=validated, bytes=work.bytes)


class BoundaryTraining(Training):
    """Cost of training a boundary network: its backbone is frozen and only applied."""

    section = ("affinity",)

    @property
    def network(self) -> Network:
        """The classifier's network, whose features are used."""
        return Network.of(self.job.settings("classifiers", "classifier"))

    def kept(self, memory: Memory) -> float:
        """Return the bytes of a frozen backbone, and of the pairs of a cell with half a disc."""
        pairs: float = pi / 2 * self.settings["radius"] ** 2
        return INFERENCE_FACTOR * memory.inference + PAIR * pairs / CELL

    def work(self) -> Work:
        """Return the operations of the backbone's forward passes."""
        operations = self.job.operations(self.network)
        return Work(
            self.network.name,
            inference=operations.inference(self.pixels, self.pairs),
            bytes=WEIGHT_BYTES * operations.parameters,
        )


class SegmentationTraining(Training):
    """Cost of training a segmentation network."""

    section = ("segmentation",)
