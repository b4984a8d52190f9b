from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.config.resolve import resolve
from pipeline.datasets.demo import CLASSES
from pipeline.datasets.findings import read_findings
from pipeline.datasets.manifest import Box, read_boxes, read_manifest, read_masks
from pipeline.datasets.review import (
    Correction,
    Judgment,
    read_corrections,
    read_left_out,
    write_review,
)
from pipeline.errors import UserError
from pipeline.export.images import export_image
from pipeline.io.arrays import read_label, write_label
from pipeline.io.images import read_rgb
from pipeline.io.tables import read_json, read_table
from pipeline.planning.inputs import (
    dataset_sources,
    dataset_without_ground_truth,
    ground_truth_sources,
    missing,
)
from pipeline.planning.plan import Plan
from pipeline.planning.settings import label_settings
from pipeline.stages.evaluate import evaluate
from pipeline.stages.generate_demo import generate_demo
from pipeline.stages.list_ground_truth import list_ground_truth
from pipeline.stages.list_left_out import list_left_out
from pipeline.stages.prepare_dataset import prepare_dataset


def prepare(out, dataset, review=None):
    seen = {name: out / name for name in ("manifest", "classes")}
    bare = dataset | {key: None for key in ("masks", "mask_values", "boxes") if key in dataset}
    made = {"images": out / "images", "corrections": out / "corrections.csv", "review": review}
    prepare_dataset(sources=[], dataset=bare, seed=0, threads=2, **seen, **made)
    ground_truth = {name: out / name for name in ("masks", "boxes", "findings")}
    list_ground_truth(
        sources=[],
        dataset={"scored_splits": ["train", "val"]} | dataset,
        seed=0,
        threads=2,
        **seen,
        **ground_truth,
    )
    return seen | ground_truth


def voc(root, **changes):
    return {
        "kind": "voc",
        "root": str(root),
        "train_list": "ImageSets/Segmentation/train.txt",
        "val_list": "ImageSets/Segmentation/val.txt",
        "image_labels": "labels.csv",
        "masks": "SegmentationClass",
        "classes": list(CLASSES),
    } | changes


@pytest.fixture
def demo(tmp_path):
    generate_demo(train=4, val=2, size=32, seed=0, demo=tmp_path / "demo")
    return tmp_path / "demo"


def test_the_demo_passes_the_checks_and_keeps_labels_apart_from_masks(demo, tmp_path):
    paths = prepare(tmp_path / "out", voc(demo))
    data = read_manifest(paths["manifest"], paths["classes"])
    assert data.classes == CLASSES
    assert [len(data.of_split(split)) for split in ("train", "val")] == [4, 2]
    assert all(
        record.labels and (record.width, record.height) == (32, 32) for record in data.records
    )
    assert read_masks(paths["masks"]).keys() == {record.id for record in data.records}
    assert "SegmentationClass" not in paths["manifest"].read_text(encoding="utf-8")


def test_only_listed_images_have_a_mask_that_scores(demo, tmp_path):
    whole = prepare(tmp_path / "whole", voc(demo))
    (demo / "scored.txt").write_text("train_00003\ntrain_00001\n", encoding="utf-8")
    paths = prepare(tmp_path / "out", voc(demo, score_list="scored.txt"))
    assert paths["manifest"].read_bytes() == whole["manifest"].read_bytes()
    ground_truth = read_masks(paths["masks"])
    assert list(ground_truth) == ["train_00001", "train_00003", "val_00000", "val_00001"]
    write_label(tmp_path / "labels/train_00001.png", read_label(ground_truth["train_00001"].path))
    for index in (0, 2, 3):  # wrong, but only the last of them is scored
        blank = np.zeros((32, 32), np.uint8)
        write_label(tmp_path / f"labels/train_0000{index}.png", blank)
    out = {name: tmp_path / name for name in ("scores", "images", "counts")}
    evaluate(
        manifest=paths["manifest"], classes=paths["classes"], masks=paths["masks"],
        labels=[tmp_path / "labels"], split="train", kind="pseudo_labels", method="a/b/c",
        settings={}, threshold=[], corrected=[], threads=1, **out,
    )  # fmt: skip
    scores = read_json(out["scores"])
    assert (scores["images"], scores["images_in_split"]) == (2, 4)
    rows = read_table(out["images"])
    assert [row["id"] for row in rows] == ["train_00001", "train_00003"]
    assert float(rows[0]["miou"]) == 1 > float(rows[1]["miou"])
    confusion = np.array([read_label(ground_truth[name].path) for name in list(ground_truth)[:2]])
    shown = read_label(tmp_path / "labels/train_00001.png"), np.zeros((32, 32), np.uint8)
    assert scores["pixel_accuracy"] == (confusion == np.array(shown)).mean()


