"""Downloads over HTTP that resume after interruptions and are verified by checksum."""

import errno
import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError as TransportError
from urllib3.exceptions import MaxRetryError

from pipeline.errors import UserError
from pipeline.io.files import locked
from pipeline.io.tables import read_document, write_json

logger = logging.getLogger(__name__)

#: Bytes written at a time; a killed job loses at most one chunk.
CHUNK = 1 << 20
#: Seconds to wait for a connection, and for data.
TIMEOUT = (10, 60)
#: Seconds before each further attempt; the list starts again after a chunk has arrived.
RETRY_DELAYS = (1, 2, 4, 8, 16)
#: Statuses below 500 that are retried: timeout, too many requests.
TRANSIENT = frozenset({408, 429})
DIGITS = {"md5": 32, "sha256": 64}

_ALTERNATIVES = (
    "set the `url` of a mirror under `downloads`, or place the data and set `dataset.root`"
)


#: Function that yields the chunks it gets, and reports how many of a number have arrived.
Watch = Callable[[Iterable[bytes], int], Iterable[bytes]]


def download(url: str, path: Path, *, checksum: str, watch: Watch | None = None) -> None:
    """Download a file and move it into place after its checksum is verified.

    After an error or a kill, the downloaded bytes stay in ``.NAME.partial`` beside ``path``. The
    next call requests only the missing bytes (RFC 9110, section 14), if the remote file still
    has the same entity tag or modification date.

    Parameters
    ----------
    url : str
        ``http`` or ``https``.
    path : Path
        The file. An existing file with another checksum is replaced. Processes that download the
        same file wait for each other.
    checksum : str
        ``md5:HEX`` or ``sha256:HEX`` of the file.
    watch : callable, optional
        Function that gets the chunks of a response and their number, and yields the chunks. A
        chunk is 1 MiB. It is not called if the server does not state a length.

    Raises
    ------
    UserError
        If the URL or the checksum is malformed, the server cannot be reached, refuses or breaks
        off repeatedly, the disk has too little space, or the file has another checksum (the
        download is then deleted).
    OSError
        If the disk fills up during the download; the downloaded bytes are kept.
    """
    algorithm, expected = _parse_checksum(checksum)
    _check_url(url)
    with locked(path):
        if path.is_file() and _digest(path, algorithm) == expected:
            logger.info("%s is already there", path)
            return
        part = _Partial(url, path, watch)
        _fetch_with_retries(part)
        got = _digest(part.file, algorithm)
        if got != expected:
            part.discard()
            raise UserError(
                f"{url}: its {algorithm} is {got}, expected {expected}: the download was deleted; "
                f"the file was changed or damaged: {_ALTERNATIVES}"
            )
        part.move_into_place()


class _Partial:
    """The downloaded part of a file, and a note that identifies the remote file.

    :func:`pipeline.io.files.replacing` is not used, since it deletes partial files after a failure.
    """

    def __init__(self, url: str, path: Path, watch: Watch | None) -> None:
        self.url = url
        self.path = path
        self.watch = watch
        self.file = path.with_name(f".{path.name}.partial")
        self.note = path.with_name(f".{path.name}.partial.json")

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    @property
    def validator(self) -> str:
        """Entity tag or date of the remote file; empty if neither is known."""
        try:
            note = read_document(self.note, {"url": str, "validator": str})
        except (FileNotFoundError, UserError):
            return ""  # absent or damaged: the download starts again
        return str(note["validator"]) if note["url"] == self.url else ""

    def begin(self, validator: str) -> None:
        self.discard()
        write_json(self.note, {"url": self.url, "validator": validator})

    def append(self, chunks: Iterable[bytes]) -> None:
        try:
            with self.file.open("ab") as file:
                for chunk in chunks:
                    file.write(chunk)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                # The error of a write does not name the path.
                raise OSError(error.errno, error.strerror, str(self.file)) from error
            raise

    def discard(self) -> None:
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def move_into_place(self) -> None:
        self.file.replace(self.path)
        self.note.unlink(missing_ok=True)


def _digest(path: Path, algorithm: str) -> str:
    # The checksum only detects damage, and the authors of the data sets publish MD5.
    new = partial(hashlib.new, algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, new).hexdigest()


