import errno
import io
import os
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets import sbd as sbd_masks
from pipeline.datasets.devkit import assemble_devkit, train_aug
from pipeline.datasets.sbd import read_segmentation
from pipeline.datasets.voc import read_voc
from pipeline.errors import UserError
from pipeline.io.arrays import read_label
from tests.helpers.devkit import (
    SBD,
    TRAIN,
    TRAIN_AUG,
    VAL,
    VOC,
    assert_assembled,
    lines,
    mask_of,
    mat,
    sbd_files,
    tree,
    voc_files,
    write_archive,
)


@pytest.fixture
def archives(tmp_path):
    (tmp_path / "data").mkdir()
    voc = write_archive(tmp_path / "data/voc.tar", voc_files())
    return voc, write_archive(tmp_path / "data/sbd.tgz", sbd_files())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data/VOC2012"


def nothing_is_left(folder):
    return sorted(path.name for path in folder.parent.parent.rglob("*")) == [
        "data", "sbd.tgz", "voc.tar",
    ]  # fmt: skip


def test_the_devkit_of_both_archives(archives, folder, caplog):
    caplog.set_level("INFO")
    assemble_devkit(*archives, folder)
    assert_assembled(folder)
    assert "train_aug: 4 images, 2 of them with a mask of SBD" in caplog.text
    assert "has 4 images, expected 10582 as published" in caplog.text
    with Image.open(folder / "SegmentationClassAug/2008_1.png") as image:
        assert image.mode == "P"


def test_the_devkit_of_voc_alone(archives, folder):
    assemble_devkit(archives[0], None, folder)
    assert_assembled(folder, with_sbd=False)


def test_masks_are_converted_by_several_processes(archives, folder, processes):
    assemble_devkit(*archives, folder, workers=2)
    assert_assembled(folder)


def test_a_compressed_archive_of_voc_and_a_plain_one_of_sbd(archives, folder):
    voc = write_archive(archives[0].with_suffix(".tgz"), voc_files())
    sbd = write_archive(archives[1].with_suffix(".tar"), sbd_files())
    assemble_devkit(voc, sbd, folder)
    voc.unlink()
    sbd.unlink()
    assert_assembled(folder)


def test_the_devkit_is_read_as_a_data_set(archives, folder):
    assemble_devkit(*archives, folder)
    lists = {f"{part}_list": f"ImageSets/Segmentation/{name}.txt"
             for part, name in (("train", "train_aug"), ("val", "val"))}  # fmt: skip
    others = {
        "root": folder,
        "image_labels": None,
        "masks": "SegmentationClassAug",
        "classes": None,
    }
    source = read_voc(lists | others)
    assert source.problems == []
    assert [c.id for c in source.candidates] == TRAIN_AUG + VAL
    for candidate in source.candidates:
        seed = 0 if candidate.id in TRAIN + VAL else 1
        np.testing.assert_array_equal(read_label(candidate.mask), mask_of(candidate.id, seed))


ids = st.sets(st.sampled_from("abcdefgh"))


@given(sbd=ids, train=ids, val=ids)
def test_train_aug_is_everything_but_val(sbd, train, val):
    found = train_aug(sbd, train, val)
    assert found == sorted(found)
    for name in "abcdefgh":
        assert found.count(name) == ((name in sbd or name in train) and name not in val)