def test_a_list_to_score_on_is_named_and_no_training_depends_on_it(demo, demo_config):
    def planned(**more):
        dataset = voc(demo, score_list="scored.txt") | more
        return Plan(resolve(demo_config | {"dataset": dataset}))

    plan = planned()
    (problem,) = missing(plan)
    assert problem.endswith(
        "scored.txt: no such file, named by the configuration's dataset.score_list"
    )
    (demo / "scored.txt").write_text("train_00003\n", encoding="utf-8")
    assert list(missing(plan)) == []
    assert str(demo / "scored.txt") in ground_truth_sources(plan)
    assert str(demo / "scored.txt") not in dataset_sources(plan)
    other = planned(score_list=None)
    assert dataset_without_ground_truth(plan) == dataset_without_ground_truth(other)
    settings = label_settings(plan.config, "cam", "crf")
    assert settings["score_list"] == "scored.txt"
    assert label_settings(other.config, "cam", "crf") == {
        key: value for key, value in settings.items() if key != "score_list"
    }
    with pytest.raises(UserError, match=r"score_list lists .*, expected dataset\.masks too"):
        planned(masks=None)


def test_without_masks_the_list_of_masks_is_empty(demo, tmp_path):
    assert read_masks(prepare(tmp_path / "out", voc(demo, masks=None))["masks"]) == {}


def test_what_is_replaced_in_place_by_its_like_changes_its_list_alone(demo, tmp_path):
    paths = prepare(tmp_path / "out", voc(demo))
    before = {key: path.read_bytes() for key, path in paths.items()}
    for folder_name, changed in (("JPEGImages", "manifest"), ("SegmentationClass", "masks")):
        path = demo / folder_name / "train_00001.png"
        with Image.open(path) as image:
            other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        other.save(path)
        after = {
            key: path.read_bytes() for key, path in prepare(tmp_path / "out", voc(demo)).items()
        }
        assert [key for key in before if after[key] != before[key]] == [changed]
        before = after


def test_a_scored_split_without_any_mask_is_refused(demo, tmp_path):
    for path in (demo / "SegmentationClass").glob("train_*"):
        path.rename(path.with_name(f"mask_{path.name}"))
    with pytest.raises(UserError, match=r"none of the 4 train images .* such as train_00000\.png"):
        prepare(tmp_path / "out", voc(demo))
    assert not (tmp_path / "out/masks").exists()
    assert (
        len(read_masks(prepare(tmp_path / "out", voc(demo, scored_splits=["val"]))["masks"])) == 2
    )


def test_annotated_boxes_are_listed_apart(demo, tmp_path):
    data = "<annotation><object><name>redcap</name><bndbox><xmin>1</xmin><ymin>2</ymin>"
    data += "<xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
    (demo / "Annotations").mkdir()
    for image in (demo / "JPEGImages").iterdir():
        (demo / f"Annotations/{image.stem}.xml").write_text(data, encoding="utf-8")
    paths = prepare(tmp_path / "out", voc(demo, image_labels=None))
    boxes = read_boxes(paths["boxes"])
    assert len(boxes) == 6 and boxes["train_00000"] == [Box("redcap", 0, 1, 3, 4)]
    assert read_boxes(prepare(tmp_path / "other", voc(demo))["boxes"]) == {}


def test_the_demo_read_as_a_folder_is_equal(demo, tmp_path):
    dataset = {
        "kind": "folder",
        "images": str(demo / "JPEGImages"),
        "image_labels": str(demo / "labels.csv"),
        "masks": str(demo / "SegmentationClass"),
        "classes": list(CLASSES),
        "val_fraction": 0.5,
    }
    paths = prepare(tmp_path / "out", dataset)
    data = read_manifest(paths["manifest"], paths["classes"])
    assert [len(data.of_split(split)) for split in ("train", "val")] == [3, 3]
    assert len(read_masks(paths["masks"])) == 6


