"""Label images as annotation tools save them: one shape for each class of an image."""

import base64
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from pycocotools import mask as coco

#: Names of the label values; classes are cat and dog.
NAMES = {0: "background", 1: "cat", 2: "dog", 255: "ignore"}


def masks_of(label):
    """Return the name and the mask of each value of a label image; a mask of 0 if it is all 0."""
    values = [value for value in np.unique(label).tolist() if value] or [0]
    return [(NAMES[value], label == value) for value in values]


def write_coco(path: Path, labels) -> None:
    """Write run lengths as COCO has them; ``labels`` are label images by name of the image."""
    document = {
        "images": [], "annotations": [],
        "categories": [{"id": value, "name": name} for value, name in NAMES.items()],
    }  # fmt: skip
    numbers = {name: value for value, name in NAMES.items()}
    for index, (image, label) in enumerate(labels.items()):
        height, width = label.shape
        document["images"].append(
            {"id": index, "file_name": image, "height": height, "width": width}
        )
        for name, mask in masks_of(label):
            found = coco.encode(np.asfortranarray(mask, np.uint8))
            found = {"size": found["size"], "counts": found["counts"].decode()}
            document["annotations"].append(
                {"image_id": index, "category_id": numbers[name], "segmentation": found}
            )
    path.write_text(json.dumps(document), encoding="utf-8")


def png_of(mask) -> str:
    """Return a mask as a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def write_labelme(path: Path, labels) -> None:
    """Write a file of labelme for each image into a folder."""
    path.mkdir(parents=True, exist_ok=True)
    for number, (image, label) in enumerate(labels.items()):
        height, width = label.shape
        corners = [[0, 0], [width - 1, height - 1]]
        shapes = [
            {"label": name, "shape_type": "mask", "points": corners, "mask": png_of(mask)}
            for name, mask in masks_of(label)
        ]
        document = {
            "version": "5.5.0", "shapes": shapes, "imagePath": image, "imageData": None,
            "imageHeight": height, "imageWidth": width,
        }  # fmt: skip
        (path / f"{number}.json").write_text(json.dumps(document), encoding="utf-8")


def write_cvat(path: Path, labels) -> None:
    """Write CVAT for images 1.1, with each mask in its bounding box."""
    root = ElementTree.Element("annotations")
    for number, (image, label) in enumerate(labels.items()):
        height, width = map(str, label.shape)
        node = ElementTree.SubElement(
            root, "image", id=str(number), name=image, width=width, height=height
        )
        for name, mask in masks_of(label):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            flat = [False, *part.ravel().tolist()]  # runs begin with 0
            edges = [0, *(k for k in range(1, len(flat)) if flat[k] != flat[k - 1]), len(flat)]
            lengths = np.diff(edges).tolist()
            lengths[0] -= 1
            place = {
                "left": columns[0], "top": rows[0], "width": part.shape[1], "height": part.shape[0],
            }  # fmt: skip
            ElementTree.SubElement(
                node, "mask", label=name, source="manual", z_order="0",
                rle=", ".join(map(str, lengths)), **{key: str(n) for key, n in place.items()},
            )  # fmt: skip
    path.write_bytes(ElementTree.tostring(root))
