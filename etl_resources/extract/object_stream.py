"""An object read from beginning to end; a connection that is cut goes on where it was."""

import io
from collections.abc import Callable
from typing import Any

from etl_resources.errors import RestartError, TransientError
from etl_resources.retries import retry_transient

_CHANGED = ("PreconditionFailed", "NoSuchKey", "NoSuchVersion", "412", "404")
"""What a conditional read or copy answers when the object isn't there any more, or is another."""


class ObjectStream(io.RawIOBase):
    """One version of an object: `request` names it (Bucket, Key, IfMatch or VersionId)."""

    def __init__(self, client: Any, request: dict[str, Any], size_bytes: int, what: str) -> None:
        super().__init__()
        self._client, self._request, self._size, self._what = client, request, size_bytes, what
        self._position = 0
        self._body: Any = None
        self.failure: Exception | None = None
        """What ended the reading; libraries that read through this show only its text."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Up to as many bytes as fit; 0 at the end. Raises RestartError when the object was replaced meanwhile."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; fewer only at the end."""
        wanted = min(size if size >= 0 else self._size, self._size - self._position)
        parts = []
        while wanted > 0:
            try:
                part = retry_transient(lambda n=wanted: self._once(n), self._what)  # type: ignore[misc]
            except Exception as e:
                self.failure = e
                raise
            self._position += len(part)
            wanted -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
        super().close()

    def _once(self, size: int) -> bytes:
        try:
            if self._body is None:
                self._body = self._open()
            part: bytes = self._body.read(size)
            if not part:
                raise TransientError(f"{self._what} ended {self._size - self._position} bytes too early.")
        except Exception:
            if self._body is not None:
                self._body.close()
            self._body = None
            raise
        return part

    def _open(self) -> Any:
        start = {"Range": f"bytes={self._position}-"} if self._position else {}
        return unless_changed(lambda: self._client.get_object(**self._request, **start)["Body"], self._what)


def unless_changed(call: Callable[[], Any], what: str) -> Any:
    """The answer of a conditional request. Raises RestartError when the object was replaced or removed."""
    from botocore.exceptions import ClientError

    try:
        return call()
    except ClientError as e:
        if e.response.get("Error", {}).get("Code") in _CHANGED:
            raise RestartError(f"{what} was replaced or removed while it was captured. Run again.") from e
        raise
