"""Draw the class-specific units of a classifier, with the images that activate them most."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.attribution.units import class_units, most_active_images, unit_maps
from pipeline.datasets.manifest import Record, read_manifest
from pipeline.io.files import replacing
from pipeline.io.images import fitted_size, network_input, network_stride, read_rgb
from pipeline.models.classifier import CamClassifier, load_classifier
from pipeline.refinement.labels import enlarged
from pipeline.report.drawing import RgbImage, captioned_grid, framed, with_region
from pipeline.runtime.device import channels_last, make_fabric, on_device
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any

#: Side of an image in pixels.
SIDE = 112


def visualize_units(
    *,
    manifest: Path,
    classes: Path,
    weights: Path,
    settings: Mapping[str, Any],
    precision: str,
    grid: Path,
    threads: int,
    gpu: int = 1,
) -> None:
    """Write one PNG: one row per class, with a strip of train images for each of its units.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    weights : Path
        The classifier.
    settings : mapping
        Keys ``per_class``, ``images``, ``region`` and ``max_size``.
    precision : str
        Floating-point precision of the forward pass.
    grid : Path
        Output.
    threads : int
        Number of CPU threads.
    gpu : int
        1 to use a GPU if there is one, 0 to use the CPU.
    """
    data = read_manifest(manifest, classes)
    records = data.of_split("train")
    fabric = make_fabric(precision, threads, gpu)
    model = on_device(fabric, load_classifier(weights), fold=False)
    units, strengths = class_units(model, settings["per_class"])
    wanted = torch.unique(units)
    view = _View(model, settings["max_size"])
    work = progress(records, total=len(records), what="units of train")
    means = (view.maps(record, wanted).mean(dim=(1, 2)) for record in work)
    chosen = dict(zip(wanted.tolist(), most_active_images(means, settings["images"]), strict=True))
    strips, captions = [], []
    names = progress(data.classes, total=len(data.classes), what="images of units", unit="classes")
    for name, units_of_class, values in zip(names, units.tolist(), strengths.tolist(), strict=True):
        for unit, strength in zip(units_of_class, values, strict=True):
            regions = [view.region(records[i], unit, settings["region"]) for i in chosen[unit]]
            strips.append(np.concatenate(regions, axis=1))
            captions.append(f"{name}: unit {unit}, weight {strength:.2g}")
    sheet = captioned_grid(strips, captions, columns=units.shape[1])
    with replacing(grid) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")


@dataclass(frozen=True)
class _View:
    """The class-specific units of a classifier on images."""

    model: CamClassifier
    max_size: int | None

    def maps(self, record: Record, units: Tensor) -> Tensor:
        return self._maps(read_rgb(record.image), units)

    def region(self, record: Record, unit: int, share: float) -> RgbImage:
        """Draw an image, bright where a unit is above a share of its maximum."""
        image = read_rgb(record.image)
        activation = self._maps(image, torch.tensor([unit])).clamp(min=0).numpy()
        size, cells = self._size(image), (activation.shape[1], activation.shape[2])
        full = enlarged(activation, size, network_stride(size, cells))[0]
        return framed(with_region(image, full, share), SIDE)

    def _maps(self, image: NDArray[np.uint8], units: Tensor) -> Tensor:
        scaled = network_input(image, self._size(image), self.model)
        device = next(self.model.parameters()).device
        return unit_maps(
            self.model, channels_last(torch.from_numpy(scaled)[None].to(device)), units
        )

    def _size(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        return fitted_size((image.shape[0], image.shape[1]), self.max_size)


if __name__ == "__main__":
    run_stage(visualize_units, snakemake)
