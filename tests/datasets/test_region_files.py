"""Files of SAM's automatic mask generator, in the forms that its scripts write."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from pipeline.datasets.manifest import Record
from pipeline.datasets.region_files import find_region_files, read_regions, unmatched
from pipeline.errors import UserError
from tests.helpers.region_masks import masks_of

SIZE = (30, 40)
RECORD = Record("a", Path("a.jpg"), 40, 30, "train", ("cat",))


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(0)
    blurred = [cv2.GaussianBlur(rng.random(SIZE), (9, 9), 3) for _ in range(11)]
    return [one > np.median(one) for one in blurred]


def annotation(mask, compressed=True):
    """Return a mask as SAM's generator does with output_mode=coco_rle."""
    found = coco.encode(np.asfortranarray(mask, np.uint8))
    counts = found["counts"].decode()
    if not compressed:
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff([0, *edges, flat.size]).tolist()
        counts = [0, *counts] if flat[0] else counts
    return {
        "segmentation": {"size": list(mask.shape), "counts": counts},
        "area": int(mask.sum()), "bbox": [0, 0, 40, 30], "predicted_iou": 0.9,
        "point_coords": [[1.5, 2.5]], "stability_score": 0.95, "crop_box": [0, 0, 40, 30],
    }  # fmt: skip


def write_pngs(folder, masks):
    """Write masks as amg.py does without --convert-to-rle."""
    folder.mkdir(parents=True)
    for number, mask in enumerate(masks):
        cv2.imwrite(str(folder / f"{number}.png"), mask.astype(np.uint8) * 255)
    (folder / "metadata.csv").write_text("id,area\n", encoding="utf-8")


def written(folder, masks, form):
    """Write the masks of the image a in one of the forms."""
    if form == "pngs":
        return write_pngs(folder / "a", masks)
    document = [annotation(mask, form != "plain list") for mask in masks]
    if form == "SA-1B":
        image = {"image_id": 1, "width": 40, "height": 30, "file_name": "sa_1.jpg"}
        document = {"image": image, "annotations": document}
    (folder / "a.json").write_text(json.dumps(document), encoding="utf-8")
    return None


@pytest.mark.parametrize("form", ["plain list", "list", "SA-1B", "pngs"])
def test_masks_are_read_in_their_order(tmp_path, masks, form):
    written(tmp_path, masks, form)
    found = masks_of(read_regions(tmp_path, RECORD))
    assert len(found) == len(masks)
    for one, other in zip(found, masks, strict=True):  # 10.png behind 9.png
        assert np.array_equal(one, other)


@pytest.mark.parametrize("form", ["list", "SA-1B", "pngs"])
def test_an_image_may_have_no_mask(tmp_path, form):
    written(tmp_path, [], form)
    assert len(read_regions(tmp_path, RECORD)) == 0


@pytest.mark.parametrize("form", ["list", "SA-1B", "pngs"])
def test_masks_of_another_size_are_refused(tmp_path, masks, form):
    written(tmp_path, masks, form)
    turned = Record("a", Path("a.jpg"), 30, 40, "train", ("cat",))
    with pytest.raises(UserError, match=r"a.*30.*40.*expected.*40.*30") as error:
        read_regions(tmp_path, turned)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "a.json: not complete JSON .*: write the masks again"),
        ("[" * 100_000, "a.json: not complete JSON"),
        ('{"image": {}}', "a.json: no list of masks, expected one, or a mapping"),
        ("3", "a.json: no list of masks"),
        ("[3]", "a.json: mask 0: it is no annotation"),
        ('[{"area": 3}]', "a.json: mask 0: its segmentation has no size and counts"),
        ('{"image": {"height": 3, "width": 4}, "annotations": []}', "image of 3 x 4 .*, expected"),
        (b"\xff\xfe", "a.json: not UTF-8 text"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, message):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_regions(tmp_path, RECORD)


@given(st.data())
def test_a_file_that_is_cut_or_changed_is_read_or_refused(tmp_path_factory, masks, data):
    folder = tmp_path_factory.mktemp("damaged")
    text = json.dumps([annotation(mask) for mask in masks[:2]])
    at, character = (
        data.draw(st.integers(0, len(text) - 1)),
        data.draw(st.characters(codec="utf-8")),
    )
    cut = data.draw(st.booleans())
    damaged = text[:at] if cut else text[:at] + character + text[at + 1 :]
    (folder / "a.json").write_text(damaged, encoding="utf-8")
    try:
        regions = read_regions(folder, RECORD)
    except UserError as error:
        assert "a.json" in str(error)
    else:
        assert not cut and all(mask.shape == SIZE for mask in masks_of(regions))


def test_a_folder_needs_masks_that_can_be_read(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match=r"a: no masks, expected 0.png, 1.png"):
        read_regions(tmp_path, RECORD)
    (tmp_path / "a/0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"a/0.png: not a mask of a known format"):
        read_regions(tmp_path, RECORD)
    (tmp_path / "a/0.png").unlink()
    (tmp_path / "a").rmdir()
    with pytest.raises(UserError, match=r"no masks of a, expected a.json or a folder a"):
        read_regions(tmp_path, RECORD)


def test_masks_and_images_that_do_not_match_are_listed(tmp_path):
    for name in ("a.json", "c.json", "d.json", "b/0.png", "a.jpg", ".b.json", "c/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_region_files(tmp_path).files.keys() == {"a", "b", "c", "d"}
    assert list(unmatched(tmp_path, ["a", "b", "e", "f"], ["a", "b", "c", "e", "f"])) == [
        f"{tmp_path}: masks of c are in a folder and in a JSON file, expected one of them: delete "
        "the other",
        f"{tmp_path}: no masks of 2 of 4 images, first e, f, expected e.json or a folder e of PNGs",
        f"{tmp_path}: masks of 1 names that are no image of the data set, first d: delete them, "
        "or name them as the images",
    ]
    assert len(list(unmatched(tmp_path, ["a", "b"], None))) == 1
