"""Corrected masks from the tool's file to training, export, scores and the report."""

import csv
import json

import numpy as np
import pytest

from pipeline.datasets.corrected.table import read_corrected
from pipeline.datasets.findings import read_findings
from pipeline.datasets.manifest import read_manifest
from pipeline.datasets.review import write_left_out
from pipeline.errors import UserError
from pipeline.io.arrays import read_label, read_soft_label, write_label, write_soft_label
from pipeline.stages import train_segmentation as training
from pipeline.stages.evaluate import evaluate
from pipeline.stages.export_labels import export_labels
from pipeline.stages.list_corrected import list_corrected
from pipeline.stages.train_segmentation import train_segmentation
from tests.helpers.corrected import write_coco, write_cvat, write_labelme

OPTIONS = {"images": "none", "polygons": False, "tolerance": 0.5, "ignore_mask_below": 0.7}


@pytest.fixture
def records(small_dataset):
    found = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    return {record.id: record for record in found.records}


@pytest.fixture
def take(small_dataset, tmp_path):
    """Return a function that reads a file of corrected masks, and returns their table."""

    def run(path, name="dataset"):
        list_corrected(
            manifest=small_dataset["manifest"], classes=small_dataset["classes"], path=str(path),
            masks=tmp_path / f"{name}/corrected", corrected=tmp_path / f"{name}/corrected.csv",
            findings=tmp_path / f"{name}/corrected_findings.json",
        )  # fmt: skip
        return tmp_path / f"{name}/corrected.csv"

    return run


@pytest.fixture
def labels(records, tmp_path):
    """Write pseudo-labels of all train images that are background everywhere."""
    for name, record in records.items():
        if record.split == "train":
            blank = np.zeros((record.height, record.width), np.uint8)
            write_label(tmp_path / f"labels/{name}.png", blank)
            half = np.full((2, *blank.shape), 0.5)
            soft = tmp_path / f"soft/{name}.safetensors"
            write_soft_label(soft, np.array([0, 1]), half)
    return tmp_path / "labels"


@pytest.fixture
def export(small_dataset, labels, tmp_path):
    def run(name, form, **changes):
        arguments = {
            "manifest": small_dataset["manifest"], "classes": small_dataset["classes"],
            "labels": [labels], "soft": [tmp_path / "soft"], "scores": [], "left_out": [],
            "corrected": [], "format": form, "kind": "pseudo_labels", "method": "plain/cam/crf",
            "splits": ["train"], "settings": {"attribution": "cam"}, "options": OPTIONS,
            "export": tmp_path / name, "threads": 1,
        }  # fmt: skip
        export_labels(**(arguments | changes))
        return tmp_path / name

    return run


def marked(record, value=1):
    """Return a label image with a block of a class, and one pixel to ignore."""
    label = np.zeros((record.height, record.width), np.uint8)
    label[3:20, 5:30] = value
    label[0, 0] = 255
    return label


def card_of(folder):
    return json.loads((folder / "data_card.json").read_text(encoding="utf-8"))


def test_masks_are_written_as_label_images_with_a_table(take, records, tmp_path, caplog):
    caplog.set_level("INFO")
    wanted = {"0": marked(records["0"]), "1": marked(records["1"])}
    write_cvat(tmp_path / "a.xml", {f"{name}.png": label for name, label in wanted.items()})
    found = read_corrected([take(tmp_path / "a.xml")])
    assert found.keys() == wanted.keys()
    for name, label in wanted.items():
        np.testing.assert_array_equal(read_label(tmp_path / f"dataset/corrected/{name}.png"), label)
        np.testing.assert_array_equal(found[name].read(label.shape), label)
    assert "2 of 4 train images have a corrected mask" in caplog.text
    # Image 0 is labeled cat, image 1 dog.
    (finding,) = read_findings(tmp_path / "dataset/corrected_findings.json")
    assert finding.got == "1 of 2, such as 1 (only labeled: dog; only in the mask: cat)"
    assert "correct the labels in the review (dataset.review) by the row 1,,cat," in caplog.text
    assert "0,," not in caplog.text


