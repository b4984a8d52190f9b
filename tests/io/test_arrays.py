import errno
import json
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import save_file

from pipeline.errors import UserError
from pipeline.io.arrays import (
    ClassMaps,
    MapShard,
    maps_by_id,
    read_counts,
    read_label,
    read_made_label,
    read_network,
    read_soft_label,
    read_weights,
    write_counts,
    write_label,
    write_maps,
    write_soft_label,
    write_weights,
)
from pipeline.io.files import replacing
from pipeline.io.tables import (
    read_class_scores,
    read_json,
    read_table,
    write_class_scores,
    write_json,
    write_table,
)


@given(
    maps=st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6),
        hnp.arrays(
            np.float16,
            hnp.array_shapes(min_dims=3, max_dims=3, max_side=4),
            elements=st.floats(-2, 2, width=16),
        ),
        max_size=4,
    )
)
def test_maps_read_back_as_written(tmp_path_factory, maps):
    path = tmp_path_factory.mktemp("maps") / "0.safetensors"
    items = {
        name: ClassMaps(
            np.arange(1, 1 + len(values)), values, (4 * values.shape[1], 4 * values.shape[2])
        )
        for name, values in maps.items()
    }
    write_maps(path, items.items())
    shard = MapShard(path)
    assert sorted(items) == shard.ids
    for name, read in shard:
        np.testing.assert_array_equal(read.values, items[name].values)
        assert read.values.dtype == np.float16
        assert read.classes.tolist() == items[name].classes.tolist()
        assert read.size == items[name].size


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_maps_that_are_not_numbers_are_refused(tmp_path, value):
    values = np.zeros((1, 2, 2), np.float16)
    values[0, 1, 1] = value
    path = tmp_path / "0.safetensors"
    write_maps(path, [("a", ClassMaps(np.array([1]), values, (8, 8)))])
    with pytest.raises(UserError, match="maps of a hold values that are not finite"):
        MapShard(path)["a"]


def test_maps_store_full_resolution_and_agreement_of_views(tmp_path):
    values, agreement = np.ones((2, 1, 1), np.float16), np.array([0.25, 0.75], np.float32)
    full = np.linspace(0, 1, 32).reshape(2, 4, 4).astype(np.float16)
    said = ClassMaps(np.array([1, 2]), values, (4, 4), agreement, full)
    write_maps(tmp_path / "0.safetensors", [("a", said)])
    write_maps(tmp_path / "1.safetensors", [("b", ClassMaps(np.array([1, 2]), values, (4, 4)))])
    shards = maps_by_id([tmp_path / "0.safetensors", tmp_path / "1.safetensors"], ["b", "a"])
    assert shards["a"]["a"].agreement.tolist() == [0.25, 0.75]
    np.testing.assert_array_equal(shards["a"]["a"].full, full)
    assert shards["b"]["b"].agreement is None and shards["b"]["b"].full is None
    with pytest.raises(UserError, match="1 of 2 images have no maps, first c"):
        maps_by_id([tmp_path / "0.safetensors"], ["a", "c"])


def test_counts_read_back_as_written(tmp_path):
    counts = np.arange(12).reshape(2, 3, 2) * 2**33
    write_counts(tmp_path / "c.safetensors", ["b", "a, ä"], counts)
    ids, read = read_counts(tmp_path / "c.safetensors")
    assert ids == ["b", "a, ä"] and np.array_equal(read, counts)


def test_soft_labels_read_back_to_half_precision(tmp_path):
    probabilities = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    write_soft_label(tmp_path / "s.safetensors", np.array([0, 7]), probabilities)
    numbers, read = read_soft_label(tmp_path / "s.safetensors")
    assert numbers.tolist() == [0, 7] and numbers.dtype == np.uint8
    assert read.dtype == np.float16 and np.allclose(read, probabilities, atol=5e-4)


def test_a_table_has_empty_cells_where_there_is_no_number(tmp_path):
    write_table(
        tmp_path / "t.csv", ("id", "x"), [("a, b", np.float64(0.5)), ("c", np.nan), ("d", None)]
    )
    rows = [{"id": "a, b", "x": "0.5"}, {"id": "c", "x": ""}, {"id": "d", "x": ""}]
    assert read_table(tmp_path / "t.csv") == rows


def test_class_scores_read_back_as_written(tmp_path):
    rows = {"a": np.array([0.5, -12.25]), "b,c": np.array([1e-9, 3e8])}
    write_class_scores(tmp_path / "s.csv", ["cat", "dog, wet"], rows.items())
    read = read_class_scores([tmp_path / "s.csv"])
    assert list(read) == list(rows)
    for name, scores in rows.items():
        np.testing.assert_allclose(read[name], scores, rtol=1e-5)


