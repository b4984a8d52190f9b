"""A server that speaks as much of the Hugging Face hub's protocol as a download needs."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef" * 2 + "01234567"
REPOSITORY = "timm/test_resnet.r160_in1k"


class Hub(ThreadingHTTPServer):
    """One repository with the files in ``files``, each with the SHA-256 that it has by then.

    ``etags`` states others in their place and ``commit`` another commit, ``requests`` is which
    files were asked for, ``breaks`` makes the server break off the first body in the middle and
    answer nothing more.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.etags = {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
        self.requests: list[tuple[str, str]] = []
        self.repository = REPOSITORY
        self.commit = COMMIT
        self.breaks = self.broken = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        hub, name = self.server, self.path.rpartition("/")[2]
        # The library asks for more than files, in an environment that it takes for an agent's.
        if "/resolve/" in self.path:
            hub.requests.append((self.command, name))
        revisions = [
            f"/{hub.repository}/resolve/{revision}/{name}" for revision in (COMMIT, "main")
        ]
        if hub.broken:
            return
        if self.path not in revisions:
            self.refuse(401, "RepoNotFound")
        elif name not in hub.files:
            self.refuse(404, "EntryNotFound")
        else:
            self.send(name, with_body=with_body)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, name: str, *, with_body: bool) -> None:
        hub, body = self.server, self.server.files[name]
        self.send_response(200)
        self.send_header("ETag", f'"{hub.etags[name]}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body and hub.breaks:
            hub.broken = True
            self.wfile.write(body[: len(body) // 2])
        elif with_body:
            self.wfile.write(body)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub(files)
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
