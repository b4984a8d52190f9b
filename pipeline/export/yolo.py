"""Export as polygons for Ultralytics YOLO segmentation: one text file per image."""

from collections.abc import Iterator, Sequence

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.export.files import write_text
from pipeline.export.images import export_image
from pipeline.export.job import (
    Exported,
    ExportItem,
    Target,
    by_split,
    export_each,
    exported,
    present_classes,
    read_item,
)
from pipeline.export.polygons import polygons

LOADING = """\
`labels/SPLIT/ID.txt` has one line per connected region: the class from 0, then x and y of the
polygon's points as shares of width and height. The file is empty if an image shows no class.
This format cannot mark pixels to ignore: they count as background.

```python
from ultralytics import YOLO

YOLO("yolo11n-seg.pt").train(data="path/to/this/folder/data.yaml")
```

Datumaro (1.13) reads only boxes of this format, no polygons: use `coco` or `voc` for it.

Ultralytics needs a train and a val split. If one was not exported, `data.yaml` names the other
one twice; replace it by your own split. Ultralytics also repairs JPEGs without an end marker in
place, even through links: export with `images: copy` to protect your originals.
"""

READERS = (
    "Ultralytics 8.4.190, supervision 0.31.2: names are the same, outlines up to their rounding"
)


def write_yolo(items: Sequence[ExportItem], target: Target, workers: int) -> list[Exported]:
    """Write polygons, images and ``data.yaml``."""
    done = export_each(_write_image, items, target, workers, "export for YOLO")
    write_text(target.root / "data.yaml", _description(list(by_split(items)), target.classes))
    return done


def _description(splits: Sequence[str], classes: Sequence[str]) -> str:
    # Without the key `path`, paths are relative to the file's folder; with ".", they would be
    # relative to the reader's working folder.
    folders = {name: f"images/{name if name in splits else splits[0]}" for name in ("train", "val")}
    document = folders | {"names": dict(enumerate(classes))}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _write_image(item: ExportItem, target: Target) -> Exported:
    label = read_item(item, target)
    place = f"{item.record.split}/{item.record.id}"
    lines = _lines(label, target.options.tolerance)
    write_text(target.root / f"labels/{place}.txt", "".join(f"{line}\n" for line in lines))
    path = target.root / f"images/{place}.jpg"
    return exported(item, label, export_image(item.record, path, target.options.images))


def _lines(label: NDArray[np.uint8], tolerance: float) -> Iterator[str]:
    height, width = label.shape
    for number in present_classes(label):
        for ring in polygons(label == number, tolerance):
            shares = (ring / (width, height)).ravel().tolist()
            yield " ".join([str(number - 1), *(f"{share:.6g}" for share in shares)])
