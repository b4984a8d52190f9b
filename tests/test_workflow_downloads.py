"""The real workflow on archives that it downloads itself, from a server of this machine."""

import csv

import pytest

from pipeline.io.tables import read_table
from tests.helpers.devkit import (
    TRAIN,
    TRAIN_AUG,
    VAL,
    assert_assembled,
    sbd_files,
    voc_files,
    write_archive,
)
from tests.helpers.file_server import FileServer, md5, serving
from tests.helpers.workflow import TINY, planned, snakemake

pytestmark = pytest.mark.slow


@pytest.fixture
def servers(tmp_path, monkeypatch):
    """Serve small archives of the published ones' structure, one a server."""
    monkeypatch.setenv("NO_PROXY", "*")
    with serving(FileServer()) as voc, serving(FileServer()) as sbd:
        voc.content = write_archive(tmp_path / "voc.tar", voc_files()).read_bytes()
        sbd.content = write_archive(tmp_path / "sbd.tgz", sbd_files()).read_bytes()
        yield voc, sbd


def configured(voc, sbd):
    downloads = {
        name: {"url": server.url, "checksum": md5(server.content)}
        for name, server in (("voc2012", voc), ("sbd", sbd))
    }
    dataset = {
        "kind": "voc",
        "train_list": "ImageSets/Segmentation/train_aug.txt",
        "score_list": "ImageSets/Segmentation/train.txt",
        "masks": "SegmentationClassAug",
    }
    return TINY | {"dataset": dataset, "downloads": downloads}


def test_voc_and_sbd_are_downloaded(tmp_path, servers):
    voc, sbd = servers
    config = configured(voc, sbd)
    jobs = {
        "download_archive": 2,
        "assemble_devkit": 1,
        "prepare_dataset": 1,
        "list_ground_truth": 1,
    }
    assert planned(tmp_path, config, "list_ground_truth") == jobs
    voc.cuts = [1000]  # the connection breaks, and the job goes on where it did
    snakemake(tmp_path, config, "list_ground_truth")
    assert (voc.sent, sbd.sent) == (len(voc.content), len(sbd.content))
    devkit = tmp_path / "data/VOCdevkit/VOC2012"
    (devkit / ".snakemake_timestamp").rename(tmp_path / "timestamp")
    assert_assembled(devkit)
    (tmp_path / "timestamp").rename(devkit / ".snakemake_timestamp")
    rows = read_table(tmp_path / "results/tiny/dataset/manifest.csv")
    assert {row["id"]: row["split"] for row in rows} == {
        **dict.fromkeys(TRAIN_AUG, "train"),
        **dict.fromkeys(VAL, "val"),
    }
    with (tmp_path / "results/tiny/dataset/masks.csv").open(newline="", encoding="utf-8") as file:
        masks = {row["id"]: row["mask"] for row in csv.DictReader(file)}
    assert masks.keys() == {*TRAIN, *VAL}  # train_aug is learned from, train is scored
    assert all("SegmentationClassAug" in mask for mask in masks.values())
    config["downloads"]["voc2012"]["url"] = "http://127.0.0.1:1/another-mirror"
    assert planned(tmp_path, config, "list_ground_truth") == {}
    (tmp_path / "data/archives/voc2012").unlink()  # the room is needed
    assert planned(tmp_path, config, "list_ground_truth") == {}


def test_an_archive_with_a_wrong_checksum_is_refused_before_unpacking(tmp_path, servers):
    config = configured(*servers)
    config["downloads"]["sbd"]["checksum"] = "md5:" + 32 * "0"
    printed = snakemake(tmp_path, config, "prepare_dataset", check=False)
    (line,) = [line for line in printed.splitlines() if "ERROR: " in line]
    assert "expected" in line and "downloads" in line
    assert not (tmp_path / "data/VOCdevkit").exists()
    assert planned(tmp_path, configured(*servers), "prepare_dataset") == {
        "download_archive": 1, "assemble_devkit": 1, "prepare_dataset": 1,
    }  # fmt: skip
