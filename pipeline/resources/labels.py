"""Cost of label images: pseudo-labels, labels of confident pixels, and predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.resources.inferences import Inference
from pipeline.resources.jobs import RequestedCost, Settings, Work
from pipeline.resources.network import Network
from pipeline.resources.sizes import (
    MEBIBYTE,
    WITHOUT_TORCH,
    crf_bytes,
    crf_work,
    pixels,
    png_bytes,
)

#: Bytes per pixel of the regions of one scale (.5 to 1.1 on photographs), and of the memory
#: that superpixels are computed in. The second one is not measured: a guess.
REGION_BYTES, SUPERPIXEL_BYTES = 1.0, 600

#: Number of labels that win at some pixel of a prediction, background included, for a data set
#: like VOC.
WINNING = 3


@dataclass(frozen=True)
class RefinedLabels(RequestedCost):
    """Cost of label images that are computed in one process for each thread."""

    @property
    def processes(self) -> int:
        """Number of threads."""
        return self.job.threads

    def memory(self) -> float:
        """Return the MiB of all processes, each with a CRF of the labels of an image."""
        dataset = self.job.dataset
        each = WITHOUT_TORCH + crf_bytes(dataset, dataset.most_labels) / MEBIBYTE
        return WITHOUT_TORCH + self.job.threads * each

    def _work(self, refining: dict[str, float]) -> Work:
        """Return the work on all images from that on one."""
        images = self.job.images
        amounts = {"image": images} | {kind: images * each for kind, each in refining.items()}
        return Work(refining=amounts, bytes=png_bytes(self.job.dataset) * images)

    def _crf(self, settings: Settings | None) -> float:
        """Return the work of a CRF between the labels of an image and the background."""
        return crf_work(settings, self.job.dataset, self.job.dataset.labels + 1)


class ConfidentLabels(RefinedLabels):
    """Cost of the labels of confident pixels, with a CRF at each of two thresholds."""

    section = ("affinity",)

    def work(self) -> Work:
        """Return the work of reading, the CRFs and writing."""
        return self._work({"crf": 2 * self._crf(self.settings["confident_labels"]["crf"])})


class PseudoLabels(RefinedLabels):
    """Cost of pseudo-labels, hard or soft."""

    section = ("refinements", "refinement")

    def work(self) -> Work:
        """Return the work of reading, the CRF, the graph cut and writing."""
        refining = {"crf": self._crf(self.settings["crf"])}
        if self.settings["graph_cut"]:
            refining["graph_cut"] = pixels(self.job.dataset) * self.job.dataset.labels
        return self._work(refining)


class RegionsCost(RefinedLabels):
    """Cost of superpixels, or of reading the user's masks."""

    section = ("regions", "regions")

    def work(self) -> Work:
        """Return the work of reading, and of the superpixels of all scales."""
        images, scales = self.job.images, len(self._scales)
        refining = {"image": images, "superpixels": images * pixels(self.job.dataset) * scales}
        size = pixels(self.job.dataset) * REGION_BYTES * max(scales, 1)
        return Work(refining=refining, bytes=size * images)

    def memory(self) -> float:
        """Return the MiB of all processes, with the regions of the shard in the first one."""
        height, width = self.job.dataset.largest
        each = WITHOUT_TORCH + height * width * SUPERPIXEL_BYTES / MEBIBYTE
        # The file is written from copies of the regions, as 64-bit numbers and as 32-bit ones.
        held = 3 * self.work().bytes / MEBIBYTE
        return WITHOUT_TORCH + held + self.job.threads * each

    @property
    def _scales(self) -> Sequence[float]:
        """Scales of superpixels; none for the user's masks."""
        scales: Sequence[float] = self.settings.get("scales", self.settings.get("segments", ()))
        return scales


class Predictions(Inference):
    """Cost of the predictions of a segmentation network, hard or soft."""

    section = ("prediction",)

    @property
    def network(self) -> Network:
        """The segmentation network."""
        return Network.of(self.job.settings("segmentation"))

    @property
    def held(self) -> float:
        """Bytes of probabilities, and of the CRF.

        There are three float32 copies of the views, one for each scale, and three of the image.
        """
        dataset = self.job.dataset
        height, width = dataset.largest
        planes = 3 * self.pixels_at_once + (len(self._scales) + 3) * height * width
        crf = crf_bytes(dataset, dataset.classes) if self.settings["crf"] else 0
        return 4 * (dataset.classes + 1) * planes + crf

    def refining(self) -> dict[str, float]:
        """Return the number of images, and the work of the CRF."""
        labels = {"winning": WINNING, "all": self.job.dataset.classes + 1}
        chosen = labels[self.settings["crf_classes"]]
        once = crf_work(self.settings["crf"], self.job.dataset, chosen)
        return {"image": self.job.images, "crf": self.job.images * once}

    def bytes(self) -> float:
        """Return the bytes of the label images."""
        return png_bytes(self.job.dataset) * self.job.images
