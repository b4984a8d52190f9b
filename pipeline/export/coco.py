"""Export as COCO annotations (Lin et al. 2014): one for each class of an image."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths  # type: ignore[import-untyped, unused-ignore]

from pipeline.export.files import write_text
from pipeline.export.images import export_image
from pipeline.export.job import (
    Exported,
    ExportItem,
    ExportOptions,
    Target,
    export_each,
    exported,
    present_classes,
    read_item,
)
from pipeline.export.polygons import polygons
from pipeline.io.arrays import IGNORE

LOADING = """\
One annotation for each class of an image, as run lengths or polygons of all its regions.
`area` and `bbox` are those of the mask. COCO cannot mark pixels to ignore. Therefore every entry
of `images` has an additional key `ignore`: the run lengths of the pixels whose class is unknown.
They are not background: leave them out of losses and scores. Files are named as Datumaro and CVAT
expect them. Both, and supervision, refuse images that are links out of the export: use
`images: copy` for them.

```python
from pycocotools import mask
from pycocotools.coco import COCO

coco = COCO("annotations/instances_{split}.json")  # images: images/{split}/FILE_NAME
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
class _Annotated:
    """One image: its summary, its annotations without ids, and the pixels to ignore."""

    exported: Exported
    annotations: list[dict[str, Any]]
    ignore: dict[str, Any]


def write_coco(items: Sequence[ExportItem], target: Target, workers: int) -> list[Exported]:
    """Write one annotation file per split, and the images. Ids are unique over all splits."""
    annotated = export_each(_annotate, items, target, workers, "export as COCO")
    corrected = sum(item.corrected for item in items)
    documents = {item.record.split: _document(target, corrected) for item in items}
    annotation_ids = count(1)
    for image_id, (item, one) in enumerate(zip(items, annotated, strict=True), start=1):
        document = documents[item.record.split]
        document["images"].append(_image_entry(image_id, item) | {"ignore": one.ignore})
        document["annotations"] += [
            {"id": next(annotation_ids), "image_id": image_id} | annotation
            for annotation in one.annotations
        ]
    for split, document in documents.items():
        # ASCII, because readers open it in any encoding; no spaces, because it is large.
        text = json.dumps(document, separators=(",", ":"))
        write_text(target.root / f"annotations/instances_{split}.json", f"{text}\n")
        # Readers look for images in this folder, and refuse annotations if it does not exist.
        (target.root / f"images/{split}").mkdir(parents=True, exist_ok=True)
    return [one.exported for one in annotated]


def _document(target: Target, corrected: int) -> dict[str, Any]:
    replaced = f", {corrected} of them corrected by people" if corrected else ""
    return {
        "info": {"description": f"Masks made by a program from {target.supervision}{replaced}"},
        "licenses": [],
        "categories": [
            {"id": number, "name": name, "supercategory": "object"}
            for number, name in enumerate(target.classes, start=1)
        ],
        "images": [],
        "annotations": [],
    }


def _image_entry(image_id: int, item: ExportItem) -> dict[str, Any]:
    record = item.record
    size = {"width": record.width, "height": record.height}
    return {"id": image_id, "file_name": f"{record.id}.jpg"} | size


def _annotate(item: ExportItem, target: Target) -> _Annotated:
    label = read_item(item, target)
    path = target.root / f"images/{item.record.split}/{item.record.id}.jpg"
    rewritten = export_image(item.record, path, target.options.images)
    annotations = [
        _annotation(label == number, number, target.options) for number in present_classes(label)
    ]
    return _Annotated(exported(item, label, rewritten), annotations, _encoded(label == IGNORE))


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
    """Return the compressed run lengths of an (H, W) mask, for JSON."""
    encoded = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
