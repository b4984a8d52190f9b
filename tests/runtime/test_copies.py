import os
import shutil
import time
from pathlib import Path

import pytest

from pipeline.io.repair import FOLDER_TIMESTAMP
from pipeline.runtime.copies import output_digest, record_outputs, restore_times


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a table, and a folder of labels and links that was made after it."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    restore_times()
    Path("table.csv").write_text("a", encoding="utf-8")
    record_outputs([Path("table.csv"), Path("absent")])
    time.sleep(0.01)
    Path("labels/0").mkdir(parents=True)
    Path("labels/0/é.png").write_text("b", encoding="utf-8")
    Path("labels/link.jpg").symlink_to("nowhere")
    record_outputs([Path("labels")])
    Path("labels", FOLDER_TIMESTAMP).touch()
    return root


def copied(project, monkeypatch):
    """Copy the project without its times, the table last, and go there."""
    copy = project.with_name("copy")
    shutil.copytree(project, copy, copy_function=shutil.copyfile, symlinks=True)
    future = time.time() + 100
    os.utime(copy / "table.csv", (future, future))
    monkeypatch.chdir(copy)
    return copy


def times():
    return Path("table.csv").stat().st_mtime, Path("labels", FOLDER_TIMESTAMP).stat().st_mtime


def test_results_in_a_copy_get_the_times_that_they_were_made_at(project, monkeypatch, caplog):
    copied(project, monkeypatch)
    table, labels = times()
    assert table > labels
    restore_times()
    table, labels = times()
    assert table < labels < time.time()
    assert len(caplog.messages) == 1 and "2 results are read" in caplog.messages[0]
    restore_times()
    assert len(caplog.messages) == 1


def test_no_result_gets_a_time_in_the_future(project, monkeypatch):
    clock = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: clock() + 3600 * 10**9)
    record_outputs([Path("table.csv"), Path("labels")])
    monkeypatch.setattr(time, "time_ns", clock)
    copied(project, monkeypatch)
    restore_times()
    table, labels = times()
    assert table == labels <= time.time()


def test_a_result_of_other_bytes_keeps_its_time(project, monkeypatch):
    copied(project, monkeypatch)
    Path("table.csv").write_text("c", encoding="utf-8")
    os.utime("table.csv", (4e9, 4e9))
    restore_times()
    assert times()[0] == 4e9


def test_times_are_unchanged_without_a_copy(project, caplog):
    os.utime("table.csv", (4e9, 4e9))
    restore_times()
    assert times()[0] == 4e9 and not caplog.messages


def test_damaged_notes_are_left_out(project, monkeypatch):
    copied(project, monkeypatch)
    for path in Path(".snakemake/wsss-made").iterdir():
        path.write_bytes(b"\xff{")
    before = times()
    restore_times()
    assert times() == before


def test_a_folder_is_known_by_its_names_bytes_and_links(project):
    states = [output_digest(Path("labels"))]
    Path("labels/link.jpg").unlink()
    Path("labels/link.jpg").symlink_to("elsewhere")
    states.append(output_digest(Path("labels")))
    Path("labels/0/é.png").rename("labels/0/f.png")
    states.append(output_digest(Path("labels")))
    Path("labels/0/f.png").write_text("d", encoding="utf-8")
    states.append(output_digest(Path("labels")))
    Path("labels", FOLDER_TIMESTAMP).unlink()
    assert len(set(states)) == 4 and output_digest(Path("labels")) == states[-1]
