"""The folder layout of the PASCAL VOC devkit (Everingham et al. 2010)."""

from collections.abc import Sequence
from functools import partial

from pipeline.artifacts import write_label
from pipeline.export.files import write_text
from pipeline.export.job import Exported, ExportItem, Target, by_split, exported, read_item
from pipeline.export.photographs import place_photograph
from pipeline.parallel import map_images

DEVKIT = "VOCdevkit/VOC2012"

LOADING = f"""\
Palette images of class numbers, 255 ignore, in `{DEVKIT}/SegmentationClass`; line k of
`{DEVKIT}/classes.txt`, counted from 0, names value k.

```python
from torchvision.datasets import VOCSegmentation

data = VOCSegmentation("path/to/this/folder", year="2012", image_set="{{split}}")
image, mask = data[0]
```
"""


def write_voc(items: Sequence[ExportItem], target: Target, workers: int) -> list[Exported]:
    """Write label images, lists of ids and photographs as the VOC 2012 devkit has them."""
    write_image = partial(_write_image, target=target)
    done = list(map_images(write_image, items, workers=workers, what="export in VOC layout"))
    lists = {split: [item.record.id for item in group] for split, group in by_split(items).items()}
    lists["trainval"] = [item.record.id for item in items]
    devkit = target.root / DEVKIT
    for name, ids in lists.items():
        write_text(devkit / f"ImageSets/Segmentation/{name}.txt", _lines(ids))
    write_text(devkit / "classes.txt", _lines(["background", *target.classes]))
    return done


def _write_image(item: ExportItem, target: Target) -> Exported:
    label = read_item(item, target)
    devkit, name = target.root / DEVKIT, item.record.id
    write_label(devkit / f"SegmentationClass/{name}.png", label)
    photograph = devkit / f"JPEGImages/{name}.jpg"
    return exported(item, label, place_photograph(item.record, photograph, target.options.images))


def _lines(words: Sequence[str]) -> str:
    return "".join(f"{word}\n" for word in words)