def test_an_image_without_classes_has_empty_maps(tmp_path):
    empty = ClassMaps(np.array([], np.int64), np.zeros((0, 2, 3), np.float16), (8, 12))
    write_maps(tmp_path / "0.safetensors", [("a", empty)])
    read = MapShard(tmp_path / "0.safetensors")["a"]
    assert read.values.shape == (0, 2, 3)
    assert read.size == (8, 12)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_label_images_read_back_as_written(tmp_path_factory, label):
    path = tmp_path_factory.mktemp("labels") / "x.png"
    write_label(path, label)
    assert np.array_equal(read_label(path), label)


def test_label_images_have_the_voc_palette(tmp_path):
    write_label(tmp_path / "x.png", np.array([[0, 1, 255]], np.uint8))
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "P"
        colors = image.convert("RGB")
        assert colors.getpixel((1, 0)) == (128, 0, 0)
        assert colors.getpixel((2, 0)) == (224, 224, 192)


def test_gray_masks_of_other_writers_are_read(tmp_path):
    label = np.array([[0, 7, 255]], np.uint8)
    Image.fromarray(label).save(tmp_path / "x.png")
    assert np.array_equal(read_label(tmp_path / "x.png"), label)


def gray_png(path, depth, row, width):
    """Write one row of a gray PNG with less than 8 bits a pixel."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, 1, depth, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" + bytes(row))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_black_and_white_masks_are_0_and_1(tmp_path):
    assert read_label(gray_png(tmp_path / "a.png", 1, [0b01100000], 4)).tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize(("depth", "row"), [(2, [0b00011000]), (4, [0x01, 0x20])])
def test_gray_masks_that_readers_scale_are_refused(tmp_path, depth, row):
    with pytest.raises(UserError, match=rf"a\.png: a mask is gray with {depth} bits per pixel"):
        read_label(gray_png(tmp_path / "a.png", depth, row, 3))


def test_masks_in_color_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="a mask is RGB, expected one channel"):
        read_label(tmp_path / "x.png")


@pytest.mark.parametrize("reader", [MapShard, read_weights])
def test_damaged_files_are_named(tmp_path, reader):
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x00\x01damaged")
    with pytest.raises(UserError, match=r"x\.bin: not a complete .*delete it"):
        reader(path)


def test_weights_read_back_with_their_description(tmp_path):
    tensors = {"a": torch.randn(2, 3).T, "b": torch.tensor(3)}
    write_weights(tmp_path / "w.safetensors", tensors, {"classes": 3, "name": "ü"})
    read, description = read_weights(tmp_path / "w.safetensors")
    assert description == {"classes": 3, "name": "ü"}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left"), SafetensorError("I/O error (os error 28)")],
)
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, error):
    with (
        pytest.raises(OSError, match=r"\[Errno 28\].*file.txt") as caught,
        replacing(tmp_path / "file.txt") as partial,
    ):
        partial.write_text("half", encoding="utf-8")
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_scores_are_plain_json_without_nan(tmp_path):
    scores = {"a": np.float64(0.5), "b": float("nan"), "c": [np.int64(3), (1.0, None)]}
    write_json(tmp_path / "s.json", scores)
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8")) == {
        "a": 0.5,
        "b": None,
        "c": [3, [1.0, None]],
    }
    assert read_json(tmp_path / "s.json")["c"] == [3, [1.0, None]]


def test_a_damaged_label_of_the_users_is_to_be_replaced(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"\x00\x01damaged")
    with pytest.raises(UserError, match=r"x\.png: not a mask of a known format.*replace the file"):
        read_label(path)


def test_a_label_that_a_job_made_is_named_by_its_folder(tmp_path):
    path = tmp_path / "shard/x.png"
    write_label(path, np.zeros((3, 4), np.uint8))
    assert read_made_label(path, (3, 4)).shape == (3, 4)
    with pytest.raises(UserError, match=r"shard: its label x\.png .*\(3, 4\).*\(4, 3\)"):
        read_made_label(path, (4, 3))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match="delete this folder and run again"):
        read_made_label(path)


def test_maps_of_a_layout_without_a_stride_are_refused(tmp_path):
    maps = ClassMaps(np.array([1]), np.ones((1, 3, 3), np.float16), (9, 30))
    write_maps(tmp_path / "0.safetensors", [("a", maps)])
    with pytest.raises(UserError, match=r"0\.safetensors: a: maps are \(3, 3\), .*make them again"):
        MapShard(tmp_path / "0.safetensors")["a"]


def test_maps_of_an_image_of_another_size_are_refused(tmp_path):
    write_maps(
        tmp_path / "0.safetensors", [("a", ClassMaps(np.array([1]), np.ones((1, 2, 2)), (5, 6)))]
    )
    shard = MapShard(tmp_path / "0.safetensors")
    assert shard.of_size("a", (5, 6)).size == (5, 6)
    with pytest.raises(UserError, match=r"0\.safetensors: maps of a .*\(5, 6\), expected \(6, 5\)"):
        shard.of_size("a", (6, 5))


def write_some_maps(path):
    values = np.linspace(0, 1, 24).reshape(2, 3, 4)
    agreement = np.array([0.25, 0.75], np.float32)
    maps = ClassMaps(np.array([1, 300]), values, (12, 16), agreement)
    empty = ClassMaps(np.array([], np.int64), np.zeros((0, 3, 4)), (12, 16), np.zeros(0))
    write_maps(path, [("ä", maps), ("none", empty)])


def contents_of_maps(path):
    maps = dict(iter(MapShard(path)))
    return {k: (m.classes, m.values, np.array(m.size), m.agreement) for k, m in maps.items()}


def write_some_weights(path):
    tensors = {
        "w": torch.linspace(-1, 1, 21).reshape(3, 7),
        "scale": torch.tensor(3),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    write_weights(path, tensors, {"kind": "ä", "nested": [1, {"a": 0.5}]})


def write_a_label(path):
    label = np.zeros((20, 30), np.uint8)
    label[3:9, 4:20], label[15:] = 7, 255
    label[np.random.default_rng(0).random(label.shape) < 0.1] = 1
    write_label(path, label)


PROBABILITIES = np.random.default_rng(0).random((2, 3, 4))
#: How every kind of file is written, and what is in it.
KINDS = {
    "maps": (write_some_maps, contents_of_maps),
    "counts": (
        lambda path: write_counts(path, ["a", "ä"], np.arange(12).reshape(2, 3, 2)),
        read_counts,
    ),
    "soft": (
        lambda path: write_soft_label(path, np.array([0, 7]), PROBABILITIES),
        read_soft_label,
    ),
    "weights": (write_some_weights, read_weights),
    "label": (write_a_label, read_made_label),
}


def plain(content):
    """Make what files hold comparable: types, shapes and bytes of arrays."""
    if isinstance(content, torch.Tensor):
        return str(content.dtype), tuple(content.shape), content.tolist()
    if isinstance(content, np.ndarray):
        return str(content.dtype), content.shape, content.tobytes()
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (tuple, list)):
        return [plain(value) for value in content]
    return content


def content_or_refusal(read, path):
    """Read a file that may be damaged; anything but a UserError is a fault of the reader."""
    try:
        return plain(read(path))
    except UserError as error:
        assert path.stem in str(error) and "\n" not in str(error)
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_is_detected_or_harmless(tmp_path, kind):
    write, read = KINDS[kind]
    path = tmp_path / f"{kind}.file"
    write(path)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    expected = content_or_refusal(read, path)
    assert expected is not None
    refused = 0
    for at, by in enumerate(rng.integers(1, 256, len(whole)).tolist()):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ by]) + whole[at + 1 :])
        found = content_or_refusal(read, path)
        assert found in (None, expected), f"byte {at}"
        refused += found is None
    assert refused > 0.95 * len(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_or_a_lost_block_is_detected(tmp_path, kind):
    write, read = KINDS[kind]
    path = tmp_path / f"{kind}.file"
    write(path)
    whole, rng = path.read_bytes(), np.random.default_rng(2)
    expected = content_or_refusal(read, path)
    for length in rng.integers(0, len(whole), 50).tolist():
        path.write_bytes(whole[:length])
        assert content_or_refusal(read, path) is None
    for start, length in zip(
        rng.integers(0, len(whole), 200), rng.integers(1, 99, 200), strict=True
    ):
        for block in (bytes(length), rng.bytes(length)):
            content = whole[:start] + block + whole[start + length :]
            path.write_bytes(content[: len(whole)])
            assert content_or_refusal(read, path) in (None, expected)


def test_the_tensor_that_is_damaged_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, {"w": torch.zeros(50, 7), "n": torch.ones(1)}, {})
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"w does not match its checksum.*delete it"):
        read_weights(path)


@pytest.mark.parametrize("described", ["[1, 2]", '"x"', "3", "text", "{", "null", "crc32:0 {}"])
def test_a_description_of_another_writer_is_a_json_object(tmp_path, described):
    path = tmp_path / "w.safetensors"
    save_file({"w": np.ones(3)}, path, metadata={"description": described, "format": "pt"})
    with pytest.raises(UserError, match=r"w\.safetensors: .*its description is.*delete it"):
        read_weights(path)
    save_file({"w": np.ones(3)}, path, metadata={"description": '{"kind": 3}', "format": "pt"})
    assert read_network(path, ["kind"])[1] == {"kind": 3}
    save_file({"w": np.ones(3)}, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="a weights file without kind, expected kind"):
        read_network(path, ["kind"])


def test_counts_of_other_writers_need_their_ids(tmp_path):
    save_file({"counts": np.ones((1, 3, 2), np.int64)}, tmp_path / "c.safetensors")
    with pytest.raises(UserError, match=r"c\.safetensors: .*it has no image ids"):
        read_counts(tmp_path / "c.safetensors")


def test_files_of_other_writers_have_no_checksums(tmp_path):
    save_file({"w": torch.ones(3).numpy()}, tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors")[0]["w"].tolist() == [1, 1, 1]


def test_files_of_every_kind_have_the_permissions_of_the_umask(tmp_path):
    write_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {})
    write_label(tmp_path / "l.png", np.zeros((2, 2), np.uint8))
    before = os.umask(0o022)
    os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {0o666 & ~before}
