"""What the embedded S3 server of a benchmark's own stack sends to its clients, by the server's own counter.

The bytes that the process writes (`/proc`) are more: a part of an object that a client asks for is sent whole from the
server's store to its gateway first, so 16 KB of a file's end may cost as much as the file.
"""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from etl_resources.stack.ports import LOOPBACK
from etl_resources.stack.processes import Command
from etl_resources.stack.s3 import SeaweedFS
from etl_resources.stack.state import ServerRecord

_SENT = "SeaweedFS_s3_bucket_traffic_sent_bytes_total{"


class S3Traffic:
    """Reads the counters of the server that was started while `counted` held."""

    def __init__(self, port: int) -> None:
        self._url = f"http://{LOOPBACK}:{port}/metrics"

    def sent(self) -> int:
        """Bytes of objects that all clients got since the server was started."""
        with urllib.request.urlopen(self._url) as answer:  # noqa: S310  (a server of our own)
            lines = answer.read().decode().splitlines()
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(_SENT)))


@contextmanager
def counted() -> Iterator[S3Traffic]:
    """Within it, an embedded S3 server that this process starts tells its counters."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    given = SeaweedFS.command

    def command(self: SeaweedFS, record: ServerRecord) -> Command:
        plain = given(self, record)
        return replace(plain, argv=[*plain.argv, f"-metricsPort={port}"])

    with mock.patch.object(SeaweedFS, "command", command):
        yield S3Traffic(port)