def _fetch_with_retries(part: _Partial) -> None:
    """Download the missing bytes, in several attempts if the connection fails."""
    delays = list(RETRY_DELAYS)
    while True:
        before = part.size
        try:
            _fetch(part)
            return
        except (requests.RequestException, TransportError) as error:
            if part.size >= before + CHUNK:
                delays = list(RETRY_DELAYS)
            reason = _reason(error)
            if not delays:
                raise UserError(
                    f"{part.url}: cannot be downloaded ({reason}), {_megabytes(part.size)} are "
                    f"here: run again with a network connection to continue, or {_ALTERNATIVES}"
                ) from error
            delay = delays.pop(0)
            logger.warning("%s: %s: trying again in %d s", part.url, reason, delay)
        time.sleep(delay)


def _fetch(part: _Partial) -> None:
    """Request the missing bytes once, and append the response."""
    # A compressed transfer cannot be resumed: its length differs from that of the file.
    headers = {"Accept-Encoding": "identity"}
    offset, validator = part.size, part.validator
    resuming = offset > 0 and bool(validator)
    if resuming:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    with requests.get(part.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if resuming and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("Content-Range") == f"bytes */{offset}":
                return
        elif not resuming or response.status_code != HTTPStatus.PARTIAL_CONTENT:
            _check_status(response)
            part.begin(_validator(response))
            _receive(response, part)
            return
        elif _continues(response, offset, validator):
            _receive(response, part)
            return
    logger.warning("%s: the server cannot resume this download: starting again", part.url)
    part.discard()
    _fetch(part)


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in TRANSIENT:
        raise requests.HTTPError(f"the server answers {status} {response.reason}")
    if status != HTTPStatus.OK:
        raise UserError(
            f"{response.url}: the server answers {status} {response.reason}, expected the file: "
            f"{_ALTERNATIVES}"
        )


def _validator(response: requests.Response) -> str:
    """Return the entity tag or date by which a changed remote file is recognized."""
    tag = response.headers.get("ETag", "")
    # If-Range does not accept weak tags, since the bytes may change without the tag.
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _continues(response: requests.Response, offset: int, validator: str) -> bool:
    """Return whether a partial response starts at the right byte of the same file.

    Some servers ignore If-Range.
    """
    known = {response.headers.get(name) for name in ("ETag", "Last-Modified")} - {None}
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return start is not None and int(start[1]) == offset and (not known or validator in known)


def _receive(response: requests.Response, part: _Partial) -> None:
    """Append the body without decoding it: servers may declare the file's own gzip an encoding."""
    chunks: Iterable[bytes] = response.raw.stream(CHUNK, decode_content=False)
    length: int | None = response.raw.length_remaining
    if length is not None:
        _check_space(part, length)
        logger.info(
            "%s: %s to download, %s are here", part.url, _megabytes(length), _megabytes(part.size)
        )
        if part.watch is not None:
            chunks = part.watch(chunks, -(-length // CHUNK))
    part.append(chunks)


def _check_space(part: _Partial, length: int) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if free < length:
        raise UserError(
            f"{part.path.parent}: the disk has {_megabytes(free)} free, expected "
            f"{_megabytes(length)} for {part.url}: free some space, or download to another "
            "folder with `downloads.folder`"
        )


def _reason(error: Exception) -> str:
    """Return the innermost cause of a failed connection; outer ones repeat the URL."""
    inner = error.args[0] if error.args else None
    if isinstance(inner, MaxRetryError) and inner.reason is not None:
        inner = inner.reason
    return str(inner if isinstance(inner, Exception) else error)


def _parse_checksum(checksum: str) -> tuple[str, str]:
    algorithm, _, digits = checksum.partition(":")
    if len(digits) != DIGITS.get(algorithm) or not re.fullmatch("[0-9a-fA-F]+", digits):
        raise UserError(
            f"checksum is {checksum!r}, expected md5:HEX with 32 digits or sha256:HEX with 64"
        )
    return algorithm, digits.lower()


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"{url}: not a URL for downloads, expected http(s)://HOST/FILE")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
