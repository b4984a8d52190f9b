import errno
import gzip
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.io import download as downloading
from pipeline.io.download import download
from tests.helpers import REPOSITORY
from tests.helpers.file_server import CONTENT, DATE, FileServer, md5, serving


@pytest.fixture(scope="module")
def running():
    with serving(FileServer()) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    yield running
    running.release.set()


@pytest.fixture(scope="module", autouse=True)
def _impatient():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloading, "RETRY_DELAYS", (0, 0))
        patch.setenv("NO_PROXY", "*")
        yield


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data/data.tar"


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


PARTIAL = [".data.tar.partial", ".data.tar.partial.json"]


def test_two_at_a_time_download_once(server, path):
    server.stall = 1000  # until both have begun

    def fetch():
        download(server.url, path, checksum=md5(CONTENT))

    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(fetch) for _ in range(4)]
        time.sleep(0.2)
        server.release.set()
        for other in others:
            other.result()
    assert path.read_bytes() == CONTENT and files(path) == ["data.tar"]
    assert len(server.asked) == 2  # one request that broke off, and one for the rest


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_a_verified_file_is_all_that_is_left(server, path, algorithm, case):
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    download(server.url, path, checksum=f"{algorithm}:{case(digest)}")
    assert path.read_bytes() == CONTENT
    assert files(path) == ["data.tar"]
    assert server.asked == [(None, None)]


def test_an_empty_file_and_one_of_unknown_length(server, path):
    server.content = b""
    download(server.url, path, checksum=md5(b""))
    assert path.read_bytes() == b""
    server.content, server.says_length = CONTENT, False
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_bytes_are_taken_as_they_are_on_the_wire(server, path):
    server.content = gzip.compress(CONTENT)
    server.headers |= {"Content-Encoding": "gzip"}
    download(server.url, path, checksum=md5(server.content))
    assert path.read_bytes() == server.content


def test_a_redirection_is_followed(server, path):
    download(server.url.replace("data.tar", "moved"), path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_broken_transfer_resumes_within_the_run(server, path, caplog):
    server.cuts = [300, 200]
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked == [(None, None), ("bytes=300-", '"one"'), ("bytes=500-", '"one"')]
    assert server.sent == len(CONTENT)
    assert caplog.text.count("trying again") == 2


def test_a_failed_transfer_resumes_in_the_next_run(server, path):
    server.cuts = [300, 200, 100]
    with pytest.raises(UserError, match=r"cannot be downloaded .* run again .* `dataset.root`"):
        download(server.url, path, checksum=md5(CONTENT))
    assert files(path) == PARTIAL
    assert (path.parent / PARTIAL[0]).read_bytes() == CONTENT[:600]
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == ("bytes=600-", '"one"')
    assert server.sent == len(CONTENT)
    assert files(path) == ["data.tar"]


def test_attempts_are_reset_when_bytes_arrive(server, path, monkeypatch):
    monkeypatch.setattr(downloading, "CHUNK", 100)
    server.cuts = [100] * 9
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_temporary_statuses_are_retried(server, path, status):
    server.statuses = [status, status]
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [404, 403])
def test_a_refusal_ends_at_once_with_an_alternative(server, path, status):
    server.statuses = [status]
    with pytest.raises(UserError, match=rf"{status} .*mirror under `downloads`.*`dataset.root`"):
        download(server.url, path, checksum=md5(CONTENT))
    assert len(server.asked) == 1
    assert files(path) == []


def interrupted(server, path, after=300):
    """Leave a part of the file, as a run does whose connection fails for good."""
    server.cuts = [after, 0, 0]
    with pytest.raises(UserError, match="cannot be downloaded"):
        download(server.url, path, checksum=md5(CONTENT))
    server.asked.clear()


def test_a_busy_server_keeps_the_partial_file(server, path):
    interrupted(server, path)
    server.statuses = [503]
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT and server.sent == len(CONTENT)


def test_a_changed_file_is_restarted(server, path):
    interrupted(server, path)
    server.content, server.headers["ETag"] = CONTENT[::-1], '"two"'
    download(server.url, path, checksum=md5(CONTENT[::-1]))
    assert path.read_bytes() == CONTENT[::-1]
    assert server.asked == [("bytes=300-", '"one"')]


