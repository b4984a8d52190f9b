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
from pipeline.io.images import network_stride, read_rgb
from pipeline.models.classifier import CamClassifier, load_classifier
from pipeline.models.views import Views
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
    weights : Path
        The classifier.
    settings : mapping
        Keys ``per_class``, ``images``, ``region`` and ``max_size``.
    grid : Path
        Output.
    manifest, classes, precision, threads, gpu
        See :mod:`pipeline.stages`.
    """
    data = read_manifest(manifest, classes)
    records = data.of_split("train")
    fabric = make_fabric(precision, threads, gpu)
    model = on_device(fabric, load_classifier(weights), fold=False)
    units, strengths = class_units(model, settings["per_class"])
    wanted = torch.unique(units)
    drawing = _UnitDrawing(model, Views.from_settings(settings))
    work = progress(records, total=len(records), what="units of train")
    means = (drawing.maps(record, wanted).mean(dim=(1, 2)) for record in work)
    chosen = dict(zip(wanted.tolist(), most_active_images(means, settings["images"]), strict=True))
    strips, captions = [], []
    names = progress(data.classes, total=len(data.classes), what="images of units", unit="classes")
    for name, own, values in zip(names, units.tolist(), strengths.tolist(), strict=True):
        for unit, strength in zip(own, values, strict=True):
            images = [drawing.region(records[i], unit, settings["region"]) for i in chosen[unit]]
            strips.append(np.concatenate(images, axis=1))
            captions.append(f"{name}: unit {unit}, weight {strength:.2g}")
    sheet = captioned_grid(strips, captions, columns=units.shape[1])
    with replacing(grid) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")


@dataclass(frozen=True)
class _UnitDrawing:
    """The class-specific units of a classifier on images."""

    model: CamClassifier
    views: Views

    def maps(self, record: Record, units: Tensor) -> Tensor:
        return self._maps(read_rgb(record.image), units)

    def region(self, record: Record, unit: int, share: float) -> RgbImage:
        """Draw an image, bright where a unit is above a share of its maximum."""
        image = read_rgb(record.image)
        activation = self._maps(image, torch.tensor([unit])).clamp(min=0).numpy()
        size = self.views.input_size((image.shape[0], image.shape[1]))
        cells = (activation.shape[1], activation.shape[2])
        full = enlarged(activation, size, network_stride(size, cells))[0]
        return framed(with_region(image, full, share), SIDE)

    def _maps(self, image: NDArray[np.uint8], units: Tensor) -> Tensor:
        return unit_maps(self.model, channels_last(self.views.batch(self.model, image)), units)


if __name__ == "__main__":
    run_stage(visualize_units, snakemake)
