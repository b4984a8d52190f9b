import json

import numpy as np
import pytest
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from torchvision.datasets import CocoDetection

from pipeline.export.coco import write_coco
from tests.helpers.export_items import CLASSES, GRAY

# pycocotools 2.0.11 decodes in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def read_masks(case, split):
    """Return (category, mask, annotation) by image id, and the ignored pixels, read by COCO."""
    coco = COCO(case.root / f"annotations/instances_{split}.json")
    masks, ignored = {}, {}
    for image in coco.loadImgs(coco.getImgIds()):
        assert (case.root / f"images/{split}" / image["file_name"]).is_file()
        assert (image["width"], image["height"]) == (44, 30)
        name = image["file_name"].removesuffix(".jpg")
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        masks[name] = [(a["category_id"], coco.annToMask(a), a) for a in annotations]
        ignored[name] = run_lengths.decode(image["ignore"])
    return masks, ignored, coco


def test_masks_boxes_and_areas_survive_the_export(case):
    write_coco(case.items, case.target(), 1)
    masks, ignored, coco = read_masks(case, "train")
    assert list(masks) == ["plain", "rotated", "clear.png.1"]
    for name, rows in masks.items():
        label = case.labels[name]
        assert [number for number, _, _ in rows] == [1, 2]
        assert np.array_equal(ignored[name], label == 255)
        for number, mask, annotation in rows:
            assert np.array_equal(mask, label == number)
            assert annotation["area"] == (label == number).sum()
            assert annotation["iscrowd"] == 0
            assert isinstance(annotation["segmentation"]["counts"], str)
        assert rows[0][2]["bbox"] == [0, 0, 20, 26]  # the cat and a pixel below it
        assert rows[1][2]["bbox"] == [24, 12, 20, 18]
    assert [(c["id"], c["name"]) for c in coco.loadCats([1, 2])] == list(enumerate(CLASSES, 1))
    assert coco.getCatIds(catNms=[CLASSES[1]]) == [2]


def test_torchvision_reads_images_and_masks(case):
    write_coco(case.items, case.target(), 1)
    images, annotations = case.root / "images/train", "annotations/instances_train.json"
    data = CocoDetection(images, case.root / annotations)
    assert len(data) == 3
    for number, (image, found) in zip(data.ids, data, strict=True):
        label = case.labels[data.coco.imgs[number]["file_name"].removesuffix(".jpg")]
        assert image.size == (44, 30)
        for annotation in found:
            mask = data.coco.annToMask(annotation)
            assert np.array_equal(mask, label == annotation["category_id"])


def test_the_image_folder_exists_without_images(case):
    write_coco(case.items, case.target(images="none"), 1)
    assert [*(case.root / "images/train").iterdir()] == []


def test_an_image_without_classes_is_listed_without_annotations(case):
    write_coco(case.items, case.target(), 1)
    masks, ignored, coco = read_masks(case, "val")
    assert masks == {GRAY: []} and not ignored[GRAY].any()
    assert coco.dataset["annotations"] == []


def test_ids_are_unique_over_the_splits(case):
    case.labels[GRAY][:] = 1
    write_coco([*case.items[::-1]], case.target(images="none"), 1)
    documents = [
        json.loads((case.root / f"annotations/instances_{s}.json").read_text(encoding="utf-8"))
        for s in ("train", "val")
    ]
    for part in ("images", "annotations"):
        ids = [row["id"] for document in documents for row in document[part]]
        assert sorted(ids) == list(range(1, len(ids) + 1))


@pytest.mark.parametrize("tolerance", [0, 0.5])
def test_polygons_enclose_the_masks(case, tolerance):
    write_coco(case.items, case.target(polygons=True, tolerance=tolerance), 1)
    masks, _, _ = read_masks(case, "train")
    for name, rows in masks.items():
        for number, mask, annotation in rows:
            true = case.labels[name] == number
            assert all(isinstance(ring, list) for ring in annotation["segmentation"])
            assert (mask & true).sum() / (mask | true).sum() > 0.95
            assert annotation["area"] == true.sum()
        assert not rows[0][1][7:9, 8:10].any()  # the hole