def folder(demo, **changes):
    return {
        "kind": "folder",
        "images": str(demo / "JPEGImages"),
        "image_labels": str(demo / "labels.csv"),
    } | changes


def boxes_file(root, *rows):
    lines = ["image,label,left,top,right,bottom", *rows]
    (root / "boxes.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(root / "boxes.csv")


def test_the_boxes_of_a_table_are_listed(demo, tmp_path, demo_config):
    boxes = boxes_file(
        demo, "train_00001.png,bluecap,0,1,2.5,32", "train_00001,redcap,-0.5,0,33,32.5"
    )
    given = resolve(demo_config | {"dataset": folder(demo, boxes=boxes, classes=list(CLASSES))})
    paths = prepare(tmp_path / "out", given["dataset"])
    assert read_boxes(paths["boxes"]) == {
        "train_00001": [Box("bluecap", 0, 1, 2.5, 32), Box("redcap", -0.5, 0, 33, 32.5)]
    }


def test_boxes_outside_their_image_are_reported(demo, tmp_path):
    rows = ("32,0,40,9", "-3,0,0,9", "0,32,9,33", "0,-9,9,0", "31.5,31.5,50,50", "-9,-9,0.5,0.5")
    boxes = boxes_file(demo, *(f"val_00000,redcap,{row}" for row in rows))
    with pytest.raises(UserError, match="4 problems:") as caught:
        prepare(tmp_path / "out", voc(demo, boxes=boxes))
    first = (
        "the box of redcap (left, top, right, bottom: 32.0, 0.0, 40.0, 9.0) is completely outside"
    )
    assert f"val_00000.png: {first} the image" in str(caught.value)


@pytest.fixture
def cub(tmp_path):
    """Two birds of two classes, each an image of 6x5 pixels."""
    root = tmp_path / "CUB_200_2011"
    for name in ("001.Crow/Crow_1.jpg", "002.Wren/Wren_1.jpg"):
        (root / "images" / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(root / "images" / name)
    (root / "images.txt").write_text(
        "1 001.Crow/Crow_1.jpg\n2 002.Wren/Wren_1.jpg\n", encoding="utf-8"
    )
    (root / "classes.txt").write_text("1 001.Crow\n2 002.Wren\n", encoding="utf-8")
    (root / "image_class_labels.txt").write_text("1 1\n2 2\n", encoding="utf-8")
    (root / "train_test_split.txt").write_text("1 1\n2 0\n", encoding="utf-8")
    (root / "bounding_boxes.txt").write_text(
        "1 1.0 2.0 3.0 2.0\n2 0.0 0.0 6.0 5.0\n", encoding="utf-8"
    )
    return root


def test_the_boxes_of_cub_are_listed_and_it_has_no_masks(cub, tmp_path):
    paths = prepare(tmp_path / "out", {"kind": "cub", "root": str(cub)})
    data = read_manifest(paths["manifest"], paths["classes"])
    assert data.classes == ("001.Crow", "002.Wren")
    assert [(r.id, r.split, r.labels, r.width, r.height) for r in data.records] == [
        ("001.Crow__Crow_1", "train", ("001.Crow",), 6, 5),
        ("002.Wren__Wren_1", "val", ("002.Wren",), 6, 5),
    ]
    assert read_boxes(paths["boxes"]) == {
        "001.Crow__Crow_1": [Box("001.Crow", 1, 2, 4, 4)],
        "002.Wren__Wren_1": [Box("002.Wren", 0, 0, 6, 5)],
    }
    assert read_masks(paths["masks"]) == {}


def test_the_plan_of_cub_names_its_lists_and_scores_boxes_alone(cub, demo_config):
    plan = Plan(resolve(demo_config | {"dataset": {"kind": "cub", "root": str(cub)}}))
    assert sorted(dataset_sources(plan)) == sorted(map(str, cub.glob("*.txt")))
    assert len(dataset_sources(plan)) == 5 and list(missing(plan)) == []
    assert plan.box_scores() and plan.scores() == plan.image_scores() == []
    (cub / "classes.txt").unlink()
    (problem,) = missing(plan)
    assert problem == (
        f"{cub / 'classes.txt'}: no such file, named by the configuration's dataset.root"
    )


@pytest.mark.parametrize("kind", ["folder", "voc"])
def test_a_table_of_boxes_is_a_source_and_is_scored_against(demo, demo_config, kind):
    bare = folder(demo) if kind == "folder" else voc(demo, masks=None)
    path = demo / "boxes.csv"
    boxed = bare | {"boxes": str(path) if kind == "folder" else "boxes.csv"}
    without, given = (Plan(resolve(demo_config | {"dataset": part})) for part in (bare, boxed))
    assert ground_truth_sources(given) == [str(path)] and ground_truth_sources(without) == []
    assert dataset_sources(given) == dataset_sources(without)
    assert given.box_scores() and without.box_scores() == [] == given.scores()
    assert [line.split(": ")[0] for line in missing(given)] == [str(path)]
    boxes_file(demo)
    assert list(missing(given)) == []


def test_annotations_are_boxes_of_the_data_sets_own(demo, demo_config):
    for labels, expected in ((None, True), ("labels.csv", False)):
        dataset = voc(demo, image_labels=labels, masks=None)
        assert Plan(resolve(demo_config | {"dataset": dataset})).has_boxes is expected
    assert not Plan(demo_config).has_boxes and Plan(demo_config).has_masks


def test_nothing_is_written_after_a_problem(demo, tmp_path):
    (demo / "JPEGImages/train_00001.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 problem:\n.*train_00001.png"):
        prepare(tmp_path / "out", voc(demo))
    assert not (tmp_path / "out").exists()


def test_real_images_pass_the_checks(voc_subset, tmp_path):
    for split in ("train", "val"):
        ids = (
            (voc_subset / f"ImageSets/Segmentation/{split}.txt").read_text(encoding="utf-8").split()
        )
        (tmp_path / f"{split}.txt").write_text("\n".join(ids[:15]), encoding="utf-8")
    lists = {f"{split}_list": str(tmp_path / f"{split}.txt") for split in ("train", "val")}
    paths = prepare(tmp_path / "out", voc(voc_subset, classes=None, **lists))
    data = read_manifest(paths["manifest"], paths["classes"])
    assert len(data.records) == len(read_masks(paths["masks"])) == 30
    assert data.classes[14] == "person"


@pytest.mark.parametrize("name", ["JPEGImages", "SegmentationClass"])
def test_a_missing_folder_is_reported_before_any_job_runs(demo, demo_config, name):
    plan = Plan(resolve(demo_config | {"dataset": voc(demo)}))
    assert list(missing(plan)) == []
    (demo / name).rename(demo / "elsewhere")
    (problem,) = missing(plan)
    key = "masks" if name == "SegmentationClass" else "root"
    assert problem == f"{demo / name}: no such folder, named by the configuration's dataset.{key}"
    (demo / name).touch()
    (problem,) = missing(plan)
    assert problem.startswith(f"{demo / name}: a file, expected a folder, named by")


def test_a_table_and_a_folder_in_each_others_place_are_named(demo, demo_config):
    given = folder(demo)
    swapped = given | {"images": given["image_labels"], "image_labels": given["images"]}
    table, images = missing(Plan(resolve(demo_config | {"dataset": swapped})))
    named = "named by the configuration's dataset"
    assert table == f"{given['images']}: a folder, expected a file, {named}.image_labels"
    assert images == f"{given['image_labels']}: a file, expected a folder, {named}.images"


def test_the_settings_of_images_do_not_depend_on_masks(demo, demo_config):
    bare = Plan(resolve(demo_config | {"dataset": folder(demo)}))
    values = {255: "redcap"}
    masks = str(demo / "SegmentationClass")
    given = folder(demo, masks=masks, mask_values=values, classes=list(CLASSES))
    section = dataset_without_ground_truth(Plan(resolve(demo_config | {"dataset": given})))
    assert section == dataset_without_ground_truth(bare) | {"classes": list(CLASSES)}


def test_invalid_boxes_of_annotations_keep_labels_and_ground_truth(demo, tmp_path):
    box = "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>3</xmax><ymax>9</ymax></bndbox>"
    text = "<annotation><object><name>redcap</name>{}</object></annotation>"
    (demo / "Annotations").mkdir()
    images = sorted((demo / "JPEGImages").iterdir())
    for image, edge in zip(images, ("1", "9", "-1e308", "inf", "1", "1"), strict=True):
        (demo / f"Annotations/{image.stem}.xml").write_text(
            text.format(box.format(edge)), encoding="utf-8"
        )
    paths = prepare(tmp_path / "out", voc(demo, image_labels=None, masks=None))
    data = read_manifest(paths["manifest"], paths["classes"])
    assert all(record.labels == ("redcap",) for record in data.records)
    assert len(read_boxes(paths["boxes"])) == 3
    (finding,) = read_findings(paths["findings"])
    assert finding.name == "boxes that cannot be used" and finding.got.startswith("3, the first")


def test_images_can_be_used_as_stored(demo, tmp_path):
    path = demo / "JPEGImages/train_00001.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        stored = np.asarray(image)[:, :20].copy()
    Image.fromarray(stored).save(path, exif=exif)
    mask = demo / "SegmentationClass/train_00001.png"
    with Image.open(mask) as image:
        Image.fromarray(np.asarray(image)[:, :20].copy()).save(mask)
    with pytest.raises(UserError, match=r"mask is 20x32, expected 32x20 .* set `exif: ignore`"):
        prepare(tmp_path / "out", voc(demo))
    paths = prepare(tmp_path / "out", voc(demo, exif="ignore"))
    records = read_manifest(paths["manifest"], paths["classes"]).records
    (record,) = [record for record in records if record.image.parent.name == "images"]
    assert (record.id, record.width, record.height) == ("train_00001", 20, 32)
    assert np.array_equal(read_rgb(record.image), stored)
    export_image(record, tmp_path / "export.jpg", "link")  # of the size that labels have
    with Image.open(tmp_path / "export.jpg") as image:
        assert image.size == (20, 32) and not image.getexif()
    # What an export or another program does with the manifest's file changes nothing.
    with Image.open(record.image) as image:
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), stored)


