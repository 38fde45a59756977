"""A proxy in front of an S3 server that injects faults, from a seed.

Faults: status 500 and 503, connections that are dropped before or after the server has carried out the request, bodies
that are cut short, requests that hang, and slow answers.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

FAULTS = ("500", "503", "dropped", "unanswered", "cut", "hanging", "slow")
_DROPPED_HEADERS = {"transfer-encoding", "connection", "content-length", "date", "server"}


class FaultyProxy(ThreadingHTTPServer):
    """The proxy. ``rate`` is the share of requests with a fault, which can be changed at any time."""

    daemon_threads = True

    def __init__(self, upstream: str, seed: int, rate: float, hang: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.rate, self.hang = urlparse(upstream).netloc, rate, hang
        self.is_down = False  # 503 to all requests
        self.never_matches = False  # as Ceph's gateway 16.2: 412 to any If-Match
        self.injected: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()  # noqa: S311 - not for secrets

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def draw(self) -> str:
        """The fault of the next request; empty if it has none."""
        if self.is_down:
            return "503"
        with self._lock:
            fault = self._random.choice(FAULTS) if self._random.random() < self.rate else ""
            self.injected[fault] += 1
        return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the clients drop connections too."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, *_: object) -> None: ...

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.draw()
        if fault in {"500", "503"}:
            self._answer(int(fault), {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        if fault == "hanging":
            time.sleep(self.server.hang)
        if fault in {"dropped", "hanging"}:
            self._drop()
            return
        if self.server.never_matches and "If-Match" in self.headers:
            self._answer(412, {}, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        status, headers, content = self._ask(body)
        if fault == "slow":
            time.sleep(self.server.hang / 4)
        if fault == "unanswered":
            self._drop()
            return
        self._answer(status, headers, content, cut=fault == "cut")

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _forward  # noqa: N815 - names of the base class

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _DROPPED_HEADERS}
        if self.command == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length") or "0"
        return answer.status, headers, content

    def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._drop()

    def _drop(self) -> None:
        """Reset the connection."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@contextmanager
def faulty_proxy(upstream: str, *, seed: int = 0, rate: float = 0.0, hang: float = 1.0) -> Iterator[FaultyProxy]:
    """A running proxy in a thread of this process."""
    proxy = FaultyProxy(upstream, seed, rate, hang)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
