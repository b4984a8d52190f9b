"""The folder layout of the PASCAL VOC devkit (Everingham et al. 2010)."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.export.files import write_text
from pipeline.export.job import Exported, ExportItem, Target, by_split, exported, read_item
from pipeline.export.photographs import place_photograph
from pipeline.io.arrays import BACKGROUND, IGNORE, write_label
from pipeline.io.palette import voc_palette
from pipeline.io.tables import write_scores
from pipeline.runtime.parallel import map_images

DEVKIT = "VOCdevkit/VOC2012"

LOADING = f"""\
Palette images of class numbers, 255 ignore, in `{DEVKIT}/SegmentationClass`; line k of
`{DEVKIT}/classes.txt`, counted from 0, names value k. Datumaro and CVAT take names and colors from
`dataset_meta.json` or `labelmap.txt` beside it; to them the pixels to ignore are a label `ignored`,
and every image is in `trainval` too: take the subsets that you want. `labelmap.txt` separates its
fields by colons, so that a colon in a name is a semicolon there.

```python
from torchvision.datasets import VOCSegmentation

data = VOCSegmentation("path/to/this/folder", year="2012", image_set="{{split}}")
image, mask = data[0]
```
"""

READERS = "torchvision 0.29.2, Datumaro 1.13.12 (CVAT's reader): names and masks are the same"


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
    _write_label_map(devkit, ["background", *target.classes])
    return done


def _write_label_map(devkit: Path, names: Sequence[str]) -> None:
    """Write the label maps without which readers assume VOC's own 20 classes.

    Such a reader turns colors into labels by this table, and refuses a color that it lacks: the
    pixels to ignore are a line of their own.
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
    write_scores(devkit / "dataset_meta.json", meta)


def _without_colons(names: Sequence[str]) -> list[str]:
    """Replace what separates fields, and a mark of a comment in front; all names stay different."""
    written: list[str] = []
    for name in names:
        plain = re.sub("^#", "_#", name.replace(":", ";"))
        written.append(_unused(plain, [*names, *written]) if plain != name else name)
    return written


def _unused(name: str, names: Sequence[str]) -> str:
    """Add underscores to a name until no other is the same."""
    while name in names:
        name += "_"
    return name


def _write_image(item: ExportItem, target: Target) -> Exported:
    label = read_item(item, target)
    devkit, name = target.root / DEVKIT, item.record.id
    write_label(devkit / f"SegmentationClass/{name}.png", label)
    photograph = devkit / f"JPEGImages/{name}.jpg"
    return exported(item, label, place_photograph(item.record, photograph, target.options.images))


def _lines(words: Sequence[str]) -> str:
    return "".join(f"{word}\n" for word in words)