def entry(name, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


DANGEROUS = {
    "above": entry("../../evil"),
    "above, by a detour": entry(f"{VOC}/JPEGImages/../../../../../evil"),
    "absolute": entry("/evil"),
    "link to above": entry(f"{VOC}/x", tarfile.SYMTYPE, "../../../.."),
    "absolute link": entry(f"{SBD}/x", tarfile.SYMTYPE, "/etc"),
    "hard link to above": entry(f"{VOC}/x", tarfile.LNKTYPE, "../../evil"),
    "device": entry(f"{VOC}/x", tarfile.CHRTYPE),
    "pipe": entry(f"{VOC}/x", tarfile.FIFOTYPE),
    "link for a photograph": entry(f"{VOC}/JPEGImages/x.jpg", tarfile.SYMTYPE, "2007_1.jpg"),
    "hard link for a mask": entry(f"{SBD}/cls/x.mat", tarfile.LNKTYPE, f"{SBD}/train.txt"),
}


@pytest.mark.parametrize("dangerous", DANGEROUS)
@pytest.mark.parametrize("alone", [False, True])
def test_a_dangerous_entry_is_reported_and_nothing_is_left(archives, folder, dangerous, alone):
    bad = DANGEROUS[dangerous]
    index, files = (1, sbd_files()) if bad.name.startswith(SBD) else (0, voc_files())
    good = archives[index].read_bytes()
    write_archive(archives[index], {} if alone else files, bad)
    with pytest.raises(UserError, match=r"is refused") as caught:
        assemble_devkit(*archives, folder)
    assert str(archives[index]) in str(caught.value) and repr(bad.name) in str(caught.value)
    assert nothing_is_left(folder)
    archives[index].write_bytes(good)
    assemble_devkit(*archives, folder)
    assert_assembled(folder)


@pytest.mark.parametrize("time", ["nan", "inf", "-1e308", "1e30"])
def test_times_that_no_file_can_have_are_not_restored(archives, folder, time):
    with tarfile.open(archives[0], "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in voc_files().items():
            made = entry(name)
            made.size, made.pax_headers = len(content), {"mtime": time}
            tar.addfile(made, io.BytesIO(content))
    assemble_devkit(*archives, folder)
    assert_assembled(folder)


def test_a_harmless_link_that_is_not_wanted_is_left_out(archives, folder):
    link = entry(f"{VOC}/JPEGImages/latest", tarfile.SYMTYPE, "2007_1.jpg")
    write_archive(archives[0], voc_files(), link)
    assemble_devkit(*archives, folder)
    assert_assembled(folder)


@pytest.mark.parametrize("listed", ["../../evil", "/evil", "a.b", ".."])
@pytest.mark.parametrize("index", [0, 1])
def test_an_id_that_is_a_path_is_refused(archives, folder, listed, index):
    name, files = (
        (f"{VOC}/ImageSets/Segmentation/train.txt", voc_files()),
        (f"{SBD}/val.txt", sbd_files()),
    )[index]
    write_archive(archives[index], files | {name: lines([listed])})
    with pytest.raises(UserError, match=r"its list \w+.txt has the id"):
        assemble_devkit(*archives, folder)
    assert nothing_is_left(folder)


@pytest.mark.parametrize("index", [0, 1])
def test_an_archive_that_is_none_is_named(archives, folder, index):
    for content in (b"", b"<html>moved</html>" * 100, os.urandom(2000)):
        archives[index].write_bytes(content)
        with pytest.raises(UserError, match=r"not a complete archive .* delete it and run again"):
            assemble_devkit(*archives, folder)
        assert nothing_is_left(folder)


@pytest.mark.parametrize(
    ("index", "missing"),
    [
        (0, f"{VOC}/ImageSets/Segmentation/val.txt"),
        (0, f"{VOC}/JPEGImages/2007_1.jpg"),
        (0, f"{VOC}/JPEGImages/2008_2.jpg"),
        (0, f"{VOC}/Annotations/2008_1.xml"),
        (0, f"{VOC}/SegmentationClass/2007_4.png"),
        (1, f"{SBD}/train.txt"),
        (1, f"{SBD}/cls/2008_1.mat"),
    ],
)
def test_what_an_archive_lacks_is_named(archives, folder, index, missing):
    files = (voc_files, sbd_files)[index]()
    del files[missing]
    write_archive(archives[index], files)
    name = "/".join(missing.split("/")[-2:])
    with pytest.raises(UserError, match=rf"1 of \d+ files are missing, first {name}: .* delete it"):
        assemble_devkit(*archives, folder)
    assert nothing_is_left(folder)


CONTENTS = (voc_files(), sbd_files())


@settings(max_examples=25)
@given(index=st.integers(0, 1), share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_archive_is_refused_or_complete(index, share):
    with tempfile.TemporaryDirectory() as parent:
        names = ("voc.tar", "sbd.tgz")
        archives = [
            write_archive(Path(parent, name), files)
            for name, files in zip(names, CONTENTS, strict=True)
        ]
        whole = archives[index].read_bytes()
        archives[index].write_bytes(whole[: int(share * len(whole))])
        folder = Path(parent, "VOC2012")
        try:
            assemble_devkit(*archives, folder)
        except UserError as error:
            assert str(archives[index]) in str(error) and "delete it and run again" in str(error)
            assert {path.name for path in Path(parent).iterdir()} == set(names)
            archives[index].write_bytes(whole)
            assemble_devkit(*archives, folder)
        assert_assembled(folder)


HDF5 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mat(np.full(mask_of("2008_1", 1).shape, 21, np.uint8)), r"values \[21\], expected 0 to"),
        (mat(mask_of("2008_1", 1)[1:]), r"is \(9, 8\), expected \(10, 8\) like the image"),
        (mat(mask_of("2008_1", 1).astype(float)), r"its mask is float64 .*expected integers"),
        (mat(mask_of("2008_1", 1)[None]), r"its mask is uint8 \(1, 10, 8\)"),
        (HDF5, "not a MATLAB 5 file with GTcls.Segmentation"),
        (b"", "not a MATLAB 5 file with GTcls.Segmentation"),
        (b"not matlab's" * 50, "not a MATLAB 5 file with GTcls.Segmentation"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(archives, folder, content, message):
    write_archive(archives[1], sbd_files() | {f"{SBD}/cls/2008_1.mat": content})
    with pytest.raises(UserError, match=rf"sbd.tgz: cls/2008_1.mat: .*{message}"):
        assemble_devkit(*archives, folder)
    assert nothing_is_left(folder)


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_mask_is_refused(share):
    whole = mat(mask_of("2008_1", 1))
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent, "x.mat")
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match="not a MATLAB 5 file"):
            read_segmentation(path)


def test_too_little_disk_space_is_reported_before_unpacking(archives, folder, monkeypatch):
    # Every wanted file of VOC fits into one block of 4096 bytes.
    needed = 4096 * sum("/Main/" not in name and "Object" not in name for name in voc_files())
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=needed - 1))
        with pytest.raises(UserError, match=r"has 0.1 MB free, expected 0.1 MB for the files of"):
            assemble_devkit(*archives, folder)
        assert nothing_is_left(folder)
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=needed))
        assemble_devkit(*archives, folder)
    assert_assembled(folder)


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["unpacking", "converting"])
def test_a_full_disk_is_reported_and_nothing_is_left(archives, folder, monkeypatch, where):
    place = (tarfile.TarFile, "makefile") if where == "unpacking" else (sbd_masks, "write_label")
    with monkeypatch.context() as patch:
        patch.setattr(*place, full)
        with pytest.raises(OSError, match=rf"No space left on device: '{folder}'") as caught:
            assemble_devkit(*archives, folder)
    assert caught.value.errno == errno.ENOSPC
    assert nothing_is_left(folder)
    assemble_devkit(*archives, folder)
    assert_assembled(folder)


def test_what_a_killed_job_left_is_no_part_of_the_devkit(archives, folder):
    left = folder.with_name(f".{folder.name}.partial") / VOC / "JPEGImages/half.jpg"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assemble_devkit(*archives, folder)
    assert_assembled(folder)


def test_a_folder_with_files_is_not_overwritten(archives, folder):
    folder.mkdir()
    assemble_devkit(archives[0], None, folder)
    before = tree(folder)
    with pytest.raises(UserError, match="has files, expected no such folder"):
        assemble_devkit(*archives, folder)
    assert tree(folder) == before


def test_a_python_without_the_filter_is_named(archives, folder, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(UserError, match=r"expected Python 3\.11\.4 or later"):
        assemble_devkit(*archives, folder)
    assert nothing_is_left(folder)
