import pytest

from pipeline.datasets.demo import CLASSES
from pipeline.datasets.manifest import Box, read_boxes, read_manifest, read_masks
from pipeline.errors import UserError
from pipeline.stages.generate_demo import generate_demo
from pipeline.stages.prepare_dataset import prepare_dataset


def prepare(out, dataset):
    paths = {name: out / name for name in ("manifest", "classes", "masks", "boxes")}
    prepare_dataset(sources=[], dataset=dataset, seed=0, threads=2, **paths)
    return paths


def voc(root, **changes):
    return {
        "kind": "voc",
        "root": str(root),
        "train_list": "ImageSets/Segmentation/train.txt",
        "val_list": "ImageSets/Segmentation/val.txt",
        "labels": "labels.csv",
        "masks": "SegmentationClass",
        "classes": list(CLASSES),
    } | changes


@pytest.fixture
def demo(tmp_path):
    generate_demo(train=4, val=2, size=32, seed=0, demo=tmp_path / "demo")
    return tmp_path / "demo"


def test_the_demo_passes_the_checks_and_gives_labels_apart_from_masks(demo, tmp_path):
    paths = prepare(tmp_path / "out", voc(demo))
    data = read_manifest(paths["manifest"], paths["classes"])
    assert data.classes == CLASSES
    assert [len(data.of_split(split)) for split in ("train", "val")] == [4, 2]
    assert all(
        record.labels and (record.width, record.height) == (32, 32) for record in data.records
    )
    assert read_masks(paths["masks"]).keys() == {record.id for record in data.records}
    assert "SegmentationClass" not in paths["manifest"].read_text()


def test_without_masks_the_list_of_masks_is_empty(demo, tmp_path):
    assert read_masks(prepare(tmp_path / "out", voc(demo, masks=None))["masks"]) == {}


def test_annotated_boxes_are_listed_apart(demo, tmp_path):
    data = "<annotation><object><name>redcap</name><bndbox><xmin>1</xmin><ymin>2</ymin>"
    data += "<xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
    (demo / "Annotations").mkdir()
    for image in (demo / "JPEGImages").iterdir():
        (demo / f"Annotations/{image.stem}.xml").write_text(data)
    paths = prepare(tmp_path / "out", voc(demo, labels=None))
    boxes = read_boxes(paths["boxes"])
    assert len(boxes) == 6 and boxes["train_00000"] == [Box("redcap", 0, 1, 3, 4)]
    assert read_boxes(prepare(tmp_path / "other", voc(demo))["boxes"]) == {}


def test_the_same_pictures_as_a_folder(demo, tmp_path):
    dataset = {
        "kind": "folder",
        "images": str(demo / "JPEGImages"),
        "labels": str(demo / "labels.csv"),
        "masks": str(demo / "SegmentationClass"),
        "classes": list(CLASSES),
        "val_fraction": 0.5,
    }
    paths = prepare(tmp_path / "out", dataset)
    data = read_manifest(paths["manifest"], paths["classes"])
    assert [len(data.of_split(split)) for split in ("train", "val")] == [3, 3]
    assert len(read_masks(paths["masks"])) == 6


def test_nothing_is_written_where_anything_is_wrong(demo, tmp_path):
    (demo / "JPEGImages/train_00001.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 problem:\n.*train_00001.png"):
        prepare(tmp_path / "out", voc(demo))
    assert not (tmp_path / "out").exists()


def test_real_photographs_pass_the_checks(voc_subset, tmp_path):
    for split in ("train", "val"):
        ids = (voc_subset / f"ImageSets/Segmentation/{split}.txt").read_text().split()
        (tmp_path / f"{split}.txt").write_text("\n".join(ids[:15]))
    lists = {f"{split}_list": str(tmp_path / f"{split}.txt") for split in ("train", "val")}
    paths = prepare(tmp_path / "out", voc(voc_subset, classes=None, **lists))
    data = read_manifest(paths["manifest"], paths["classes"])
    assert len(data.records) == len(read_masks(paths["masks"])) == 30
    assert data.classes[14] == "person"
