"""The HTTP endpoint of metrics: GET /metrics, and GET /healthz, which tells only that the process lives.

On loopback by default and without a password, as Prometheus' own exporters. Anywhere else it wants a bearer token and
TLS: metrics name tables, owners of nothing, but amounts of rows and failures are nobody's business.
"""

import hmac
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError, SettingsError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PORT = 9464
"""That of the Prometheus exporters of OpenTelemetry."""
LOOPBACK = "127.0.0.1"
IDLE_TIMEOUT_S = 15
TOKEN_CHARS_MIN = 16


@dataclass(frozen=True)
class Endpoint:
    """Where it listens, and who may read it."""

    address: str = LOOPBACK
    port: int = PORT
    token_file: Path | None = None
    """A bearer token; read with each request, so that it can be replaced."""
    certificate: Path | None = None
    key: Path | None = None
    plain: bool = False
    """Whether it may answer without TLS off loopback: where something else encrypts."""

    def prove_safe(self) -> None:
        """Raises SettingsError for what would show metrics to anybody."""
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("--tls-cert and --tls-key belong together.")
        if self.token_file is not None:
            self.token()
        if _is_loopback(self.address):
            return
        if self.token_file is None:
            raise SettingsError(
                f"{self.address} can be reached from other machines: give --token-file, a file with a bearer token "
                f"of at least {TOKEN_CHARS_MIN} characters, which Prometheus sends (authorization: credentials_file)."
            )
        if self.certificate is None and not self.plain:
            raise SettingsError(
                f"{self.address} can be reached from other machines, who could read the token on its way: give "
                "--tls-cert and --tls-key, or --plain where a proxy or the network encrypts."
            )

    def token(self) -> str | None:
        """Of now; None where none is asked for. Raises SettingsError."""
        if self.token_file is None:
            return None
        try:
            token = self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError(f"--token-file {self.token_file} can't be read ({type(e).__name__}).") from e
        if len(token) < TOKEN_CHARS_MIN:
            raise SettingsError(f"--token-file {self.token_file} holds no token of {TOKEN_CHARS_MIN} characters.")
        return token

    @property
    def url(self) -> str:
        """For people."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}/metrics"


class MetricsServer(ThreadingHTTPServer):
    """Serves as soon as serve_forever() is called. log: told of what a request met that nobody foresaw."""

    daemon_threads = True

    def __init__(self, endpoint: Endpoint, registry: "CollectorRegistry", log: Callable[[str], None]) -> None:
        endpoint.prove_safe()
        self.endpoint, self.registry, self.log = endpoint, registry, log
        if ":" in endpoint.address:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((endpoint.address, endpoint.port), _Handler)
        except OSError as e:
            raise PermanentError(
                f"{endpoint.address}:{endpoint.port} can't be listened on ({e.strerror}). Choose another --port."
            ) from e
        if endpoint.certificate is not None:
            self.socket = _with_tls(self.socket, endpoint)


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "data-pipeline", ""
    wbufsize = -1
    timeout = IDLE_TIMEOUT_S
    server: MetricsServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._send(200, b"ok\n")
        elif path != "/metrics":
            self._send(404, b"GET /metrics\n")
        elif not self._is_allowed():
            self._send(401, b"a bearer token is needed\n", {"WWW-Authenticate": "Bearer"})
        else:
            self._metrics()

    def _metrics(self) -> None:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        try:
            body = encode(self.server.registry)
        except Exception as e:
            self.server.log(f"a scrape failed: {type(e).__name__}: {e}")
            self._send(500, b"see the log of this process\n")
            raise
        self._send(200, body, {"Content-Type": content_type})

    def _is_allowed(self) -> bool:
        try:
            token = self.server.endpoint.token()
        except SettingsError as e:
            self.server.log(str(e))
            return False
        given = self.headers.get("Authorization", "")
        return token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (http.server)
        """Silent: a line per scrape would fill a log."""


def _with_tls(listening: socket.socket, endpoint: Endpoint) -> ssl.SSLSocket:
    """Hands are shaken in the thread of each request: one that never finishes must not hold the others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(str(endpoint.certificate), str(endpoint.key))
    except (OSError, ssl.SSLError) as e:
        listening.close()
        raise SettingsError(
            f"--tls-cert {endpoint.certificate} and --tls-key {endpoint.key} can't be used ({e}). Give PEM files."
        ) from e
    return context.wrap_socket(listening, server_side=True, do_handshake_on_connect=False)


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
