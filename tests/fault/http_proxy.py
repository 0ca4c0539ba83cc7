"""An HTTP proxy before a real server that answers some requests itself, or lets their answers get lost."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Decide = Callable[[str, str, int], int | str | None]
"""(method, path, number of requests that this was asked about before) → a status to answer with at once, "lose" to
carry it out and drop the connection instead of answering, None to pass it on."""
_HEADERS = {"Content-Type": "application/json", "X-Elastic-Product": "Elasticsearch"}
_BUSY = b'{"error": {"type": "es_rejected_execution_exception", "reason": "queue is full"}}'


@dataclass
class FaultyProxy:
    """Forwards to one server."""

    url: str
    decide: Decide
    faults: int = 0
    asked: int = 0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str, path: str) -> int | str | None:
        """What happens to a request."""
        with self.counting:
            fault = self.decide(method, path, self.asked)
            self.asked += 1
            self.faults += fault is not None
            return fault


@contextmanager
def faulty(server: str, decide: Decide) -> Iterator[FaultyProxy]:
    """A proxy that ends with the block."""
    target, proxy = urlsplit(server), FaultyProxy("", decide)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.next(self.command, self.path)
            if isinstance(fault, int):
                self.reply(fault, _HEADERS, _BUSY)
                return
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if fault == "lose":
                self.close_connection = True
                self.connection.close()
                return
            self.reply(answer.status, dict(answer.getheaders()), content)

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

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
