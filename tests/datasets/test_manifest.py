from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.manifest import (
    Box,
    Manifest,
    Record,
    read_boxes,
    read_manifest,
    read_masks,
    write_boxes,
    write_classes,
    write_manifest,
    write_masks,
)
from pipeline.datasets.masks import Mask
from pipeline.errors import UserError

NAMES = st.text(
    st.characters(exclude_characters=";", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8
)


def record(name, labels=(), split="train"):
    return Record(name, Path(f"images/{name}.jpg"), 4, 3, split, tuple(labels))


@given(
    classes=st.lists(NAMES, min_size=1, max_size=5, unique=True),
    ids=st.lists(NAMES, max_size=5, unique=True),
    data=st.data(),
)
def test_a_manifest_reads_back_as_written(tmp_path_factory, classes, ids, data):
    folder = tmp_path_factory.mktemp("manifest")
    labels = st.lists(st.sampled_from(classes), unique=True).map(tuple)
    records = [record(name, data.draw(labels)) for name in ids]
    write_manifest(folder / "m.csv", records)
    write_classes(folder / "c.json", classes)
    again = read_manifest(folder / "m.csv", folder / "c.json")
    assert again == Manifest(tuple(classes), tuple(records))


def test_masks_read_back_as_written(tmp_path):
    (tmp_path / "ü").mkdir()
    masks = {"a": tmp_path / "a.png", "b, c": tmp_path / "ü/b.png"}
    for path in masks.values():
        path.write_bytes(b"one")
    write_masks(tmp_path / "masks.csv", masks)
    assert read_masks(tmp_path / "masks.csv") == {key: Mask(path) for key, path in masks.items()}
    first = (tmp_path / "masks.csv").read_bytes()
    masks["a"].write_bytes(b"two")  # as long as before
    write_masks(tmp_path / "masks.csv", masks)
    assert (tmp_path / "masks.csv").read_bytes() != first


def test_mask_values_read_back_as_written(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    write_masks(tmp_path / "masks.csv", {"a": path}, {255: 1, 0: 0, 7: 255})
    assert read_masks(tmp_path / "masks.csv") == {"a": Mask(path, {255: 1, 0: 0, 7: 255})}
    text = (tmp_path / "masks.csv").read_text(encoding="utf-8")
    for wrong in ("255", "255=1=2", "256=1", "a=1", "0=-1"):
        (tmp_path / "masks.csv").write_text(
            text.replace("255=1 0=0 7=255", wrong), encoding="utf-8"
        )
        with pytest.raises(UserError, match=r"masks\.csv: not a complete list of masks"):
            read_masks(tmp_path / "masks.csv")


def test_other_columns_are_refused(tmp_path):
    (tmp_path / "m.csv").write_text("id,image\n", encoding="utf-8")
    write_classes(tmp_path / "c.json", ["a"])
    with pytest.raises(UserError, match=r"columns are \['id', 'image'\], expected"):
        read_manifest(tmp_path / "m.csv", tmp_path / "c.json")


def test_targets_and_class_numbers_by_hand():
    manifest = Manifest(("a", "b", "c"), (record("x", ("c", "a")), record("y")))
    assert manifest.class_numbers(manifest.records[0]).tolist() == [1, 3]
    assert manifest.class_numbers(manifest.records[1]).tolist() == []
    assert manifest.targets(manifest.records).tolist() == [[1, 0, 1], [0, 0, 0]]


@given(count=st.integers(0, 20), shards=st.integers(1, 7))
def test_shards_cover_a_split_once(count, shards):
    records = tuple(record(str(k), split="train" if k % 3 else "val") for k in range(count))
    manifest = Manifest(("a",), records)
    parts = [manifest.of_shard("train", shard, shards) for shard in range(shards)]
    assert sorted(r.id for part in parts for r in part) == sorted(
        r.id for r in manifest.of_split("train")
    )
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_boxes_read_back_as_written(tmp_path):
    boxes = {
        "a": [Box('say "cat", dog', 0, 1.5, 3, 4), Box("dog", -1, 0, 2, 2)],
        "b": [Box("dog", 0, 0, 1, 1)],
    }
    write_boxes(tmp_path / "boxes.csv", boxes | {"c": []})
    assert read_boxes(tmp_path / "boxes.csv") == boxes


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("manifest", "id,image,width,height,split,labels,digest\na,a.png,4x,5,train,cat,\n", "4x"),
        ("manifest", "id,image,width,height,split,labels,digest\na,a.png,4\n", "row 2 has 3 cells"),
        ("manifest", "id,image\n", "columns are"),
        ("manifest", "", "the file is empty"),
        ("classes", '["cat", "d', "Unterminated string"),
        ("classes", '{"cat": 1}', "list of class names"),
    ],
)
def test_damaged_files_are_named(small_dataset, name, content, words):
    small_dataset[name].write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        read_manifest(small_dataset["manifest"], small_dataset["classes"])
    message = str(raised.value)
    assert message.startswith(str(small_dataset[name])) and "delete it" in message
    assert words in message


def test_a_damaged_table_of_boxes_is_named(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("id,label,left,top,right,bottom\na,cat,1,2,x,4\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"boxes\.csv: not a complete table of boxes"):
        read_boxes(path)
