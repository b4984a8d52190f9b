"""Folders of further images: listed, labeled by a classifier, and given their masks."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.datasets.manifest import read_manifest
from pipeline.errors import UserError
from pipeline.io.arrays import read_label, read_soft_label, write_label
from pipeline.io.tables import read_table, write_class_scores
from pipeline.models.segmentation_network import (
    create_segmentation_network,
    save_segmentation_network,
)
from pipeline.stages.label_folder import label_folder
from pipeline.stages.list_folder import list_folder
from pipeline.stages.predict_folder import predict_folder
from pipeline.stages.predict_masks import predict_masks
from pipeline.stages.predict_soft_masks import predict_soft_masks
from tests.helpers.photographs import photograph


@pytest.fixture
def folder(tmp_path):
    """Three pictures, one in a sub-folder, one of them turned by its EXIF orientation."""
    root = tmp_path / "photographs"
    (root / "sea side").mkdir(parents=True)
    for name, size in {"a.png": (40, 30), "b.jpg": (40, 30), "sea side/ä.1.png": (33, 50)}.items():
        picture = Image.fromarray(photograph("chelsea", *size))
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "b.jpg" else 1
        picture.save(root / name, exif=exif)
    (root / "notes.txt").write_text("no picture", encoding="utf-8")
    return root


@pytest.fixture
def listed(folder, tmp_path):
    list_folder(images=folder, folder="holiday", manifest=tmp_path / "list.csv", threads=1)
    (tmp_path / "classes.json").write_text(json.dumps(["cat", "dog"]), encoding="utf-8")
    return tmp_path / "list.csv"


def test_a_folder_is_a_split_without_labels(listed, tmp_path):
    records = read_manifest(listed, tmp_path / "classes.json").of_split("holiday")
    assert [record.id for record in records] == ["a", "b", "sea side__ä.1"]
    assert [(record.width, record.height) for record in records] == [(30, 40), (40, 30), (50, 33)]
    assert all(record.labels == () for record in records)


def test_a_broken_or_empty_folder_is_named(folder, tmp_path):
    (folder / "a.png").write_bytes(b"broken")
    (folder / "b.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"(?s)b.png: b.jpg has the same name.*a.png: not an image"):
        list_folder(images=folder, folder="x", manifest=tmp_path / "list.csv", threads=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="split x has no image"):
        list_folder(images=tmp_path / "empty", folder="x", manifest=tmp_path / "l.csv", threads=1)
    assert not (tmp_path / "list.csv").exists()


def test_labels_are_the_confident_classes(listed, tmp_path):
    logits = {"a": [3.0, -3.0], "b": [0.1, 0.0], "sea side__ä.1": [-1.0, -2.0]}
    shards = [tmp_path / "0.csv", tmp_path / "1.csv"]
    rows = [(name, np.array(values)) for name, values in logits.items()]
    write_class_scores(shards[0], ["cat", "dog"], rows[::2])
    write_class_scores(shards[1], ["cat", "dog"], rows[1::2])
    label_folder(
        manifest=listed, classes=tmp_path / "classes.json", class_scores=shards,
        confidence=0.5, labeled=tmp_path / "labeled.csv",
    )  # fmt: skip
    records = read_manifest(tmp_path / "labeled.csv", tmp_path / "classes.json").records
    # The sigmoid of 0 is 0.5: enough.
    assert [record.labels for record in records] == [("cat",), ("cat", "dog"), ()]


def test_masks_have_the_folder_structure_of_their_images(listed, folder, tmp_path):
    shard = tmp_path / "shards/0"
    labels = {}
    for record in read_manifest(listed, tmp_path / "classes.json").records:
        labels[record.id] = np.zeros((record.height, record.width), np.uint8)
        labels[record.id][:, : record.width // 2] = 2
        write_label(shard / f"{record.id}.png", labels[record.id])
    result = tmp_path / "result"
    predict_folder(
        manifest=listed, classes=tmp_path / "classes.json", shards=[shard], images=str(folder),
        result=result, threads=1,
    )  # fmt: skip
    masks = sorted(p.relative_to(result).as_posix() for p in result.rglob("*.png"))
    assert masks == ["masks/a.png", "masks/b.png", "masks/sea side/ä.1.png"]
    assert np.array_equal(read_label(result / "masks/sea side/ä.1.png"), labels["sea side__ä.1"])
    rows = read_table(result / "masks.csv")
    assert [row["mask"] for row in rows] == masks
    assert [float(rows[0][name]) for name in ("background", "cat", "dog")] == [0.5, 0, 0.5]
    names = json.loads((result / "classes.json").read_text(encoding="utf-8"))
    assert names == {"0": "background", "1": "cat", "2": "dog", "255": "ignore"}
    with Image.open(result / "overview.jpg") as overview:
        assert overview.width > 1000


@pytest.fixture
def network(tmp_path, demo_config):
    torch.manual_seed(0)
    settings = demo_config["segmentation"]
    model = create_segmentation_network(settings, 3)
    save_segmentation_network(tmp_path / "net.safetensors", model.state_dict(), settings, 3)
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize(
    ("crf", "classes"),
    [(None, "winning"), ({"iterations": 2}, "winning"), ({"iterations": 2}, "all")],
)
def test_soft_predictions_are_the_probabilities_of_the_predictions(
    listed, network, tmp_path, crf, classes
):
    arguments = {
        "manifest": listed, "classes": tmp_path / "classes.json", "weights": network,
        "settings": {
            "scales": [1.0], "flip": False, "max_size": None, "crf": crf, "fuse": "probabilities",
            "crf_classes": classes,
        },
        "precision": "32-true", "split": "holiday", "shard": 0, "shards": 1, "threads": 1,
    }  # fmt: skip
    predict_masks(**arguments, predictions=tmp_path / "hard")
    predict_soft_masks(**arguments, soft_predictions=tmp_path / "soft")
    for path in (tmp_path / "hard").glob("*.png"):
        label = read_label(path)
        numbers, probabilities = read_soft_label(tmp_path / f"soft/{path.stem}.safetensors")
        assert numbers[0] == 0 and set(np.unique(label)) <= set(numbers)
        values = probabilities.astype(np.float32)
        assert values.sum(axis=0) == pytest.approx(1, abs=2e-3)
        ranked = np.sort(values, axis=0)
        clear = np.ones(label.shape, bool) if len(numbers) == 1 else ranked[-1] - ranked[-2] > 2e-3
        assert np.array_equal(numbers[values.argmax(axis=0)][clear], label[clear])


def test_links_ignored_files_and_16_bit_images_of_a_folder_are_reported(folder, tmp_path, caplog):
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.fromarray(np.full((70, 70), 900, np.uint16)).save(outside / "dim.png")
    (folder / "linked").symlink_to(outside)
    (folder / "._a.png").write_bytes(b"litter")
    list_folder(images=folder, folder="holiday", manifest=tmp_path / "list.csv", threads=1)
    ids = [row["id"] for row in read_table(tmp_path / "list.csv")]
    assert ids == ["a", "b", "linked__dim", "sea side__ä.1"]
    assert "1 entries in the image folder were skipped" in caplog.text
    assert "almost black: 1 of 4: linked__dim (largest value 900)" in caplog.text


def test_the_limit_of_pixels_holds_for_folders_too(folder, tmp_path):
    with pytest.raises(UserError, match=r"30 x 40 = 1200 pixels, expected at most 9"):
        list_folder(images=folder, folder="x", manifest=tmp_path / "l.csv", threads=1, max_pixels=9)
