import csv
import json

import numpy as np
from PIL import Image

from pipeline.export.png import write_png
from tests.helpers.export_items import CLASSES


def test_masks_are_gray_and_listed_with_their_images(case):
    write_png(case.items, case.target(), 1)
    with (case.root / "images.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train", "train", "train", "val"]
    for item, row in zip(case.items, rows, strict=True):
        assert (row["id"], row["image"]) == (item.record.id, str(item.record.image))
        with Image.open(case.root / row["mask"]) as mask:
            assert mask.mode == "L"
            assert np.array_equal(mask, case.labels[row["id"]])


def test_every_value_has_a_name(case):
    write_png(case.items, case.target(), 1)
    names = json.loads((case.root / "classes.json").read_text(encoding="utf-8"))
    assert names == {"0": "background", "1": CLASSES[0], "2": CLASSES[1], "255": "ignore"}
