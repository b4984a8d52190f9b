"""Export as gray PNGs of class numbers, with class names and a table of the images."""

from collections.abc import Sequence

from pipeline.export.files import write_gray, write_with_tables
from pipeline.export.job import Exported, ExportItem, Target, exported, read_item

LOADING = """\
8-bit gray images of class numbers in `masks/SPLIT/ID.png`. `classes.json` names the values.
`images.csv` lists the image of each mask; apply the EXIF orientation when you read it.

```python
import csv, numpy as np
from PIL import Image, ImageOps

with open("images.csv", encoding="utf-8") as file:
    row = next(csv.DictReader(file))
image = ImageOps.exif_transpose(Image.open(row["image"])).convert("RGB")
mask = np.asarray(Image.open(row["mask"]))
```
"""

READERS = "Pillow, NumPy"


def write_png(items: Sequence[ExportItem], target: Target, workers: int) -> list[Exported]:
    """Write label images without a palette, ``classes.json`` and ``images.csv``."""
    return write_with_tables(
        _write_image, items, target, workers, column="mask", file_of=_mask_of, what="export as PNG"
    )


def _mask_of(item: ExportItem) -> str:
    return f"masks/{item.record.split}/{item.record.id}.png"


def _write_image(item: ExportItem, target: Target) -> Exported:
    label = read_item(item, target)
    write_gray(target.root / _mask_of(item), label)
    return exported(item, label)
