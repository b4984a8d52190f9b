"""From maps and a classifier to the measures of localization and faithfulness, and their table."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.datasets.manifest import Box, read_manifest, read_masks, write_boxes, write_masks
from pipeline.errors import UserError
from pipeline.io.arrays import ClassMaps, write_maps
from pipeline.io.images import normalize, read_rgb
from pipeline.io.tables import read_class_scores, write_class_scores
from pipeline.models.classifier import create_classifier, load_classifier, save_classifier
from pipeline.stages.classify import classify
from pipeline.stages.compare_attributions import COLUMNS, compare_attributions
from pipeline.stages.evaluate_faithfulness import evaluate_faithfulness
from pipeline.stages.localize import localize
from pipeline.stages.visualize_units import visualize_units
from tests.helpers.training import NETWORK

LOCALIZATION = {"threshold": 0.2, "components": "largest", "thresholds": 10, "five_boxes": None}
FAITHFULNESS = {"confidence": "sigmoid", "images": None, "steps": 3}


@pytest.fixture
def data(small_dataset):
    return read_manifest(small_dataset["manifest"], small_dataset["classes"])


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = create_classifier(NETWORK, 2)
    save_classifier(tmp_path / "model.safetensors", model.state_dict(), NETWORK, 2)
    return tmp_path / "model.safetensors"


def write_split(path, data, values_of):
    """Write maps of the train split, one value array a class of each record."""
    items = []
    for record in data.of_split("train"):
        numbers = data.class_numbers(record)
        size = (record.height, record.width)
        values = np.stack([values_of(record, n) for n in numbers]) if len(numbers) else None
        empty = np.zeros((0, *size), np.float16)
        items.append((record.id, ClassMaps(numbers, empty if values is None else values, size)))
    write_maps(path, items)
    return path


@pytest.fixture
def perfect(small_dataset, data, tmp_path):
    """Return maps that are the masks themselves."""
    masks = {k: mask.read() for k, mask in read_masks(small_dataset["masks"]).items()}
    return write_split(
        tmp_path / "perfect.safetensors",
        data,
        lambda record, number: (masks[record.id] == number).astype(np.float16),
    )


def located(small_dataset, tmp_path, maps, scores, boxes=None, **settings):
    write_boxes(tmp_path / "boxes.csv", boxes or {})
    write_class_scores(tmp_path / "scores.csv", ["cat", "dog"], scores.items())
    localize(
        manifest=small_dataset["manifest"], classes=small_dataset["classes"],
        masks=small_dataset["masks"], boxes=tmp_path / "boxes.csv",
        class_scores=[tmp_path / "scores.csv"], maps=[maps], settings=LOCALIZATION | settings,
        split="train", method="plain/cam", scores=tmp_path / "out.json",
        pairs=tmp_path / "out.csv", threads=1,
    )  # fmt: skip
    return json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))


RIGHT = {str(k): np.array(s) for k, s in enumerate([(2.0, -1), (-1, 2), (3, 2), (-3, -2)])}


def test_maps_that_are_the_masks_find_every_box_and_pixel(small_dataset, tmp_path, perfect):
    scores = located(small_dataset, tmp_path, perfect, RIGHT)
    assert scores["pairs"] == 4  # cat; dog; cat and dog; none
    assert scores["pxap"] == scores["gt_known_loc"] == scores["max_box_acc"] == 1
    assert scores["top1_cls_error"] == scores["top1_loc_error"] == scores["top5_loc_error"] == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["label"], row["rank"]) for row in rows] == [
        ("0", "cat", "1"), ("1", "dog", "1"), ("2", "cat", "1"), ("2", "dog", "1"),
    ]  # fmt: skip


def test_a_class_that_is_not_known_is_not_found_first(small_dataset, tmp_path, perfect):
    wrong = RIGHT | {"0": np.array([-1.0, 2.0])}
    scores = located(small_dataset, tmp_path, perfect, wrong)
    assert scores["gt_known_loc"] == 1
    assert scores["top1_cls_error"] == scores["top1_loc_error"] == 0.25
    assert scores["top5_loc_error"] == 0


def test_an_images_own_boxes_come_before_those_of_its_mask(small_dataset, tmp_path, data):
    corner = np.zeros((40, 40), np.float16)
    corner[:10, :20] = 1
    maps = write_split(tmp_path / "m.safetensors", data, lambda r, _: corner[: r.height, : r.width])
    boxes = {
        "0": [Box("cat", 0, 0, 20, 10), Box("dog", 0, 0, 1, 1)],
        "1": [Box("cat", 0, 0, 9, 9)],
        "2": [Box("cat", 25, 25, 40, 38), Box("dog", 30, 0, 40, 9)],
    }
    scores = located(small_dataset, tmp_path, maps, RIGHT, boxes)
    assert scores["images_with_known_boxes"] == 3
    # The dog of image 1 has no true box: it is no pair.
    assert scores["pairs"] == 3 and scores["classes"]["cat"] == {"pairs": 2, "gt_known_loc": 0.5}


def test_boxes_are_tight_or_loose_and_of_one_part_or_of_any(small_dataset, tmp_path, data):
    levels = np.zeros((40, 40), np.float16)
    levels[0:20, 0:20] = 0.3
    levels[0:10, 0:10] = 1.0
    levels[30:34, 30:34] = 0.6
    maps = write_split(tmp_path / "m.safetensors", data, lambda r, _: levels[: r.height, : r.width])
    boxes = {
        record.id: [Box(name, 0, 0, 20, 20) for name in record.labels]
        for record in data.of_split("train")
    }
    five = {"tight": 0.5, "loose": 0.25}
    located(small_dataset, tmp_path, maps, RIGHT, boxes, threshold=0.7, five_boxes=five)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["overlap"], row["tight"], row["loose"]) for row in rows} == {
        ("0.25", "0.25", "1.0")
    }
    small = {name: [Box(box.label, 30, 30, 34, 34) for box in own] for name, own in boxes.items()}
    largest = located(small_dataset, tmp_path, maps, RIGHT, small, threshold=0.5)
    assert largest["gt_known_loc"] == 0 and largest["max_box_acc"] == 0
    either = located(small_dataset, tmp_path, maps, RIGHT, small, threshold=0.5, components="all")
    assert either["gt_known_loc"] == 1 and either["max_box_acc_v2"] == 1


def test_maps_of_another_size_and_images_without_maps_are_refused(small_dataset, tmp_path, data):
    small = [
        (r.id, ClassMaps(data.class_numbers(r), np.ones((len(r.labels), 4, 4), np.float16), (8, 8)))
        for r in data.of_split("train")
    ]
    write_maps(tmp_path / "m.safetensors", small)
    with pytest.raises(
        UserError, match=r"maps of 0 are of an image of \(8, 8\), expected \(36, 40\)"
    ):
        located(small_dataset, tmp_path, tmp_path / "m.safetensors", RIGHT)
    write_maps(tmp_path / "m.safetensors", small[1:])
    with pytest.raises(UserError, match="1 of 4 images have no maps, first 0"):
        located(small_dataset, tmp_path, tmp_path / "m.safetensors", RIGHT)


def test_class_scores_are_the_classifiers(small_dataset, tmp_path, data, weights):
    classify(
        manifest=small_dataset["manifest"], classes=small_dataset["classes"], weights=weights,
        max_size=None, precision="32-true", split="val", shard=0, shards=1,
        class_scores=tmp_path / "s.csv", threads=1,
    )  # fmt: skip
    found = read_class_scores([tmp_path / "s.csv"])
    model = load_classifier(weights)
    assert list(found) == [record.id for record in data.of_split("val")]
    for record in data.of_split("val"):
        image = normalize(read_rgb(record.image), model.mean, model.std)
        expected = model(torch.from_numpy(image)[None]).logits[0].detach().numpy()
        np.testing.assert_allclose(found[record.id], expected, rtol=1e-4, atol=1e-5)


def judged(small_dataset, tmp_path, maps, weights, name="f", **settings):
    evaluate_faithfulness(
        manifest=small_dataset["manifest"], classes=small_dataset["classes"], weights=weights,
        maps=[maps], settings=FAITHFULNESS | settings, max_size=None, precision="32-true",
        split="train", method=f"plain/{name}", scores=tmp_path / f"{name}.json",
        pairs=tmp_path / f"{name}.csv", threads=1,
    )  # fmt: skip
    with (tmp_path / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")), list(
            csv.DictReader(file)
        )


def test_a_map_of_ones_hides_nothing(small_dataset, tmp_path, data, weights):
    ones = write_split(
        tmp_path / "m.safetensors", data, lambda r, _: np.ones((r.height, r.width), np.float16)
    )
    scores, rows = judged(small_dataset, tmp_path, ones, weights)
    assert (scores["images"], scores["pairs"]) == (3, 4)
    assert scores["average_drop"] == pytest.approx(0, abs=1e-5)
    model, record = load_classifier(weights), data.of_split("train")[2]
    image = torch.from_numpy(normalize(read_rgb(record.image), model.mean, model.std))[None]
    expected = model(image).logits.sigmoid()[0]
    assert [float(row["whole"]) for row in rows[2:]] == pytest.approx(expected.tolist(), abs=1e-5)


def test_areas_are_those_of_curves_from_end_to_end(small_dataset, tmp_path, data, weights):
    left = np.zeros((40, 40), np.float16)
    left[:, :20] = 1
    maps = write_split(tmp_path / "m.safetensors", data, lambda r, _: left[: r.height, : r.width])
    _, rows = judged(small_dataset, tmp_path, maps, weights, steps=2)
    model, record = load_classifier(weights), data.of_split("train")[0]
    whole = torch.from_numpy(normalize(read_rgb(record.image), model.mean, model.std))
    half = whole.clone()
    half[:, :, :20] = 0
    logits = model(torch.stack([whole, half, torch.zeros_like(whole)])).logits.detach()
    curve = logits.sigmoid()[:, 0]
    expected = float(curve[0] / 4 + curve[1] / 2 + curve[2] / 4)
    assert float(rows[0]["deletion"]) == pytest.approx(expected, abs=1e-4)


def test_fewer_images_and_no_curves_when_asked(small_dataset, tmp_path, perfect, weights):
    scores, rows = judged(small_dataset, tmp_path, perfect, weights, images=1, steps=0)
    assert scores["images"] == 1 and {row["id"] for row in rows} == {"0"}
    assert scores["deletion"] is None and scores["insertion"] is None


def test_softmax_is_a_share_among_the_classes(small_dataset, tmp_path, perfect, weights):
    _, rows = judged(small_dataset, tmp_path, perfect, weights, confidence="softmax", steps=0)
    assert sum(float(row["whole"]) for row in rows if row["id"] == "2") == pytest.approx(1)


def test_the_table_has_a_row_a_method(small_dataset, tmp_path, data, weights, perfect):
    """Of two maps of one classifier, the one that hides nothing wins; the other's is alone."""
    ones = write_split(
        tmp_path / "m.safetensors", data, lambda r, _: np.ones((r.height, r.width), np.float16)
    )
    files = {"plain/a": ("a", ones), "plain/b": ("b", perfect), "other/a": ("c", perfect)}
    documents, pairs, times = [], [], []
    for method, (name, maps) in files.items():
        judged(small_dataset, tmp_path, maps, weights, name=name)
        document = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) | {
            "method": method
        }
        documents.append(tmp_path / f"{name}.json")
        documents[-1].write_text(json.dumps(document), encoding="utf-8")
        pairs.append(tmp_path / f"{name}.csv")
        times.append(tmp_path / f"benchmarks/make_maps/{method}/train/0.tsv")
        times[-1].parent.mkdir(parents=True)
        times[-1].write_text(f"s\th:m:s\tmax_rss\n{2 * len(times)}.0\t0\t1\n", encoding="utf-8")
    compare_attributions(
        manifest=small_dataset["manifest"], classes=small_dataset["classes"], sweeps=[],
        localization=[], faithfulness=documents, pairs=pairs, times=times,
        jobs={method: [number] for number, method in enumerate(files)}, split="train",
        table=tmp_path / "table.csv",
    )  # fmt: skip
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(files) and tuple(rows["plain/a"]) == COLUMNS
    assert [float(rows[m]["seconds_per_image"]) for m in files] == [0.5, 1.0, 1.5]
    wins = float(rows["plain/a"]["win"]), float(rows["plain/b"]["win"])
    assert sum(wins) == pytest.approx(1)
    assert rows["other/a"]["win"] == "" and rows["plain/a"]["miou"] == ""
    assert float(rows["plain/b"]["average_drop"]) == float(rows["other/a"]["average_drop"])


