"""User files and folders: checks, reading and search."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError

#: Folders and files that systems, file managers and servers leave among images, in lower case.
#: Hidden files, whose names begin with a dot, are skipped as well.
SYSTEM_NAMES = frozenset(
    {
        "__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin",
        "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini",
    }
)  # fmt: skip
#: Maximum number of links to one folder; more indicate a loop of links.
MAX_VISITS = 100

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_REASONS = {
    errno.ELOOP: "its symbolic links form a loop",
    errno.EACCES: "no permission to access it",
    errno.ENAMETOOLONG: "the name or the path is longer than this system allows",
}


@dataclass(frozen=True)
class FolderContents:
    """Contents of a folder and its subfolders.

    Attributes
    ----------
    files : tuple of Path
        Sorted.
    problems : tuple of str
        Folders that cannot be searched, and links that lead to no file and no folder, one line
        each.
    skipped : tuple of Path
        Hidden and system files, and links to a folder above them; sorted.
    """

    files: tuple[Path, ...]
    problems: tuple[str, ...]
    skipped: tuple[Path, ...]


def file_problem(path: Path, what: str = "file") -> str | None:
    """Return why a path is not a readable regular file; None if it is one.

    Links are followed. Nothing is opened: a named pipe would wait forever, and a device may never
    end.

    Parameters
    ----------
    path : Path
    what : str
        Name of the file's kind, for the message.
    """
    return _problem(path, what, folder=False)


def folder_problem(path: Path, what: str = "folder") -> str | None:
    """Return why a path is not a searchable folder; None if it is one."""
    return _problem(path, what, folder=True)


def _problem(path: Path, what: str, *, folder: bool) -> str | None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return _absence(path, what, error)
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a file")
    if kind != ("a folder" if folder else "a file"):
        return f"{kind}, expected {with_article(what)}"
    if not os.access(path, os.R_OK | os.X_OK if folder else os.R_OK):
        return f"no permission to read it, expected {with_article(what)} that you may read"
    return None


def _absence(path: Path, what: str, error: OSError | ValueError) -> str:
    """Return the message for an error of ``Path.stat``."""
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return f"its link leads to {path.readlink()}, where there is no {what}"
        return f"no such {what}"
    reason = _reason(error) if isinstance(error, OSError) else "no file can have that name"
    return f"{reason}, expected {with_article(what)}"


def require_file(path: Path, what: str = "file", expected: str = "") -> None:
    """Raise an error unless a path is a readable regular file.

    Parameters
    ----------
    path : Path
    what : str
        Name of the file's kind.
    expected : str
        Text to append if the file is absent, beginning with a comma.

    Raises
    ------
    UserError
        A line that begins with the path.
    """
    if problem := file_problem(path, what):
        absent = problem.startswith("no such")
        raise UserError(f"{path}: {problem}{expected if absent else ''}")


def read_user_bytes(path: Path, what: str = "file", expected: str = "") -> bytes:
    """Read the bytes of a user file.

    Raises
    ------
    UserError
        If it is not a regular file, or cannot be read.
    """
    require_file(path, what, expected)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {_reason(error)}, expected {with_article(what)}") from error


def read_user_text(path: Path, what: str = "file", expected: str = "") -> str:
    """Read a user file as UTF-8 text, with or without a byte order mark.

    Raises
    ------
    UserError
        If it is not a regular file, cannot be read, or is not UTF-8.
    """
    data = read_user_bytes(path, what, expected)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}): save the {what} as UTF-8") from error


def files_below(root: Path, suffixes: Collection[str]) -> FolderContents:
    """Find files with given suffixes in a folder and its subfolders.

    Symbolic links to folders are followed, except to a folder above them. System files are skipped.
    Everything that is not a folder counts as a file; its reader refuses pipes, devices and links
    with a given suffix that lead nowhere.

    Parameters
    ----------
    root : Path
    suffixes : collection of str
        Suffixes in lower case, for example ``".png"``; files may use upper case.
    """
    files: list[Path] = []
    problems: list[str] = []
    skipped: list[Path] = []
    visits: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            key = (status.st_dev, status.st_ino)
            if key in above:
                skipped.append(folder)
                continue
            visits[key] += 1
            if visits[key] == MAX_VISITS + 1:
                problems.append(
                    f"{folder}: links lead to this folder from more than {MAX_VISITS} places, "
                    "expected a few: delete some"
                )
            if visits[key] > MAX_VISITS:
                continue
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError as error:
            problems.append(f"{folder}: the folder cannot be searched: {_reason(error)}")
            continue
        for entry in entries:
            path = folder / entry.name
            if is_system_name(entry.name):
                skipped.append(path)
            elif _is_folder(entry):
                waiting.append((path, above | {key}))
            elif path.suffix.lower() in suffixes:
                files.append(path)
            elif entry.is_symlink() and (problem := _link_problem(path)):
                problems.append(problem)
    return FolderContents(tuple(sorted(files)), tuple(problems), tuple(sorted(skipped)))


def is_system_name(name: str) -> bool:
    """Return whether a name is that of a system file or folder, not of a data set."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def with_article(what: str) -> str:
    """Return a noun with its indefinite article."""
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that form a loop
        return False


def _link_problem(path: Path) -> str | None:
    """Return why a link leads nowhere; its target may be a folder of images."""
    try:
        path.stat()
    except OSError as error:
        absence = _absence(path, "file or folder", error)
        return f"{path}: {absence}: repair the link, or delete it"
    return None


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, error.strerror or str(error))
