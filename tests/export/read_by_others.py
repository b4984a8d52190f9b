"""What other projects' readers make of an export, run by the Python of their own environment.

``python read_by_others.py READER [FORMAT FOLDER]...`` writes an archive of arrays ``FOLDER.npz``
of each export: ``names``, the classes in the reader's order, and for each image ``SPLIT/ID/labels``
(N,) with their ``masks`` (N, H, W), those of one label together, and the ``shape`` of its
image. ``found`` is what the reader takes the folder for.
"""

import sys
from pathlib import Path

import numpy as np


def datumaro(root, kind):
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset
    from datumaro.components.environment import Environment

    found = Environment().detect_dataset(root)
    data = Dataset.import_from(root, {"voc": "voc_segmentation", "coco": "coco_instances"}[kind])
    names = [label.name for label in data.categories()[AnnotationType.label]]
    read = {}
    for item in data:
        drawn = [a for a in item.annotations if a.type != AnnotationType.bbox]
        masks = [(a.label, as_mask(a, item)) for a in drawn]
        read[f"{item.subset}/{item.id}"] = masks, item.media.size
    return names, read, found


def as_mask(annotation, item):
    from datumaro.components.annotation import Polygon
    from pycocotools import mask as run_lengths

    if not isinstance(annotation, Polygon):
        return annotation.image
    return run_lengths.decode(run_lengths.frPyObjects([annotation.points], *item.media.size))[
        ..., 0
    ]


def supervision(root, kind):
    from supervision import DetectionDataset

    read, names = {}, []
    for split in ("train", "val"):
        images = f"{root}/images/{split}"
        if kind == "coco":
            path = f"{root}/annotations/instances_{split}.json"
            data = DetectionDataset.from_coco(images, path, force_masks=True)
        else:
            labels = f"{root}/labels/{split}"
            data = DetectionDataset.from_yolo(images, labels, f"{root}/data.yaml", force_masks=True)
        names = data.classes
        for path, image, found in data:
            masks = [] if found.mask is None else zip(found.class_id, found.mask, strict=True)
            read[f"{split}/{Path(path).stem}"] = list(masks), image.shape[:2]
    return names, read, kind


def main(reader, *arguments):
    read_by = {"datumaro": datumaro, "supervision": supervision}[reader]
    for kind, root in zip(arguments[::2], arguments[1::2], strict=True):
        names, read, found = read_by(root, kind)
        arrays = {"names": np.array(names), "found": np.array(found)}
        for key, (masks, shape) in read.items():
            merged = {}
            for label, mask in masks:
                merged[label] = merged.get(label, False) | np.asarray(mask, bool)
            arrays[f"{key}/labels"] = np.array(list(merged), np.int64)
            arrays[f"{key}/masks"] = np.array(list(merged.values()))
            arrays[f"{key}/shape"] = np.array(shape)
        np.savez_compressed(f"{root}.npz", **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
