"""From label images to an export with its card, on a few images and on real ones."""

import json
import re
import tomllib

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from pipeline.datasets.manifest import (
    Record,
    read_manifest,
    read_masks,
    write_classes,
    write_manifest,
)
from pipeline.datasets.review import write_left_out
from pipeline.datasets.voc import CLASSES
from pipeline.errors import UserError
from pipeline.export import FORMATS
from pipeline.export.card import NOT_SCORED
from pipeline.io.arrays import read_label, read_soft_label, write_label, write_soft_label
from pipeline.io.tables import write_json
from pipeline.stages.export_labels import export_labels
from tests.helpers import REPOSITORY

# pycocotools 2.0.11 decodes in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SETTINGS = {
    "attribution": "cam",
    "background": {"value": 0.3, "threshold_source": "fixed"},
    "crf": None,
}
OPTIONS = {"images": "link", "polygons": False, "tolerance": 0.5, "ignore_mask_below": 0.7}


@pytest.fixture
def labels(small_dataset, tmp_path):
    """Label images in two shards: the masks, with a row of 255; a soft label of each."""
    for number, (name, mask) in enumerate(read_masks(small_dataset["masks"]).items()):
        label = mask.read()
        label[0] = 255
        write_label(tmp_path / f"labels/{number % 2}/{name}.png", label)
        share = (label == 1) * 0.5 + 0.25
        soft = tmp_path / f"soft/{number % 2}/{name}.safetensors"
        write_soft_label(soft, np.array([0, 1]), np.stack([1 - share, share]))
    return [tmp_path / "labels/0", tmp_path / "labels/1"]


@pytest.fixture
def export(small_dataset, labels, tmp_path):
    """Return a function that exports and returns the folder."""

    def run(name="export", **changes):
        arguments = {
            "manifest": small_dataset["manifest"],
            "classes": small_dataset["classes"],
            "labels": labels,
            "soft": [],
            "scores": [],
            "left_out": [],
            "corrected": [],
            "format": "png",
            "kind": "pseudo_labels",
            "method": "plain/cam/crf",
            "splits": ["train", "val"],
            "settings": SETTINGS,
            "options": OPTIONS | changes.pop("options", {}),
            "threads": 1,
        } | changes
        if FORMATS[arguments["format"]].soft:
            arguments["soft"] = [tmp_path / "soft/0", tmp_path / "soft/1"]
            arguments["labels"] = []
        export_labels(**arguments, export=tmp_path / name)
        return tmp_path / name

    return run


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", FORMATS)
def test_equal_labels_export_equal_bytes(export, name):
    one, two = (contents(export(folder, format=name)) for folder in ("one", "two"))
    assert one == two
    assert {"data_card.json", "README.md", "checksums.sha256"} <= one.keys()
    assert b"\0" not in one["README.md"]


def test_several_processes_write_the_same_bytes(processes, export):
    changes = {"format": "coco", "options": {"polygons": True}}
    assert contents(export("one", **changes)) == contents(export("two", threads=2, **changes))


# Ultralytics is not installed: tests/export/test_yolo.py reads by its rules.
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "yolo"])
def test_the_code_of_the_exported_readme_runs(export, labels, name, monkeypatch):
    folder = export(format=name)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(folder)
    loaded = {}
    exec(code.replace("path/to/this/folder", "."), loaded)
    label = read_label(labels[0] / "0.png")
    if name == "coco":
        assert {k: mask.tolist() for k, mask in loaded["masks"].items()} == {
            k: (label == k).astype(int).tolist() for k in (1, 2)
        }
        assert np.array_equal(loaded["ignore"], label == 255)
    elif name == "soft":
        assert np.array_equal(loaded["mask"], label == 1)
    else:
        assert np.array_equal(loaded["mask"], label)


def test_the_card_counts_images_pixels_and_ignored_pixels(export, small_dataset, labels):
    card = json.loads((export() / "data_card.json").read_text(encoding="utf-8"))
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    assert list(card["splits"]) == ["train", "val"]
    for split, part in card["splits"].items():
        ids = [int(record.id) for record in data.of_split(split)]
        pixels = np.concatenate([read_label(labels[i % 2] / f"{i}.png").ravel() for i in ids])
        assert part["images"] == len(ids)
        assert [row["name"] for row in part["classes"]] == ["background", "cat", "dog"]
        assert [row["pixels"] for row in part["classes"]] == [(pixels == k).sum() for k in range(3)]
        assert [row["images"] for row in part["classes"]] == [len(ids)] * 3
        assert part["ignored_share"] == pytest.approx((pixels == 255).mean())
    assert card["settings"] == SETTINGS and card["options"] == {}
    assert "made by a program from image-level labels" in card["origin"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert card["versions"]["wsss-pipeline"] == project["version"]


def test_card_and_readme_count_rewritten_images(export):
    folder = export(format="voc")
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    assert card["rewritten_images"] == 6  # all of them are PNGs
    assert card["options"] == {"images": "link"}
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        "6 of them are rewritten (PNG and other formats" in readme
        and "4 of train, 2 of val" in readme
    )
    without = export("without", format="voc", options={"images": "none"})
    assert "Images are not included." in (without / "README.md").read_text(encoding="utf-8")


