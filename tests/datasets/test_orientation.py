import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.ground_truth import check_ground_truth
from pipeline.datasets.manifest import Record
from pipeline.datasets.orientation import exif_orientation, stored_pixels, without_orientation
from pipeline.datasets.source import Candidate, Source
from pipeline.errors import UserError
from pipeline.io.images import read_rgb

STORED = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3)


def write(path, orientation, pixels=STORED):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9])
def test_the_stored_pixels_of_every_orientation(tmp_path, orientation, suffix):
    path = write(tmp_path / f"a.{suffix}", orientation)
    assert np.array_equal(stored_pixels(path), STORED)
    turned = orientation in range(2, 9)
    assert exif_orientation(path) == (orientation if turned else 1)
    assert np.array_equal(read_rgb(path), STORED) != turned


def test_no_image_has_no_orientation(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"text")
    assert exif_orientation(tmp_path / "a.jpg") == exif_orientation(tmp_path / "b.jpg") == 1


def test_only_rotated_images_are_rewritten(tmp_path, processes):
    upright, turned = write(tmp_path / "a.png", None), write(tmp_path / "b.png", 6)
    records = [
        Record("a", upright, 6, 4, "train", ("x",), "da"),
        Record("b", turned, 4, 6, "val", ("x",), "db"),
    ]
    (tmp_path / "out").mkdir()
    kept, rewritten = without_orientation(records, tmp_path / "out", workers=2)
    assert kept == records[0]
    assert rewritten == Record("b", tmp_path / "out/b.png", 6, 4, "val", ("x",), "db")
    assert np.array_equal(read_rgb(rewritten.image), STORED)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


def checked(image, mask, record_image=None, shape=(6, 4)):
    Image.fromarray(np.ones(mask, np.uint8)).save(image.with_name("mask.png"))
    candidate = Candidate("a", image, "train", ("x",), image.with_name("mask.png"))
    record = Record("a", record_image or image, shape[1], shape[0], "train", ("x",))
    return check_ground_truth(Source(("x",), [candidate]), [record], ["train"], threads=1)


def test_a_mask_of_the_stored_pixels_is_refused_with_the_reason(tmp_path):
    image = write(tmp_path / "a.png", 6)
    with pytest.raises(UserError, match=r"mask is 6x4, expected 4x6 as .*a\.png, which") as caught:
        checked(image, (4, 6))
    assert "has an EXIF rotation: the mask matches the pixels as stored" in str(caught.value)
    assert "set `exif: ignore`" in str(caught.value)
    with pytest.raises(UserError, match=r"expected 4x6 as .*a\.png$"):
        checked(image, (4, 7))
    with pytest.raises(UserError, match=r"expected 4x6 as .*c\.png$"):
        checked(write(tmp_path / "c.png", 3), (4, 6))
    stored = write(tmp_path / "stored.png", None)
    with pytest.raises(UserError, match=r"mask is 4x6, expected 6x4 .* set `exif: apply`"):
        checked(image, (6, 4), stored, (4, 6))


def test_a_rotated_image_whose_mask_fits_both_ways_is_a_finding(tmp_path):
    (finding,) = checked(write(tmp_path / "a.png", 3), (4, 6), shape=(4, 6)).findings
    assert finding.name == "masks of images with an EXIF rotation"
    assert "a (orientation 3)" in finding.got and "`exif: ignore`" in finding.fix
    square = write(tmp_path / "b.png", 6, STORED[:, :4].copy())
    assert len(checked(square, (4, 4), shape=(4, 4)).findings) == 1
    # The size tells that this mask was turned as the image was.
    assert checked(write(tmp_path / "c.png", 6), (6, 4)).findings == ()
