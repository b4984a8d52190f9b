import os
import shutil

import pytest

from pipeline.planning import contents
from pipeline.planning.contents import contents_digest


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """Keep the memory beside the files, and take files of this moment for settled."""
    monkeypatch.setattr(contents, "MEMORY", tmp_path / "memory/contents.json")
    monkeypatch.setattr(contents, "SETTLED", -60)
    return contents.MEMORY


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"data/{name}" for name in ("a.jpg", "é.jpg", "c.csv")]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 9)
    return paths


def test_modification_times_do_not_count(files, tmp_path):
    state = contents_digest(files)
    os.utime(files[0], (0, 0))
    os.utime(files[1], (4e9, 4e9))  # in the future
    assert contents_digest(reversed(files)) == state
    folder = files[0].parent
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(folder)
    (tmp_path / "copy").rename(folder)
    assert contents_digest(files) == state


def test_other_bytes_of_the_same_size_and_time_are_seen(files):
    state, before = contents_digest(files), files[0].stat()
    files[0].write_bytes(b"other" + b"." * 4)
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files[0].stat().st_size == before.st_size
    assert contents_digest(files) != state


def test_file_names_count(files):
    state = contents_digest(files)
    files[0].rename(files[0].with_name("b.jpg"))
    assert contents_digest([files[0].with_name("b.jpg"), *files[1:]]) != state
    assert (
        contents_digest(files) == contents_digest(files[1:]) != state
    )  # what is absent is left out


def test_a_file_that_was_not_touched_is_read_once(files, monkeypatch):
    state = contents_digest(files)
    read = []
    digest = contents.content_digest
    monkeypatch.setattr(contents, "content_digest", lambda path: read.append(path) or digest(path))
    assert contents_digest(files) == state and read == []
    files[1].touch()
    assert contents_digest(files) == state and read == [files[1]]


def test_a_file_modified_just_now_is_read_again(files, memory, monkeypatch):
    # It could change once more without another time.
    monkeypatch.setattr(contents, "SETTLED", 2)
    state = contents_digest(files)
    assert not memory.exists()
    assert contents_digest(files) == state


@pytest.mark.parametrize("text", [b"\xff", b"[1]", b'{"a": 3}', b"{", b'{"a": [1, 2, 3]}'])
def test_a_damaged_cache_is_rebuilt(files, memory, text):
    state = contents_digest(files)
    memory.write_bytes(text)
    assert contents_digest(files) == state


def test_paths_that_are_not_files_are_ignored(files):
    fifo = files[0].with_name("fifo.jpg")
    os.mkfifo(fifo)
    assert contents_digest([*files, fifo, files[0].parent]) == contents_digest(files)


def test_reading_many_bytes_is_announced(files, monkeypatch, caplog):
    monkeypatch.setattr(contents, "QUIET", 20)
    contents_digest(files)
    assert len(caplog.messages) == 1 and "in 3 files" in caplog.messages[0]
    contents_digest(files)
    assert len(caplog.messages) == 1
