from pathlib import Path

from pipeline.datasets import paths
from pipeline.datasets.paths import in_dataset


def test_files_of_a_workflow_have_one_name_in_every_copy(tmp_path, monkeypatch):
    for copy in ("one", "two"):
        home = tmp_path / copy
        home.mkdir()
        monkeypatch.setattr(paths, "HOME", home)
        monkeypatch.chdir(home)
        assert in_dataset("/data", "<workflow>/lists/train.txt") == Path("lists/train.txt")
    # Run from another folder, they are found by their whole path.
    monkeypatch.chdir(tmp_path / "one")
    assert in_dataset("/data", "<workflow>/train.txt") == tmp_path / "two/train.txt"


def test_other_files_are_relative_to_the_data_set():
    assert in_dataset("VOC2012", "train.txt") == Path("VOC2012/train.txt")
    assert in_dataset("VOC2012", "/lists/train.txt") == Path("/lists/train.txt")
