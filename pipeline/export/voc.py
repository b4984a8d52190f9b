"""Export in the folder layout of the PASCAL VOC devkit (Everingham et al. 2010)."""

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.export.files import write_text
from pipeline.export.images import export_image
from pipeline.export.job import (
    Exported,
    ExportItem,
    Target,
    by_split,
    export_each,
    exported,
    read_item,
)
from pipeline.io.arrays import BACKGROUND, IGNORE, write_label
from pipeline.io.palette import voc_palette
from pipeline.io.tables import write_json

DEVKIT = "VOCdevkit/VOC2012"

LOADING = f"""\
Palette images of class numbers in `{DEVKIT}/SegmentationClass`; 255 means ignore. Line k (from 0)
of `{DEVKIT}/classes.txt` is the name of value k. Datumaro and CVAT read names and colors from
`dataset_meta.json` or `labelmap.txt` in the same folder. They show pixels to ignore as a label
`ignored`, and they list every image in `trainval` too: use the subsets that you need.
`labelmap.txt` separates fields by colons, so a colon in a name is replaced by a semicolon.

```python
from torchvision.datasets import VOCSegmentation

data = VOCSegmentation("path/to/this/folder", year="2012", image_set="{{split}}")
image, mask = data[0]
```
"""

READERS = "torchvision 0.29.2, Datumaro 1.13.12 (CVAT's reader): names and masks are the same"


def write_voc(items: Sequence[ExportItem], target: Target, workers: int) -> list[Exported]:
    """Write label images, lists of ids and images in the layout of the VOC 2012 devkit."""
    done = export_each(_write_image, items, target, workers, "export in VOC layout")
    lists = {split: [item.record.id for item in group] for split, group in by_split(items).items()}
    lists["trainval"] = [item.record.id for item in items]
    devkit = target.root / DEVKIT
    for name, ids in lists.items():
        write_text(devkit / f"ImageSets/Segmentation/{name}.txt", _lines(ids))
    write_text(devkit / "classes.txt", _lines(["background", *target.classes]))
    _write_label_map(devkit, ["background", *target.classes])
    return done


def _write_label_map(devkit: Path, names: Sequence[str]) -> None:
    """Write the label maps; without them, readers assume VOC's own 20 classes.

    Readers map colors to labels by this table and refuse other colors. Therefore the pixels to
    ignore have an entry too.
    """
    palette = voc_palette()
    values = [*range(BACKGROUND, len(names)), IGNORE]
    names = [*names, _unused("ignored", names)]
    colors = [palette[3 * value : 3 * value + 3] for value in values]
    rows = (
        f"{name}:{','.join(map(str, color))}::"
        for name, color in zip(_without_colons(names), colors, strict=True)
    )
    write_text(devkit / "labelmap.txt", _lines(["# label:color_rgb:parts:actions", *rows]))
    label_map = {str(position): name for position, name in enumerate(names)}
    meta = {"labels": names, "label_map": label_map, "segmentation_colors": colors}
    write_json(devkit / "dataset_meta.json", meta)


def _without_colons(names: Sequence[str]) -> list[str]:
    """Replace colons and leading comment marks in names; all names stay different."""
    written: list[str] = []
    for name in names:
        plain = re.sub("^#", "_#", name.replace(":", ";"))
        written.append(_unused(plain, [*names, *written]) if plain != name else name)
    return written


def _unused(name: str, names: Sequence[str]) -> str:
    """Add underscores to a name until it differs from all other names."""
    while name in names:
        name += "_"
    return name


def _write_image(item: ExportItem, target: Target) -> Exported:
    label = read_item(item, target)
    devkit, name = target.root / DEVKIT, item.record.id
    write_label(devkit / f"SegmentationClass/{name}.png", label)
    path = devkit / f"JPEGImages/{name}.jpg"
    return exported(item, label, export_image(item.record, path, target.options.images))


def _lines(texts: Sequence[str]) -> str:
    return "".join(f"{text}\n" for text in texts)