def test_all_problems_are_listed_together(take, records, tmp_path):
    folder = tmp_path / "mended"
    for name in ("4", "nobody"):
        write_label(folder / f"{name}.png", marked(records["4"]))
    write_label(folder / "0.png", np.zeros((3, 3), np.uint8))
    write_label(folder / "1.png", np.full((37, 40), 7, np.uint8))
    with pytest.raises(UserError) as caught:
        take(folder)
    title, *problems = str(caught.value).splitlines()
    assert title == "the data set has 4 problems:"
    for part in ("4 is an image of val", "unknown image 'nobody.png'", "3x3, expected 40x36",
                 r"values [7], expected 0 to 2"):  # fmt: skip
        assert sum(part in line for line in problems) == 1, part


def sampled(monkeypatch):
    """Return a dictionary that will have the labels that a training is given, by image id."""
    seen = {}

    def instead(_run, records, labels, **_others):
        seen.update({r.id: labels[r.id] for r in records})

    monkeypatch.setattr(training, "train_network", instead)
    monkeypatch.setattr(training.TrainingRun, "start", lambda *_args, **_more: None)
    return seen


def test_a_training_sees_the_corrected_mask_even_of_a_bad_image(
    take, records, small_dataset, labels, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO")
    seen = sampled(monkeypatch)
    write_label(tmp_path / "mended/2.png", marked(records["2"], 2))
    write_left_out(tmp_path / "left_out.csv", ["1", "2"])
    given = {
        "manifest": small_dataset["manifest"], "classes": small_dataset["classes"],
        "labels": [labels], "left_out": [tmp_path / "left_out.csv"], "pretrained": [],
        "settings": {}, "seed": 0, "weights": tmp_path / "w", "history": tmp_path / "h",
        "threads": 1, "code": "",
    }  # fmt: skip
    (labels / "2.png").unlink()  # not needed
    train_segmentation(**given, corrected=[take(tmp_path / "mended")])
    assert seen.keys() == {"0", "2", "3"}
    assert seen["0"] == labels / "0.png"
    np.testing.assert_array_equal(seen["2"].read(), marked(records["2"], 2))
    assert "1 of 3 images have a corrected mask in place of the pseudo-label" in caplog.text
    # The pseudo-labels alone show nothing to learn.
    with pytest.raises(UserError, match="show only background"):
        train_segmentation(**given, corrected=[])


@pytest.mark.parametrize("form", ["png", "voc", "soft"])
def test_an_export_holds_the_corrected_masks_and_counts_them(take, export, records, tmp_path, form):
    label = marked(records["0"])
    write_labelme(tmp_path / "tool", {"0.jpg": label})
    table = take(tmp_path / "tool")
    write_left_out(tmp_path / "left_out.csv", ["0", "3"])
    folder = export("export", form, corrected=[table], left_out=[tmp_path / "left_out.csv"])
    if form == "soft":
        numbers, shares = read_soft_label(folder / "probabilities/train/0.safetensors")
        assert numbers.tolist() == [0, 1]
        np.testing.assert_array_equal(shares[0], label == 0)
        np.testing.assert_array_equal(shares[1], label == 1)
        np.testing.assert_array_equal(
            read_label(folder / "ignore/train/0.png") == 255, label == 255
        )
        assert (read_soft_label(folder / "probabilities/train/1.safetensors")[1] == 0.5).all()
    else:
        place = {"png": "masks/train", "voc": "VOCdevkit/VOC2012/SegmentationClass"}[form]
        np.testing.assert_array_equal(read_label(folder / place / "0.png"), label)
        assert (read_label(folder / place / "1.png") == 0).all()
    card = card_of(folder)
    assert card["corrected"]["images"] == 1 and card["corrected"]["ids"] == ["0"]
    assert card["left_out"]["ids"] == ["3"]
    assert card["origin"] == (
        "labels were made by a program from image-level labels; masks that people corrected "
        "replace 1 of 3 labels; images keep their own license"
    )
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert card["origin"] in text
    assert "Labels replaced: 1, by masks that people corrected (dataset.corrected)." in text
    assert ("all 0 where it is ignored" in text) == (form == "soft")
    plain = export("plain", form)
    assert "corrected" not in (plain / "data_card.json").read_text(encoding="utf-8")
    assert "corrected" not in (plain / "README.md").read_text(encoding="utf-8")


def test_ignored_pixels_of_a_corrected_mask_stay_ignored_in_soft_labels(
    take, export, records, tmp_path
):
    write_label(tmp_path / "mended/0.png", marked(records["0"]))
    certain = {
        "corrected": [take(tmp_path / "mended")],
        "options": OPTIONS | {"ignore_mask_below": 0},
    }
    ignored = read_label(export("certain", "soft", **certain) / "ignore/train/0.png") == 255
    assert ignored[0, 0] and ignored.sum() == 1


def test_an_export_of_a_network_that_learned_them_states_it_and_keeps_its_labels(
    take, export, records, tmp_path
):
    write_label(tmp_path / "mended/0.png", marked(records["0"]))
    table = take(tmp_path / "mended")
    learned = "image-level labels, and corrected masks of 1 of 4 train images"
    folder = export("predicted", "png", kind="predictions", corrected=[table])
    assert card_of(folder)["origin"].startswith(f"labels were made by a program from {learned};")
    assert "corrected" not in card_of(folder)
    assert (read_label(folder / "masks/train/0.png") == 0).all()
    later = export("later", "coco", settings={"trained_on": "a/b/c"}, corrected=[table])
    assert (
        learned in card_of(later)["origin"] and "replace 1 of 4 labels" in card_of(later)["origin"]
    )
    document = json.loads((later / "annotations/instances_train.json").read_text(encoding="utf-8"))
    assert document["info"]["description"] == (
        f"Masks made by a program from {learned}, 1 of them corrected by people"
    )


def test_an_export_that_a_person_corrects_comes_back(take, export, records, tmp_path):
    """Export, correct one mask as CVAT's COCO export and as a PNG, import, and export again."""
    first = export("first", "coco")
    path = first / "annotations/instances_train.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["annotations"] == []  # nothing but background
    image = next(item for item in document["images"] if item["file_name"] == "2.jpg")
    box = [5, 3, 30, 3, 30, 20, 5, 20]
    document["annotations"] = [
        {"id": 1, "image_id": image["id"], "category_id": 2, "iscrowd": 0, "segmentation": [box],
         "area": 425, "bbox": [5, 3, 25, 17]},
    ]  # fmt: skip
    path.write_text(json.dumps(document), encoding="utf-8")
    expected = marked(records["2"], 2)
    expected[0, 0] = 0
    again = export("again", "png", corrected=[take(path, "coco")])
    np.testing.assert_array_equal(read_label(again / "masks/train/2.png"), expected)
    assert (read_label(again / "masks/train/1.png") == 0).all()
    # The whole folder of an export counts: every mask in it is a correction.
    write_label(again / "masks/train/1.png", marked(records["1"]))
    last = export("last", "png", corrected=[take(again, "png")])
    for name, label in {"1": marked(records["1"]), "2": expected}.items():
        np.testing.assert_array_equal(read_label(last / f"masks/train/{name}.png"), label)
    assert card_of(last)["corrected"]["images"] == 4


def test_pseudo_labels_are_scored_against_the_corrected_masks_alone(
    take, records, small_dataset, labels, tmp_path
):
    label = marked(records["0"])
    write_coco(tmp_path / "coco.json", {"0.png": label})
    table = take(tmp_path / "coco.json")
    given = {
        "manifest": small_dataset["manifest"], "classes": small_dataset["classes"],
        "masks": table, "labels": [labels], "split": "train", "kind": "pseudo_labels",
        "method": "a/b/c", "settings": {"scored_against": "corrected masks"}, "threshold": [],
        "scores": tmp_path / "s.json", "images": tmp_path / "s.csv", "counts": tmp_path / "s.st",
        "threads": 1,
    }  # fmt: skip
    evaluate(**given, corrected=[])
    score = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert (score["images"], score["images_in_split"]) == (1, 4)
    assert "corrected_masks" not in score
    # All is predicted as background: 17 x 25 of 36 x 40 - 1 pixels are cats.
    ious = {row["name"]: row["iou"] for row in score["classes"]}
    assert ious["background"] == pytest.approx((1439 - 425) / 1439) and ious["cat"] == 0
    assert score["absent_classes"] == ["dog"]
    assert score["miou"] == pytest.approx((1439 - 425) / 1439 / 2)
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["0"]
    evaluate(**given, corrected=[table])
    score = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert score["corrected_masks"] == 1
    assert score["settings"]["supervision"] == (
        "image-level labels, and corrected masks of 1 of 4 train images"
    )