def test_the_card_has_the_scores_of_a_split_or_reports_none(export, tmp_path):
    ious = {"background": 0.75, "cat": 0.25, "dog": None}
    rows = [{"name": name, "iou": iou, "recall": 0.9} for name, iou in ious.items()]
    threshold = {"value": 0.3, "threshold_source": "without masks"}
    score = {"kind": "pseudo_labels", "method": "plain/cam/crf", "split": "train", "images": 4}
    score |= {"settings": SETTINGS, "threshold": threshold, "miou": 0.5, "classes": rows}
    score |= dict.fromkeys(("pixel_accuracy", "false_positive_share", "false_negative_share"), 0.5)
    score |= {"absent_classes": ["dog"], "confusion": []}
    write_json(tmp_path / "scores.json", score)
    folder = export(scores=[tmp_path / "scores.json"])
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    assert card["scores"]["train"] == {
        "miou": 0.5,
        "classes": [{"name": name, "iou": iou} for name, iou in ious.items()],
        "images": 4,
        "threshold": threshold,
    }
    assert card["scores"]["val"] == {"miou": None, "classes": None, "note": NOT_SCORED}
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "- train: mIoU 50.0 % on 4 images with masks; threshold" in readme
    assert f"- val: {NOT_SCORED}" in readme
    assert re.search(r"^\| train \| 1 \| cat \| 4 \| \d+ \| 25.0 % \|$", readme, re.MULTILINE)
    assert re.search(r"^\| train \| 2 \| dog \| 4 \| \d+ \| - \|$", readme, re.MULTILINE)


def test_a_split_alone_is_exported_alone(export):
    folder = export(splits=["val"], format="voc")
    lists = folder / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    assert {path.name for path in lists.iterdir()} == {"val.txt", "trainval.txt"}
    assert (lists / "trainval.txt").read_text(encoding="utf-8") == "4\n5\n"


