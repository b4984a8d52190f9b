"""Cost of applying a trained network to the images of a job."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.io.images import fitted_size
from pipeline.resources.jobs import RequestedCost, Work
from pipeline.resources.network import Network
from pipeline.resources.networks import memory_of
from pipeline.resources.sizes import INFERENCE_FACTOR, MEBIBYTE, WITH_CUDA, WITH_TORCH

#: MiB of kernels that oneDNN caches for images of many sizes. Shards of 200 photographs took
#: 1.8 GiB for maps and 2.5 GiB for a walk; with a single size .95 and 1.0 GiB.
MANY_SIZES = 1000


@dataclass(frozen=True)
class Inference(RequestedCost):
    """Cost of forward passes over all views of images.

    Its settings have ``max_size``, ``scales`` and ``flip``, or a part of them.
    """

    @property
    def network(self) -> Network:
        """The network that is applied."""
        return Network.of(self.job.settings("classifiers", "classifier"))

    # Memory --------------------------------------------------------------------------------

    @property
    def pixels_at_once(self) -> float:
        """Pixels of a forward pass: the largest image at the largest scale, and mirrored."""
        height, width = self.seen(self.job.dataset.largest)
        return height * width * max(self._scales) ** 2 * self._flips

    @property
    def kept(self) -> float:
        """Bytes for each of these pixels."""
        return INFERENCE_FACTOR * memory_of(self.network).inference

    @property
    def held(self) -> float:
        """Bytes in memory besides the network, its layers and the image."""
        return 0.0

    def memory(self) -> float:
        """Return the MiB of the job's process."""
        height, width = self.job.dataset.largest
        host = 4e6 * memory_of(self.network).parameters + 16 * height * width + self.held
        if self.job.gpus:
            return WITH_CUDA + host / MEBIBYTE
        if not self.applies_network:
            return WITH_TORCH + host / MEBIBYTE
        return WITH_TORCH + MANY_SIZES + (self.pixels_at_once * self.kept + host) / MEBIBYTE

    # Work ----------------------------------------------------------------------------------

    @property
    def view_pixels(self) -> float:
        """Pixels of all views of an image of mean size."""
        height, width = self.seen(self.job.dataset.size)
        return height * width * self.view_area

    @property
    def view_pairs(self) -> float:
        """Pairs of pixels within all views of an image of mean size."""
        height, width = self.seen(self.job.dataset.size)
        scales = sum(scale**4 for scale in self._scales)
        return float((height * width) ** 2 * scales * self._flips)

    @property
    def passes(self) -> float:
        """Passes of each view. A backward pass to the image counts as two."""
        return 1.0

    @property
    def applies_network(self) -> bool:
        """Whether there is any pass: a job that reads stored features has none."""
        return self.passes > 0

    @property
    def images(self) -> float:
        """Number of images that the network is applied to."""
        return self.job.images

    def work(self) -> Work:
        """Return the operations of all passes."""
        operations = self.job.operations(self.network)
        passed = self.view_pixels * self.passes * self.images
        pairs = self.view_pairs * self.passes * self.images
        return Work(
            self.network.name,
            inference=operations.inference(passed, pairs),
            refining=self.refining(),
            bytes=self.bytes(),
        )

    def refining(self) -> dict[str, float]:
        """Return the amounts of work other than the network's."""
        return {}

    def bytes(self) -> float:
        """Return the size of the outputs."""
        return 0.0

    # Views ---------------------------------------------------------------------------------

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the network's input at scale 1 for an image's."""
        return fitted_size(size, self.settings.get("max_size"))

    @property
    def view_area(self) -> float:
        """Ratio of the pixels of all views to those of the network's input at scale 1."""
        return float(sum(scale**2 for scale in self._scales) * self._flips)

    @property
    def _scales(self) -> Sequence[float]:
        scales: Sequence[float] = self.settings.get("scales", [1.0])
        return scales

    @property
    def _flips(self) -> int:
        return 2 if self.settings.get("flip") else 1
