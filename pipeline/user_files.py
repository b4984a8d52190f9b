"""Files and folders that a user gives: what is no file, what is litter, where links lead."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError

#: Folders and files that systems, file managers and servers leave among photographs; hidden
#: ones, which begin with a dot, besides.
LITTER = frozenset(
    {
        "__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin",
        "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini",
    }
)  # fmt: skip
#: Times that links may lead to one folder: a few are meant, more are a net of links.
MOST_VISITS = 100

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_REASONS = {
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EACCES: "no permission to look at it",
    errno.ENAMETOOLONG: "the name or the path is longer than this system allows",
}


@dataclass(frozen=True)
class Found:
    """What is in a folder and its sub-folders.

    Attributes
    ----------
    files : tuple of Path
        Sorted.
    problems : tuple of str
        Folders that cannot be searched, and links that lead to no file and no folder, a line each.
    skipped : tuple of Path
        Litter, and links that lead back to a folder above them; sorted.
    """

    files: tuple[Path, ...]
    problems: tuple[str, ...]
    skipped: tuple[Path, ...]


def file_problem(path: Path, what: str = "file") -> str | None:
    """Return why a path is no regular file that can be read, in words; None where it is one.

    Links are followed. Nothing is opened: a named pipe would wait for ever, and a device may
    never end.

    Parameters
    ----------
    path : Path
    what : str
        What the file is, for the message.
    """
    return _problem(path, what, folder=False)


def folder_problem(path: Path, what: str = "folder") -> str | None:
    """Return why a path is no folder that can be searched, in words; None where it is one."""
    return _problem(path, what, folder=True)


def _problem(path: Path, what: str, *, folder: bool) -> str | None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return _absence(path, what, error)
    kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "a file")
    if kind != ("a folder" if folder else "a file"):
        return f"{kind}, expected {with_article(what)}"
    if not os.access(path, os.R_OK | os.X_OK if folder else os.R_OK):
        return f"no permission to read it, expected {with_article(what)} that you may read"
    return None


def _absence(path: Path, what: str, error: OSError | ValueError) -> str:
    """Word the error of a look at a path."""
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return f"its link leads to {path.readlink()}, where there is no {what}"
        return f"no such {what}"
    reason = _reason(error) if isinstance(error, OSError) else "no file can have that name"
    return f"{reason}, expected {with_article(what)}"


def require_file(path: Path, what: str = "file", expected: str = "") -> None:
    """Refuse what is no regular file that can be read.

    Parameters
    ----------
    path : Path
    what : str
        What the file is.
    expected : str
        What to say of one that is not there, with its comma.

    Raises
    ------
    UserError
        One line, which begins with the path.
    """
    if problem := file_problem(path, what):
        absent = problem.startswith("no such")
        raise UserError(f"{path}: {problem}{expected if absent else ''}")


def read_user_bytes(path: Path, what: str = "file", expected: str = "") -> bytes:
    """Read a file of the user's.

    Raises
    ------
    UserError
        If it is no regular file, or cannot be read.
    """
    require_file(path, what, expected)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {_reason(error)}, expected {with_article(what)}") from error


def read_user_text(path: Path, what: str = "file", expected: str = "") -> str:
    """Read a UTF-8 text of the user's, with or without a byte order mark.

    Raises
    ------
    UserError
        If it is no regular file, cannot be read, or is not UTF-8.
    """
    data = read_user_bytes(path, what, expected)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}): save the {what} as UTF-8") from error


def files_below(root: Path, suffixes: Collection[str]) -> Found:
    """Find the files of some suffixes in a folder and its sub-folders.

    Symbolic links to folders are followed, but not back to a folder above them. Litter is
    skipped. Whatever is no folder counts as a file: it is for its reader to refuse a pipe, or a
    link of a wanted suffix that leads nowhere.

    Parameters
    ----------
    root : Path
    suffixes : collection of str
        In small letters, ``".png"``; files may have capital ones.
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
            if visits[key] == MOST_VISITS + 1:
                problems.append(
                    f"{folder}: links lead to this folder from more than {MOST_VISITS} places, "
                    "expected a few: delete some"
                )
            if visits[key] > MOST_VISITS:
                continue
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError as error:
            problems.append(f"{folder}: the folder cannot be searched: {_reason(error)}")
            continue
        for entry in entries:
            path = folder / entry.name
            if is_litter(entry.name):
                skipped.append(path)
            elif _is_folder(entry):
                waiting.append((path, above | {key}))
            elif path.suffix.lower() in suffixes:
                files.append(path)
            elif entry.is_symlink() and (problem := _link_problem(path)):
                problems.append(problem)
    return Found(tuple(sorted(files)), tuple(problems), tuple(sorted(skipped)))


def is_litter(name: str) -> bool:
    """Tell whether a file or folder of that name is a system's, and no part of a data set."""
    return name.startswith(".") or name.casefold() in LITTER


def with_article(what: str) -> str:
    """Return a noun with its indefinite article."""
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links
        return False


def _link_problem(path: Path) -> str | None:
    """Return why a link leads nowhere: a folder may be meant, with all that is in it."""
    try:
        path.stat()
    except OSError as error:
        absence = _absence(path, "file or folder", error)
        return f"{path}: {absence}: mend the link, or delete it"
    return None


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, error.strerror or str(error))