def test_the_time_of_a_walk_holds_that_of_its_maps(small_dataset, tmp_path):
    times = []
    for path, seconds in (
        ("make_maps/plain/cam/val/0", 2),
        ("make_maps/plain/cam/val/1", 3),
        ("propagate_maps/plain/cam+rw/val/0", 7),
    ):
        times.append(tmp_path / f"benchmarks/{path}.tsv")
        times[-1].parent.mkdir(parents=True, exist_ok=True)
        times[-1].write_text(f"s\tmax_rss\n{seconds}\t1\n", encoding="utf-8")
    empty = []
    for name in ("a", "b"):
        empty.append(tmp_path / f"{name}.csv")
        empty[-1].write_text("id,label,whole,explained,deletion,insertion\n", encoding="utf-8")
    compare_attributions(
        manifest=small_dataset["manifest"], classes=small_dataset["classes"], sweeps=[],
        localization=[], faithfulness=[], pairs=empty, times=times,
        jobs={"plain/cam": [0, 1], "plain/cam+rw": [0, 1, 2]}, split="val",
        table=tmp_path / "t.csv",
    )  # fmt: skip
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        seconds = [float(row["seconds_per_image"]) for row in csv.DictReader(file)]
    assert seconds == [2.5, 6.0]  # two val images


def test_units_are_drawn_a_row_a_class(small_dataset, tmp_path, weights):
    visualize_units(
        manifest=small_dataset["manifest"], classes=small_dataset["classes"], weights=weights,
        settings={"per_class": 2, "images": 3, "region": 0.5, "max_size": None},
        precision="32-true", grid=tmp_path / "units.png", threads=1,
    )  # fmt: skip
    # Two strips of three images of 112 pixels beside each other, for each of two classes.
    with Image.open(tmp_path / "units.png") as sheet:
        assert sheet.size == (2 * 336 + 8, 2 * (112 + 18) + 8)


def test_localization_does_not_depend_on_stored_mask_values(small_dataset, tmp_path, perfect):
    expected = located(small_dataset, tmp_path, perfect, RIGHT)
    stored = np.array([255, 0, 1], np.uint8)
    masks = {}
    for name, mask in read_masks(small_dataset["masks"]).items():
        masks[name] = tmp_path / f"stored{name}.png"
        Image.fromarray(stored[mask.read()]).save(masks[name])
    write_masks(small_dataset["masks"], masks, {255: 0, 0: 1, 1: 2})
    assert located(small_dataset, tmp_path, perfect, RIGHT) == expected
