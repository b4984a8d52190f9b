"""A server of one file that can misbehave as servers do."""

import hashlib
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 4
DATE = "Wed, 01 Feb 2012 10:00:00 GMT"


class FileServer(ThreadingHTTPServer):
    """Serves one file, and can misbehave; counts what it was asked and the bytes it sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reset()

    def reset(self) -> None:
        self.content = CONTENT
        self.headers = {"ETag": '"one"', "Last-Modified": DATE}
        self.takes_ranges = self.takes_conditions = self.says_length = True
        self.statuses: list[int] = []  # of the next answers
        self.cuts: list[int] = []  # bytes after which the next answers break off
        self.shift = 0  # bytes too early that answers to ranges begin
        self.stall: int | None = None  # bytes after which the next answer waits for `release`
        self.release = threading.Event()
        self.asked: list[tuple[str | None, str | None]] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data.tar"

    def handle_error(self, request, client_address):
        """Ignore clients that hang up."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self):
        server = self.server
        wanted, condition = self.headers["Range"], self.headers["If-Range"]
        server.asked.append((wanted, condition))
        self.close_connection = True
        if server.statuses:
            self.answer(server.statuses.pop(0), b"", {})
        elif self.path == "/moved":
            self.answer(302, b"", {"Location": server.url})
        elif not server.takes_ranges or not wanted or not self.unchanged(condition):
            self.answer(200, server.content, server.headers)
        else:
            start, size = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]), len(server.content)
            if start >= size:
                self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
                return
            start -= server.shift
            span = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
            self.answer(206, server.content[start:], server.headers | span)

    def unchanged(self, condition):
        known = set(self.server.headers.values())
        return not self.server.takes_conditions or condition is None or condition in known

    def answer(self, status, body, headers):
        server = self.server
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if body and server.cuts:
            body = body[: server.cuts.pop(0)]
        if body and server.stall is not None:
            first, server.stall = server.stall, None
            self.wfile.write(body[:first])
            server.sent += first
            server.release.wait(60)
            return
        server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *_args):
        """Keep quiet."""


@contextmanager
def serving(server: FileServer):
    """Answer requests in a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"
