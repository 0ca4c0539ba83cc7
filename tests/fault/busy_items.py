"""A server that is busy for single documents of a bulk request, and takes the others."""

import json
from dataclasses import dataclass, field

_BUSY = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "queue is full"}}


@dataclass
class BusyForSome:
    """Of a request every n-th document doesn't reach the server and is answered 429 (a Change of http_proxy)."""

    every: int
    operations: list[str] = field(default_factory=list)
    """What each document of the request was to be: index, create, update."""

    def request(self, body: bytes) -> bytes:
        lines = body.splitlines(keepends=True)
        pairs = [lines[n : n + 2] for n in range(0, len(lines), 2)]
        self.operations = [next(iter(json.loads(action))) for action, _ in pairs]
        return b"".join(b"".join(pair) for n, pair in enumerate(pairs) if not self._is_refused(n))

    def answer(self, content: bytes) -> bytes:
        answer = json.loads(content)
        taken = iter(answer["items"])
        items = [{what: _BUSY} if self._is_refused(n) else next(taken) for n, what in enumerate(self.operations)]
        return json.dumps({**answer, "errors": True, "items": items}).encode()

    def _is_refused(self, place: int) -> bool:
        return place % self.every == 0