@pytest.mark.parametrize("name", [name for name in FORMATS if not FORMATS[name].soft])
def test_a_wrong_label_is_refused_by_its_name(export, labels, name):
    label = read_label(labels[0] / "2.png")
    write_label(labels[0] / "2.png", label[1:])
    with pytest.raises(UserError, match=r"2.png: label is \(37, 40\), expected \(38, 40\)"):
        export(format=name)
    label[3, 3] = 3
    write_label(labels[0] / "2.png", label)
    with pytest.raises(UserError, match=r"2.png: label has the values \[3\], expected 0 to 2"):
        export(format=name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_label_is_an_error(export, labels, tmp_path, name):
    for path in (labels[0] / "2.png", tmp_path / "soft/0/2.safetensors"):
        path.unlink()
    with pytest.raises(UserError, match=r"^1 of 6 images have no label in .*, first 2\.\w+:"):
        export(format=name)


def test_a_split_without_images_is_an_error(export):
    with pytest.raises(UserError, match="split test has no image"):
        export(splits=["test"])


#: What the lines of a README leave behind, of every format that needs no trained network.
READ = {
    "voc": lambda read: np.asarray(read["mask"]),
    "coco": lambda read: (
        sum(number * mask for number, mask in read["masks"].items()) + 255 * read["ignore"]
    ),
    "png": lambda read: read["mask"],
    "soft": lambda read: read["mask"],
}


@pytest.mark.parametrize("name", READ)
def test_the_lines_of_a_readme_read_the_first_image(export, labels, name, monkeypatch, tmp_path):
    folder = export(format=name)
    code = re.search(
        "```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )[1]
    monkeypatch.chdir(folder)
    read = {}
    exec(code.replace("path/to/this/folder", "."), read)
    expected = read_label(labels[0] / "0.png")
    if name == "soft":  # which of two labels is likelier
        numbers, probabilities = read_soft_label(tmp_path / "soft/0/0.safetensors")
        expected = numbers[probabilities.argmax(axis=0)]
    assert np.array_equal(READ[name](read), expected)


def test_readers_are_named_with_the_versions_they_are_tested_in(export):
    """Ultralytics is too large to be tested with each time: its rules are."""
    pins = [
        line
        for path in ("requirements.txt", "tests/export/readers.txt")
        for line in (REPOSITORY / path).read_text(encoding="utf-8").splitlines()
    ]
    for name, chosen in FORMATS.items():
        for reader, version in re.findall(r"(\w+) (\d+\.\S+?)(?=[,:; ]|$)", chosen.readers):
            assert reader == "Ultralytics" or f"{reader.lower()}=={version}" in pins
        assert f"Tested with {chosen.readers}." in (
            export(name, format=name) / "README.md"
        ).read_text(encoding="utf-8")


def test_names_with_marks_survive(export, small_dataset):
    write_classes(small_dataset["classes"], ['a: "b" | c', "- d'é #1"])
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    for name in FORMATS:
        folder = export(name, format=name)
        card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
        names = [row["name"] for row in card["splits"]["train"]["classes"]]
        assert names == ["background", *data.classes]
        table = (folder / "README.md").read_text(encoding="utf-8")
        assert '| train | 1 | a: "b" \\| c |' in table


def test_real_masks_survive_the_coco_export(voc_subset, tmp_path):
    masks, records = {}, []
    for path in sorted((voc_subset / "JPEGImages").glob("*.jpg"))[:6]:
        with Image.open(path) as image:
            records.append(Record(path.stem, path, *image.size, "val", ()))
        masks[path.stem] = voc_subset / f"SegmentationClass/{path.stem}.png"
    write_manifest(tmp_path / "manifest.csv", records)
    write_classes(tmp_path / "classes.json", CLASSES)
    export_labels(
        manifest=tmp_path / "manifest.csv", classes=tmp_path / "classes.json",
        labels=[voc_subset / "SegmentationClass"], soft=[], scores=[], left_out=[], corrected=[],
        format="coco", kind="pseudo_labels", method="plain/cam/crf", splits=["val"],
        settings={}, options=OPTIONS, export=tmp_path / "export", threads=1,
    )  # fmt: skip
    coco = COCO(tmp_path / "export/annotations/instances_val.json")
    for image in coco.loadImgs(coco.getImgIds()):
        name = image["file_name"].removesuffix(".jpg")
        drawn = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.imgToAnns[image["id"]]:
            drawn[coco.annToMask(annotation) == 1] = annotation["category_id"]
        label = read_label(masks[name])
        assert np.array_equal(drawn, np.where(label == 255, 0, label))
        link = tmp_path / "export/images/val" / image["file_name"]
        assert link.readlink() == (voc_subset / f"JPEGImages/{name}.jpg").absolute()


def test_predictions_of_the_upper_bound_say_that_it_learned_masks(export):
    settings = {"trained_on": "ground-truth masks of train", "crf": None}
    bound = export(kind="predictions", method="ground_truth", splits=["val"], settings=settings)
    card = json.loads((bound / "data_card.json").read_text(encoding="utf-8"))
    assert card["origin"].startswith(
        "labels were made by a network that was trained on ground-truth masks (fully supervised), "
        "not from image-level labels, and are no pseudo-labels"
    )
    assert card["settings"]["trained_on"] == "ground-truth masks of train"
    text = (bound / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Predictions, fully supervised (trained on masks), format png\n")
    assert card["origin"] in text and "ground_truth" not in text
    assert '- network trained on: `"ground-truth masks of train"`' in text
    weak = export("weak", kind="predictions", splits=["val"])
    card = json.loads((weak / "data_card.json").read_text(encoding="utf-8"))
    assert card["origin"].startswith("labels were made by a program from image-level labels")
    assert "masks" not in card["origin"]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "soft"])
def test_images_that_were_judged_bad_are_left_out_and_counted(
    export, small_dataset, name, tmp_path
):
    write_left_out(tmp_path / "left_out.csv", ["0", "5"])
    changes = {"format": name, "left_out": [tmp_path / "left_out.csv"]}
    folder = export("less", **changes)
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    reason = "judged bad in the review (dataset.review)"
    assert card["left_out"] == {"images": 1, "reason": reason, "ids": ["0"]}
    # A verdict on an image of val is about its prediction, which this export does not have.
    assert {split: part["images"] for split, part in card["splits"].items()} == {
        "train": 3, "val": 2,
    }  # fmt: skip
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert f"Images left out: 1, {reason}." in text
    whole = export("whole", format=name)
    assert "left_out" not in json.loads((whole / "data_card.json").read_text(encoding="utf-8"))
    gone = {path.name for path in whole.rglob("*")} - {path.name for path in folder.rglob("*")}
    assert all(path.startswith("0.") for path in gone)
    assert gone or name == "coco"
    predicted = export("predicted", kind="predictions", **changes)
    card = json.loads((predicted / "data_card.json").read_text(encoding="utf-8"))
    assert card["left_out"]["ids"] == ["5"]
