"""COCO annotations in the style of stuff: one for each class of an image (Lin et al. 2014)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths  # type: ignore[import-untyped, unused-ignore]

from pipeline.export.files import write_text
from pipeline.export.job import (
    Exported,
    ExportItem,
    ExportOptions,
    Target,
    exported,
    present_classes,
    read_item,
)
from pipeline.export.photographs import place_photograph
from pipeline.export.polygons import polygons
from pipeline.io.arrays import IGNORE
from pipeline.runtime.parallel import map_images

LOADING = """\
One annotation for each class of an image, as run lengths or polygons, all regions together;
`area` and `bbox` are those of the mask. COCO has no word for pixels to ignore: every entry of
`images` has a further key `ignore`, the run lengths of the pixels whose class is unknown. Leave
these out of losses and scores: they are no background. Files are named as
Datumaro and CVAT look for them. Both, and supervision, refuse photographs that are links out of the
export: write it with `images: copy` for them.

```python
from pycocotools import mask
from pycocotools.coco import COCO

coco = COCO("annotations/instances_{split}.json")  # photographs: images/{split}/FILE_NAME
image = coco.loadImgs(coco.getImgIds())[0]
masks = {a["category_id"]: coco.annToMask(a) for a in coco.imgToAnns[image["id"]]}
ignore = mask.decode(image["ignore"])
```
"""

READERS = (
    "pycocotools 2.0.11, torchvision 0.29.2, Datumaro 1.13.12 (CVAT's reader), supervision 0.31.2: "
    "names and masks are the same"
)


@dataclass(frozen=True)
class _Described:
    """One image: what is told of it, its annotations without ids, and the pixels to ignore."""

    exported: Exported
    annotations: list[dict[str, Any]]
    ignore: dict[str, Any]


def write_coco(items: Sequence[ExportItem], target: Target, workers: int) -> list[Exported]:
    """Write one annotation file a split, and photographs. Ids are unique over all splits."""
    describe = partial(_describe, target=target)
    described = list(map_images(describe, items, workers=workers, what="export as COCO"))
    documents = {item.record.split: _document(target.classes) for item in items}
    annotation_ids = count(1)
    for image_id, (item, one) in enumerate(zip(items, described, strict=True), start=1):
        document = documents[item.record.split]
        document["images"].append(_image_entry(image_id, item) | {"ignore": one.ignore})
        document["annotations"] += [
            {"id": next(annotation_ids), "image_id": image_id} | annotation
            for annotation in one.annotations
        ]
    for split, document in documents.items():
        # ASCII and without spaces: readers open it in any encoding, and it is large.
        text = json.dumps(document, separators=(",", ":"))
        write_text(target.root / f"annotations/instances_{split}.json", f"{text}\n")
        # Where the reader looks for photographs, and refuses annotations without such a folder.
        (target.root / f"images/{split}").mkdir(parents=True, exist_ok=True)
    return [one.exported for one in described]


def _document(classes: Sequence[str]) -> dict[str, Any]:
    return {
        "info": {"description": "Masks made by a program from image-level labels"},
        "licenses": [],
        "categories": [
            {"id": number, "name": name, "supercategory": "object"}
            for number, name in enumerate(classes, start=1)
        ],
        "images": [],
        "annotations": [],
    }


def _image_entry(image_id: int, item: ExportItem) -> dict[str, Any]:
    record = item.record
    size = {"width": record.width, "height": record.height}
    return {"id": image_id, "file_name": f"{record.id}.jpg"} | size


def _describe(item: ExportItem, target: Target) -> _Described:
    label = read_item(item, target)
    photograph = target.root / f"images/{item.record.split}/{item.record.id}.jpg"
    rewritten = place_photograph(item.record, photograph, target.options.images)
    annotations = [
        _annotation(label == number, number, target.options) for number in present_classes(label)
    ]
    return _Described(exported(item, label, rewritten), annotations, _encoded(label == IGNORE))


def _annotation(mask: NDArray[np.bool_], number: int, options: ExportOptions) -> dict[str, Any]:
    encoded = _encoded(mask)
    rings = polygons(mask, options.tolerance) if options.polygons else []
    return {
        "category_id": number,
        "iscrowd": 0,
        "area": int(run_lengths.area(encoded)),
        "bbox": run_lengths.toBbox(encoded).tolist(),
        "segmentation": [ring.ravel().tolist() for ring in rings] or encoded,
    }


def _encoded(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Give the compressed run lengths of an (H, W) mask, as JSON holds them."""
    encoded = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
