"""A TCP proxy that can be cut: a server that goes away while the real one keeps running for the others."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Forwards to one address until it is cut; afterwards connections are refused."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._unanswered: bytes | None = None
        self._lost: socket.socket | None = None
        self.lost_answer = False
        self._short: tuple[bytes, int] | None = None
        self._left: dict[socket.socket, int] = {}
        self.cut_short = 0
        """Answers that ended in the middle."""
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        for s in (self._listener, *self._open):
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def lose_answer_to(self, request: bytes) -> None:
        """Cut when the server has answered the next request that contains these bytes, which the client won't hear."""
        self._unanswered = request

    def cut_short_answer_to(self, request: bytes, after_bytes: int) -> None:
        """Drop the connection of the next request that contains this, when so much of its answer has passed."""
        self._short = (request, after_bytes)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _drop(self, *connection: socket.socket) -> None:
        self.cut_short += 1
        for s in connection:
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._lost is source:
                    self.lost_answer = True
                    self.cut()
                    return
                if self._unanswered is not None and self._unanswered in data:
                    self._lost, self._unanswered = target, None
                if self._short is not None and self._short[0] in data:
                    self._left[target], self._short = self._short[1], None
                if source in self._left:
                    self._left[source] -= len(data)
                    if self._left[source] < 0:
                        self._drop(source, target)
                        return
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def proxy_to(host: str, port: int) -> Iterator[Proxy]:
    """A proxy that is cut at the end."""
    proxy = Proxy(host, port)
    try:
        yield proxy
    finally:
        proxy.cut()
