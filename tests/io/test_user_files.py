import os
import re
import socket

import pytest

from pipeline.errors import UserError
from pipeline.io.user_files import (
    MAX_VISITS,
    file_problem,
    files_below,
    folder_problem,
    read_user_text,
    require_file,
)


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(found, root):
    return [path.relative_to(root).as_posix() for path in found]


@pytest.fixture
def odd(tmp_path):
    """One of everything that is no plain file, by what is said of it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "broken").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("pipe", "a named pipe, expected an image"),
        ("folder", "a folder, expected an image"),
        ("device", "a device, expected an image"),
        ("socket", "a socket, expected an image"),
        ("circle", "its symbolic links form a loop, expected an image"),
        ("broken", "its link leads to nowhere, where there is no image"),
        ("absent", "no such image"),
        ("x" * 300, "the name or the path is longer than this system allows, expected an image"),
        ("nul\0", "no file can have that name, expected an image"),
    ],
)
def test_what_is_no_plain_file_is_named_and_never_opened(odd, name, problem):
    assert file_problem(odd / name, "image") == problem
    hint = ", by hand" if name == "absent" else ""
    with pytest.raises(UserError, match=rf"^/.*{re.escape(problem + hint)}$"):
        require_file(odd / name, "image", ", by hand")


def test_a_plain_file_and_a_link_to_one_have_no_problem(tmp_path):
    make(tmp_path, "a")
    (tmp_path / "b").symlink_to("a")
    assert file_problem(tmp_path / "a") is None and file_problem(tmp_path / "b") is None
    assert folder_problem(tmp_path) is None
    assert folder_problem(tmp_path / "a") == "a file, expected a folder"


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    make(tmp_path, "a")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    assert (
        file_problem(tmp_path / "a")
        == "no permission to read it, expected a file that you may read"
    )


def test_text_is_utf_8_with_or_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf\xc3\xa4\n")
    assert read_user_text(path) == "ä\n"
    path.write_bytes(b"\xe4")
    with pytest.raises(UserError, match=r"list\.txt: not UTF-8 text .*: save the list as UTF-8$"):
        read_user_text(path, "list")


def test_files_are_found_by_suffix_in_all_folders_sorted(tmp_path):
    make(tmp_path, "b.PNG", "a/c.png", "a/d.jpg", "a.png/e.png")
    assert names(files_below(tmp_path, {".png"}).files, tmp_path) == [
        "a/c.png", "a.png/e.png", "b.PNG",
    ]  # fmt: skip


def test_links_to_folders_and_files_are_followed(tmp_path):
    make(tmp_path, "elsewhere/deep/a.png", "elsewhere/b.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/c.png").symlink_to(tmp_path / "elsewhere/b.png")
    (tmp_path / "root/broken.png").symlink_to("nowhere")
    found = files_below(tmp_path / "root", {".png"})
    # A broken link is not left out: its reader says where it leads.
    assert names(found.files, tmp_path / "root") == [
        "broken.png", "c.png", "linked/b.png", "linked/deep/a.png",
    ]  # fmt: skip
    assert not found.problems and not found.skipped


def test_links_back_to_a_folder_above_end(tmp_path):
    make(tmp_path, "root/a/x.png", "root/b/y.png")
    (tmp_path / "root/a/up").symlink_to(tmp_path / "root")
    (tmp_path / "root/a/across").symlink_to(tmp_path / "root/b")
    (tmp_path / "root/b/across").symlink_to(tmp_path / "root/a")
    (tmp_path / "root/self").symlink_to("self")
    found = files_below(tmp_path / "root", {".png"})
    assert names(found.files, tmp_path / "root") == [
        "a/across/y.png", "a/x.png", "b/across/x.png", "b/y.png",
    ]  # fmt: skip
    assert names(found.skipped, tmp_path / "root") == [
        "a/across/across", "a/up", "b/across/across", "b/across/up",
    ]  # fmt: skip
    assert found.problems == (
        f"{tmp_path}/root/self: its symbolic links form a loop, expected a file or folder: "
        "repair the link, or delete it",
    )


def test_a_link_that_may_mean_a_folder_and_leads_nowhere_is_a_problem(tmp_path):
    make(tmp_path, "a.png", "b.txt")
    for name in ("sub", ".sub", "@eaDir", "broken.png"):
        (tmp_path / name).symlink_to("gone")
    (tmp_path / "text").symlink_to("b.txt")
    found = files_below(tmp_path, {".png"})
    assert found.problems == (
        f"{tmp_path}/sub: its link leads to gone, where there is no file or folder: "
        "repair the link, or delete it",
    )


def test_circular_links_are_searched_a_bounded_number_of_times(tmp_path):
    # Every order of 12 folders is a way through them: 479 million.
    folders = [tmp_path / f"root/{k}" for k in range(12)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
        for k, other in enumerate(folders):
            (folder / f"to{k}").symlink_to(other)
    found = files_below(tmp_path / "root", {".png"})
    assert len(found.files) <= 12 * MAX_VISITS
    assert 1 <= len(found.problems) <= 12
    assert "links lead to this folder from more than 100 places" in found.problems[0]


def test_system_files_are_ignored_and_reported(tmp_path):
    make(
        tmp_path, "a.png", "._a.png", ".hidden.png", ".ipynb_checkpoints/a-checkpoint.png",
        "__MACOSX/._a.png", "@eaDir/a.png/THUMB.png", "Thumbs.db", "deep/.DS_Store", "deep/b.png",
    )  # fmt: skip
    found = files_below(tmp_path, {".png"})
    assert names(found.files, tmp_path) == ["a.png", "deep/b.png"]
    assert set(names(found.skipped, tmp_path)) == {
        "._a.png", ".hidden.png", ".ipynb_checkpoints", "__MACOSX", "@eaDir", "Thumbs.db",
        "deep/.DS_Store",
    }  # fmt: skip


def test_a_hidden_root_is_searched_since_it_is_asked_for(tmp_path):
    make(tmp_path, ".cache/@eaDir/a.png")
    assert len(files_below(tmp_path / ".cache/@eaDir", {".png"}).files) == 1


def test_a_folder_that_cannot_be_searched_is_a_problem(tmp_path, monkeypatch):
    make(tmp_path, "a/x.png", "b/y.png")
    scan = os.scandir

    def refuse(path):
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = files_below(tmp_path, {".png"})
    assert names(found.files, tmp_path) == ["b/y.png"]
    assert found.problems == (
        f"{tmp_path / 'a'}: the folder cannot be searched: no permission to access it",
    )
    assert files_below(tmp_path / "absent", {".png"}).problems