def test_a_review_corrects_labels_and_leaves_the_table_as_it_is(demo, tmp_path):
    table = (demo / "labels.csv").read_bytes()
    plain = prepare(tmp_path / "plain", voc(demo))
    before = read_manifest(plain["manifest"], plain["classes"])
    first, second = before.records[:2]
    wanted = tuple(name for name in before.classes if name not in first.labels)[:1]
    review = [
        Judgment(first.id, "good", wanted),
        Judgment(second.id, "bad", None, "frayed"),
        Judgment(before.records[2].id, "", before.records[2].labels),
    ]
    write_review(tmp_path / "review.csv", review)
    made = prepare(tmp_path / "made", voc(demo), review=str(tmp_path / "review.csv"))
    after = read_manifest(made["manifest"], made["classes"])
    assert after.records[0] == replace(first, labels=wanted)
    assert after.records[1:] == before.records[1:]
    assert (demo / "labels.csv").read_bytes() == table
    differences = read_corrections(tmp_path / "made/corrections.csv")
    assert differences == [Correction(first.id, first.labels, wanted)]
    assert read_corrections(tmp_path / "plain/corrections.csv") == []
    write_review(tmp_path / "review.csv", [Judgment("nobody", "", wanted)])
    with pytest.raises(UserError, match="unknown image 'nobody'"):
        prepare(tmp_path / "wrong", voc(demo), review=str(tmp_path / "review.csv"))


def test_images_that_a_review_judges_bad_are_listed(demo, tmp_path):
    made = prepare(tmp_path / "made", voc(demo))
    ids = [record.id for record in read_manifest(made["manifest"], made["classes"]).records]
    arguments = {
        "review": tmp_path / "review.csv", "manifest": made["manifest"],
        "classes": made["classes"], "left_out": tmp_path / "left_out.csv",
    }  # fmt: skip
    write_review(tmp_path / "review.csv", [Judgment(ids[2], "bad"), Judgment(ids[0], "good")])
    list_left_out(**arguments)
    assert read_left_out([tmp_path / "left_out.csv"]) == {ids[2]}
    write_review(tmp_path / "review.csv", [Judgment(f"{ids[0]}x", "bad")])
    with pytest.raises(UserError, match=f"unknown image '{ids[0]}x'.*did you mean"):
        list_left_out(**arguments)
    # A row without a bad verdict does not rerun the job; the plan warns of it.
    write_review(tmp_path / "review.csv", [Judgment(ids[2], "bad"), Judgment("gone", "good")])
    list_left_out(**arguments)
    assert read_left_out([tmp_path / "left_out.csv"]) == {ids[2]}
