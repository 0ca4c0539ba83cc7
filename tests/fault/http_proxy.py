"""An HTTP proxy before a real server that answers or changes some requests itself, or lets answers get lost."""

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import urlsplit


class Change(Protocol):
    """Makes another request of one, and of its answer an answer to what was asked."""

    def request(self, body: bytes) -> bytes:
        """What the server gets."""

    def answer(self, content: bytes) -> bytes:
        """What the client gets."""


Decide = Callable[[str, str, int], "int | str | Change | None"]
"""(method, path, number of requests that this was asked about before) → a status to answer with at once, "lose" to
carry it out and drop the connection instead of answering, a Change, None to pass it on."""
_HEADERS = {"Content-Type": "application/json", "X-Elastic-Product": "Elasticsearch"}
_BUSY = b'{"error": {"type": "es_rejected_execution_exception", "reason": "queue is full"}}'


@dataclass
class FaultyProxy:
    """Forwards to one server."""

    server: str
    decide: Decide
    credentials: Mapping[str, str]
    url: str = ""
    faults: int = 0
    asked: int = 0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str, path: str) -> int | str | Change | None:
        """What happens to a request."""
        with self.counting:
            fault = self.decide(method, path, self.asked)
            self.asked += 1
            self.faults += fault is not None
            return fault

    def send(self, method: str, path: str, body: bytes, given: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        """What the server answers: status, headers, content."""
        target = urlsplit(self.server)
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
        headers = {k.lower(): v for k, v in given.items()}
        for name in ("host", "accept-encoding", "content-length"):
            headers.pop(name, None)
        if known := self.credentials.get(headers.get("authorization", "")):
            headers["authorization"] = known
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


@contextmanager
def faulty(
    server: str,
    decide: Decide,
    *,
    tls: ssl.SSLContext | None = None,
    credentials: Mapping[str, str] | None = None,
) -> Iterator[FaultyProxy]:
    """A proxy that ends with the block.

    tls: speaks https. credentials: header `Authorization` as clients must send it → as the server knows it.
    """
    proxy = FaultyProxy(server, decide, credentials or {})
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    listener.daemon_threads = True
    if tls is not None:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    proxy.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ssl.SSLError):  # who refuses our certificate, or speaks no TLS, hangs up
                super().handle()

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.next(self.command, self.path)
            if isinstance(fault, int):
                self.reply(fault, _HEADERS, _BUSY)
                return
            change = None if isinstance(fault, str) else fault
            status, headers, content = proxy.send(
                self.command, self.path, change.request(body) if change else body, dict(self.headers)
            )
            if fault == "lose":
                self.close_connection = True
                self.connection.close()
                return
            self.reply(status, headers, change.answer(content) if change else content)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = forward  # noqa: N815  (names of http.server)

        def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(b"" if self.command == "HEAD" else content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (signature of http.server)
            pass

    return Handler
