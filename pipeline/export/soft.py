"""Export of soft labels: the probability of every class at every pixel, and uncertain pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.export.files import hard_link, write_gray, write_with_tables
from pipeline.export.job import (
    Exported,
    ExportItem,
    Target,
    check_size,
    check_values,
    exported,
    present_classes,
    read_item,
)
from pipeline.io.arrays import BACKGROUND, IGNORE, read_soft_label, write_soft_label

LOADING = """\
`probabilities/SPLIT/ID.safetensors` contains `classes` (the L label values that an image may show,
0 for the background first) and `probabilities` of shape (L, H, W) in float16. Two gray PNGs are
derived from them: `confidence/SPLIT/ID.png` is 255 times the winning probability, and
`ignore/SPLIT/ID.png` is 255 where that probability is below `ignore_mask_below`. `classes.json`
names the values. `images.csv` lists the images; apply the EXIF orientation when you read them.

```python
import csv
from safetensors.numpy import load_file

with open("images.csv", encoding="utf-8") as file:
    row = next(csv.DictReader(file))
soft = load_file(row["probabilities"])
mask = soft["classes"][soft["probabilities"].argmax(axis=0)]
```
"""

READERS = "safetensors, NumPy"


def write_soft(items: Sequence[ExportItem], target: Target, workers: int) -> list[Exported]:
    """Write probabilities, confidence and ignore images, ``classes.json`` and ``images.csv``."""
    return write_with_tables(
        _write_image,
        items,
        target,
        workers,
        column="probabilities",
        file_of=_probabilities_of,
        what="export of soft labels",
    )


def _probabilities_of(item: ExportItem) -> str:
    return f"probabilities/{item.record.split}/{item.record.id}.safetensors"


def _write_image(item: ExportItem, target: Target) -> Exported:
    place = target.root / _probabilities_of(item)
    if item.corrected:
        numbers, probabilities = _one_hot(read_item(item, target))
        write_soft_label(place, numbers, probabilities)
    else:
        numbers, probabilities = _read(item, target)
        hard_link(item.source, place)
    winning = probabilities.max(axis=0).astype(np.float32)
    uncertain = (winning < target.options.ignore_mask_below) | (winning == 0)
    name = f"{item.record.split}/{item.record.id}.png"
    write_gray(target.root / "confidence" / name, np.rint(255 * winning).astype(np.uint8))
    write_gray(target.root / "ignore" / name, np.where(uncertain, IGNORE, 0).astype(np.uint8))
    label = np.where(uncertain, IGNORE, numbers[probabilities.argmax(axis=0)]).astype(np.uint8)
    return exported(item, label)


def _one_hot(label: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Return the soft label of a corrected mask: 1 for the class of a pixel, 0 where ignored."""
    numbers = np.array([BACKGROUND, *present_classes(label)], np.uint8)
    return numbers, (label == numbers[:, None, None]).astype(np.float16)


def _read(item: ExportItem, target: Target) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    numbers, probabilities = read_soft_label(item.source)
    check_size(item, probabilities.shape[1:])
    check_values(item, numbers, target)
    if numbers[:1].tolist() != [BACKGROUND] or len(numbers) != len(probabilities):
        raise UserError(
            f"{item.source}: {len(probabilities)} probabilities of the labels {numbers.tolist()}, "
            "expected one of each, 0 (background) first: make the soft label again"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise UserError(
            f"{item.source}: probabilities outside [0, 1] or not finite, expected values in "
            "[0, 1]: make the soft label again"
        )
    return numbers, probabilities
