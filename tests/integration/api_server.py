"""An HTTP API whose every answer is scripted: what a page is, how fast it comes, and when it breaks off."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What was asked."""

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What comes back. `sent_bytes`: the connection ends after so many of the body, whatever length was told."""

    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    sent_bytes: int | None = None
    tells_length: bool = True
    pause_s: float = 0.0
    """Before each byte of the body."""


def page(content: Any, **headers: str) -> Answer:
    """A JSON page; a text is sent as it is."""
    body = content if isinstance(content, str) else json.dumps(content)
    return Answer(body.encode(), headers={"Content-Type": "application/json", **headers})


@dataclass
class Api:
    """Answers each request by its path, or by a function; a list is answered one after the other, the last one on."""

    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    url: str = ""

    @property
    def asked(self) -> list[str]:
        return [r.path for r in self.requests]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        self.times.append(time.monotonic())
        found = self.answers.get(request.path, self.answers.get("*", Answer(b'{"message": "not found"}', 404)))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        by_request: Callable[[Request], Answer] = found if callable(found) else lambda _: found
        return by_request(request)


@contextmanager
def serving() -> Iterator[Api]:
    """An API on loopback until the end."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = api.answer(Request(self.path, dict(self.headers.items())))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.tells_length:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            body = answer.body[: answer.sent_bytes]
            step = 1 if answer.pause_s else max(len(body), 1)
            for i in range(0, len(body), step):
                if stopped.wait(answer.pause_s):
                    break
                self.wfile.write(body[i : i + step])
            self.close_connection = answer.sent_bytes is not None or not answer.tells_length

        def log_message(self, *args: Any) -> None:
            pass

    stopped = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield api
        finally:
            stopped.set()
            server.shutdown()
            thread.join()
