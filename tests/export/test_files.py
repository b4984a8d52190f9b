import hashlib
import shutil
import subprocess

import pytest

from pipeline.export.files import write_checksums


@pytest.fixture
def folder(tmp_path):
    """Return a folder of files with awkward names, and a link out of it."""
    root = tmp_path / "root"
    (root / "b b").mkdir(parents=True)
    for name in ("a.txt", "b b/ü.txt", "back\\slash.txt"):
        (root / name).write_text(name, encoding="utf-8")
    (tmp_path / "outside").write_text("not part of it", encoding="utf-8")
    (root / "link.jpg").symlink_to(tmp_path / "outside")
    return root


def test_files_are_listed_in_order_and_links_are_not(folder):
    write_checksums(folder)
    lines = (folder / "checksums.sha256").read_text(encoding="utf-8").splitlines()
    digest = hashlib.sha256(b"a.txt").hexdigest()
    assert lines[0] == f"{digest}  a.txt"
    assert [line.split("  ", 1)[1] for line in lines] == [
        "a.txt", "b b/ü.txt", "back\\\\slash.txt",
    ]  # fmt: skip


def test_sha256sum_confirms_them_and_finds_a_change(folder):
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("no sha256sum on this machine")
    write_checksums(folder)
    command = [tool, "--check", "--strict", "checksums.sha256"]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    (folder / "b b/ü.txt").write_text("changed", encoding="utf-8")
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 1


def test_checksums_do_not_list_themselves(folder):
    write_checksums(folder)
    first = (folder / "checksums.sha256").read_bytes()
    write_checksums(folder)
    assert (folder / "checksums.sha256").read_bytes() == first