def test_a_changed_file_is_restarted_without_conditional_requests(server, path, caplog):
    interrupted(server, path)
    server.takes_conditions = False
    server.content, server.headers["ETag"] = CONTENT[::-1], '"two"'
    download(server.url, path, checksum=md5(CONTENT[::-1]))
    assert path.read_bytes() == CONTENT[::-1]
    assert server.asked == [("bytes=300-", '"one"'), (None, None)]
    assert "starting again" in caplog.text


def test_an_answer_that_begins_elsewhere_is_not_appended(server, path):
    interrupted(server, path)
    server.shift = 1
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked == [("bytes=300-", '"one"'), (None, None)]


def test_another_address_is_restarted(server, path):
    interrupted(server, path)
    download(server.url + "?mirror", path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked == [(None, None)]


def test_a_server_without_ranges_sends_it_all_again(server, path):
    server.takes_ranges = False
    interrupted(server, path)
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"ETag": 'W/"one"', "Last-Modified": DATE}, ("bytes=300-", DATE)),
        ({"Last-Modified": DATE}, ("bytes=300-", DATE)),
        ({"ETag": 'W/"one"'}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_only_headers_that_identify_a_version_are_used(server, path, headers, asked):
    server.headers = headers
    interrupted(server, path)
    server.cuts = []
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked == [asked]


def test_a_whole_file_that_was_not_verified_yet_is_not_fetched_again(server, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(downloading, "_digest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            download(server.url, path, checksum=md5(CONTENT))
    assert files(path) == PARTIAL
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_partial_file_that_is_too_long_is_restarted(server, path):
    interrupted(server, path)
    server.content = CONTENT[:200]
    download(server.url, path, checksum=md5(CONTENT[:200]))
    assert path.read_bytes() == CONTENT[:200]
    assert [wanted for wanted, _ in server.asked] == ["bytes=300-", None]


def test_a_wrong_checksum_is_reported_and_leaves_no_file(server, path):
    got, expected = md5(CONTENT)[4:], "0" * 32
    message = rf"its md5 is {got}, expected {expected}.*mirror under `downloads`.*`dataset.root`"
    with pytest.raises(UserError, match=message) as caught:
        download(server.url, path, checksum=f"md5:{expected}")
    assert server.url in str(caught.value)
    assert files(path) == []
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_file_in_place_stays_until_another_is_verified(server, path):
    path.parent.mkdir()
    path.write_bytes(b"earlier")
    with pytest.raises(UserError):
        download(server.url, path, checksum=f"md5:{'0' * 32}")
    assert path.read_bytes() == b"earlier"
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_too_little_disk_space_is_reported_before_the_download(server, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=len(CONTENT) - 1))
        with pytest.raises(UserError, match=r"has 0.0 MB free, expected 0.0 MB.*downloads.folder"):
            download(server.url, path, checksum=md5(CONTENT))
    assert not path.exists()
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT


class FullDisk(io.FileIO):
    """A file on a disk that is full after 400 bytes."""

    def write(self, data):
        room = 400 - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(bytes(data)[:room])


def test_a_full_disk_is_reported_and_the_next_run_resumes(server, path, monkeypatch):
    real = Path.open

    def opened(self, mode="r", *args, **kwargs):
        if mode != "ab":
            return real(self, mode, *args, **kwargs)
        return io.BufferedWriter(FullDisk(self, "a"), buffer_size=64)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(OSError, match=r"No space left.*\.data\.tar\.partial") as caught:
            download(server.url, path, checksum=md5(CONTENT))
    assert caught.value.errno == errno.ENOSPC
    assert files(path) == PARTIAL
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == ("bytes=400-", '"one"')


def test_a_silent_server_is_retried(server, path, monkeypatch):
    monkeypatch.setattr(downloading, "TIMEOUT", (5, 0.2))
    monkeypatch.setattr(downloading, "CHUNK", 100)
    server.stall = 300
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked == [(None, None), ("bytes=300-", '"one"')]


def test_an_unknown_host_is_one_clear_line(path, monkeypatch):
    def unknown(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=r"resolve 'data.invalid'.*network.*mirror") as caught:
        download("https://data.invalid/data.tar", path, checksum=md5(CONTENT))
    assert "\n" not in str(caught.value) and "HTTPSConnectionPool" not in str(caught.value)


def test_a_refused_connection_is_one_clear_line(path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/data.tar"
        with pytest.raises(UserError, match=r"Connection refused.*`dataset.root`"):
            download(url, path, checksum=md5(CONTENT))


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:///etc/passwd", "data.tar", "http://", "http://[host/x", ""]
)
def test_other_addresses_are_refused(path, url):
    with pytest.raises(UserError, match=r"expected http\(s\)://HOST/FILE"):
        download(url, path, checksum=md5(CONTENT))


@pytest.mark.parametrize(
    "checksum",
    ["", "md5", "md5:", "md5:" + "0" * 31, "sha1:" + "0" * 40, "md5:" + "g" * 32, "0" * 32],
)
def test_other_checksums_are_refused(path, checksum):
    with pytest.raises(UserError, match="expected md5:HEX with 32 digits"):
        download("http://127.0.0.1/x", path, checksum=checksum)


@pytest.mark.parametrize("note", ["", "[]", '{"url": 3}', '{"validator": "x"}'])
def test_a_damaged_note_lets_the_download_start_again(server, path, note):
    interrupted(server, path)
    (path.parent / PARTIAL[1]).write_text(note, encoding="utf-8")
    download(server.url, path, checksum=md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked == [(None, None)]
    assert files(path) == ["data.tar"]


def test_the_chunks_that_are_still_missing_are_watched(server, path, monkeypatch):
    monkeypatch.setattr(downloading, "CHUNK", 100)
    interrupted(server, path, after=300)
    watched = []

    def watch(chunks, total):
        for chunk in chunks:
            watched.append((len(chunk), total))
            yield chunk

    download(server.url, path, checksum=md5(CONTENT), watch=watch)
    # 724 of the 1,024 bytes are missing.
    assert watched == [(100, 8)] * 7 + [(24, 8)]
    assert path.read_bytes() == CONTENT


def test_a_killed_process_loses_no_more_than_a_chunk(server, path):
    chunk = downloading.CHUNK
    server.content = os.urandom(3 * chunk + 5)
    server.stall = 2 * chunk + 7
    code = (
        "import sys; from pathlib import Path; from pipeline.io.download import download; "
        "download(sys.argv[1], Path(sys.argv[2]), checksum=sys.argv[3])"
    )
    arguments = [sys.executable, "-c", code, server.url, str(path), md5(server.content)]
    part = path.parent / PARTIAL[0]
    with subprocess.Popen(arguments, cwd=REPOSITORY) as process:
        end = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == 2 * chunk) and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert part.read_bytes() == server.content[: 2 * chunk]
    server.release.set()
    download(server.url, path, checksum=md5(server.content))
    assert path.read_bytes() == server.content
    assert server.asked == [(None, None), (f"bytes={2 * chunk}-", '"one"')]


@given(
    content=st.binary(max_size=600),
    cuts=st.lists(st.integers(0, 600), max_size=7),
    headers=st.sampled_from([{"ETag": '"x"'}, {"Last-Modified": DATE}, {"ETag": 'W/"x"'}]),
    ranges=st.booleans(),
    chunk=st.sampled_from([1, 7, 100, 1 << 20]),
)
def test_any_interruptions_end_in_the_bytes_of_the_source(
    running, content, cuts, headers, ranges, chunk
):
    running.reset()
    running.content, running.cuts, running.headers = content, list(cuts), headers
    running.takes_ranges = ranges
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(downloading, "CHUNK", chunk)
        path = Path(folder, "data.tar")
        for _ in range(len(cuts) + 1):
            try:
                download(running.url, path, checksum=md5(content))
            except UserError:
                assert not path.exists()
            else:
                break
        assert path.read_bytes() == content
        assert files(path) == ["data.tar"]
    if ranges and not headers.get("ETag", "").startswith("W/"):
        assert running.sent == len(content)
