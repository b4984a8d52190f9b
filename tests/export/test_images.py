from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.manifest import Record
from pipeline.errors import UserError
from pipeline.export.images import INCLUSIONS, export_image, link_target
from pipeline.io.images import read_rgb
from tests.helpers.photographs import photograph

RGB = photograph("coffee", 16, 24)


def saved(tmp_path, name="x.jpg", mode="RGB", size=(24, 16), **options):
    path = tmp_path / name
    Image.fromarray(RGB).convert(mode).save(path, **options)
    return Record("x", path, *size, "train", ())


def rotation(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("how", ["link", "copy"])
def test_a_plain_jpeg_is_taken_as_it_is(tmp_path, how, mode):
    record = saved(tmp_path, mode=mode, exif=rotation(1))
    assert not export_image(record, tmp_path / "out/y.jpg", how)
    assert (tmp_path / "out/y.jpg").read_bytes() == record.image.read_bytes()
    assert (tmp_path / "out/y.jpg").is_symlink() == (how == "link")


@pytest.mark.parametrize(
    ("name", "mode", "orientation"),
    [("x.png", "RGB", 1), ("x.jpg", "CMYK", 1), ("x.jpg", "RGB", 3), ("x.jpg", "RGB", 2)],
)
@pytest.mark.parametrize("how", ["link", "copy"])
def test_images_that_readers_decode_differently_are_rewritten_upright(
    tmp_path, how, name, mode, orientation
):
    record = saved(tmp_path, name, mode, exif=rotation(orientation))
    assert export_image(record, tmp_path / "y.jpg", how)
    with Image.open(tmp_path / "y.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (24, 16))
        assert dict(image.getexif()) == {}
        assert all(layer[1:3] == (1, 1) for layer in image.layer)  # no chroma subsampling
        shown = np.asarray(image).astype(int)
    assert np.abs(shown - read_rgb(record.image)).mean() < 4


def test_equal_images_are_written_as_equal_bytes(tmp_path):
    record = saved(tmp_path, "x.png")
    for name in ("one.jpg", "two.jpg"):
        export_image(record, tmp_path / name, "link")
    assert (tmp_path / "one.jpg").read_bytes() == (tmp_path / "two.jpg").read_bytes()


def test_images_are_not_opened_where_none_are_exported(tmp_path):
    absent = Record("x", tmp_path / "absent.jpg", 24, 16, "train", ())
    assert not export_image(absent, tmp_path / "y.jpg", "none")
    assert not (tmp_path / "y.jpg").exists()


@pytest.mark.parametrize("how", [how for how, include in INCLUSIONS.items() if include])
def test_a_missing_or_changed_image_is_an_error(tmp_path, how):
    with pytest.raises(UserError, match=r"image is \(16, 24\), expected \(17, 24\)"):
        export_image(saved(tmp_path, size=(24, 17)), tmp_path / "y.jpg", how)
    absent = Record("x", tmp_path / "absent.jpg", 24, 16, "train", ())
    with pytest.raises(UserError, match="no such image"):
        export_image(absent, tmp_path / "y.jpg", how)


@pytest.mark.parametrize("source", ["data/x.jpg", "data/../data/x.jpg", "{project}/data/x.jpg"])
def test_links_are_valid_after_the_project_was_moved(tmp_path, monkeypatch, source):
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    record = saved(project / "data")
    monkeypatch.chdir(project)
    path = Path(source.format(project=project))
    export_image(
        Record("x", path, 24, 16, "train", ()), Path("results/export/images/y.jpg"), "link"
    )
    project.rename(tmp_path / "moved")
    link = tmp_path / "moved/results/export/images/y.jpg"
    original = tmp_path / "moved/data" / record.image.name
    assert link.is_symlink() and link.resolve() == original
    assert link.read_bytes() == original.read_bytes()


def test_links_out_of_the_project_are_absolute(tmp_path, monkeypatch):
    project, disk = tmp_path / "project", tmp_path / "disk"
    for folder in (project / "data", disk / "results", tmp_path / "photos"):
        folder.mkdir(parents=True)
    (project / "results").symlink_to(disk / "results")
    (project / "linked").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(project)
    own = project / "own"
    own.mkdir()
    # The folder of the link is on another disk, or the image is beside the project.
    assert link_target(Path("data/x.jpg"), Path("results")) == project / "data/x.jpg"
    assert link_target(Path("../photos/x.jpg"), own) == tmp_path / "photos/x.jpg"
    assert link_target(tmp_path / "photos/x.jpg", own) == tmp_path / "photos/x.jpg"
    # A folder of the project that is a link itself moves with it.
    assert link_target(Path("linked/x.jpg"), own) == Path("../linked/x.jpg")
