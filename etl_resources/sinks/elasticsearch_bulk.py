"""Bulk requests: bytes that DuckDB rendered, two in flight, every item of every answer looked at.

An item that the server refuses because it is busy is sent again with backoff; one that it refuses for its content is
returned as rejected; sent = written + rejected, always.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.classify import classify
from etl_resources.elasticsearch_errors import of_status
from etl_resources.errors import FencedError, PermanentError, TransientError
from etl_resources.http_errors import status_of
from etl_resources.retries import retry_transient, with_retries_of_here

if TYPE_CHECKING:
    import pyarrow as pa
    from elasticsearch import Elasticsearch

IN_FLIGHT = 2
CHUNK_ROWS = 5_000
BODY_BYTES_MAX = 8 * 2**20
"""Documents go together up to this; a larger one goes alone."""
REFUSED_SHARE_MAX = 0.5
"""Of a partition's rows. What refuses more of them is no fault of single rows: nothing is published then."""
_BAD_REQUEST, _GONE, _TOO_LARGE = 400, 404, 413
_ANSWER = "errors,items.*.status,items.*._seq_no,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"


@dataclass(frozen=True)
class Rejected:
    """A document that the server refused, and why."""

    id: str
    reason: str


class Chunk:
    """Rows of one request: their ids, and for each the lines that are sent."""

    def __init__(self, ids: "pa.Array[Any]", lines: "pa.Array[Any]") -> None:
        self._ids, self._lines = ids, lines

    def __len__(self) -> int:
        return len(self._ids)

    def id(self, row: int) -> str:
        return str(self._ids[row].as_py())

    def line(self, row: int) -> str:
        return str(self._lines[row].as_py())

    def body(self, rows: Sequence[int]) -> bytes:
        """The lines of these rows, which are in order; of all of them without a copy of each."""
        if len(rows) == len(self):
            start, end = self._offsets(0, len(self))
            return bytes(memoryview(self._lines.buffers()[2])[start:end])
        return b"".join(self.line(r).encode() for r in rows)

    def split(self) -> "Iterator[Chunk]":
        """Chunks of at most BODY_BYTES_MAX, or of one row."""
        first = 0
        while first < len(self):
            last = first + 1
            start, _ = self._offsets(first, last)
            while last < len(self) and self._offsets(last, last + 1)[1] - start <= BODY_BYTES_MAX:
                last += 1
            yield Chunk(self._ids.slice(first, last - first), self._lines.slice(first, last - first))
            first = last

    def size_bytes(self) -> int:
        start, end = self._offsets(0, len(self))
        return end - start

    def _offsets(self, first: int, last: int) -> tuple[int, int]:
        wide = str(self._lines.type).startswith("large")
        offsets = memoryview(self._lines.buffers()[1]).cast("q" if wide else "i")
        return offsets[self._lines.offset + first], offsets[self._lines.offset + last]


class Loader:
    """Sends chunks through an alias. `what`: whose, for messages. performed: gets the operations of each answer."""

    def __init__(
        self, client: "Elasticsearch", alias: str, what: str, performed: MutableSequence[int] | None = None
    ) -> None:
        self.client, self.alias, self.what = client, alias, what
        self._performed = [] if performed is None else performed

    def load(self, chunks: Iterable[Chunk]) -> Iterator[Rejected]:
        """Send everything; what the server refused. Raises TransientError when it stays busy, FencedError when the
        alias is gone: the attempt may not write any more."""
        send = with_retries_of_here(self._send)
        pending: deque[Future[list[Rejected]]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            try:
                for chunk in chunks:
                    for part in chunk.split() if chunk.size_bytes() > BODY_BYTES_MAX else (chunk,):
                        while len(pending) >= IN_FLIGHT:
                            yield from pending.popleft().result()
                        pending.append(pool.submit(send, part))
                while pending:
                    yield from pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _send(self, chunk: Chunk) -> list[Rejected]:
        left, rejected = list(range(len(chunk))), []

        def once() -> None:
            nonlocal left
            if not left:
                return
            answered, again = left, []
            for row, item in zip(answered, self._answers(chunk, answered), strict=True):
                problem = self.judge(item)
                if isinstance(problem, TransientError):
                    again.append((row, problem))
                elif problem is not None:
                    rejected.append(Rejected(chunk.id(row), str(problem)))
            left = [row for row, _ in again]
            if again:
                raise TransientError(f"{len(again)} of {len(answered)} documents were not taken: {again[0][1]}")

        retry_transient(once, self.what)
        return rejected

    def judge(self, item: Mapping[str, Any]) -> Exception | None:
        """None: written. TransientError: to be sent again. Another error: rejected. Raises what ends the load."""
        status, error = int(item["status"]), item.get("error")
        if error is None:
            return None
        reason = _reason(error)
        if status == _GONE and "index" in str(error.get("type")):
            raise FencedError(f"{self.what}: {self.alias} is gone: another attempt or recovery fenced this one.")
        problem = of_status(status, reason)
        if isinstance(problem, TransientError):
            return problem
        if status == _BAD_REQUEST:
            return PermanentError(f"{error.get('type')}: {reason}")
        raise problem

    def _answers(self, chunk: Chunk, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """One item per row. A request that is refused as a whole is halved until the rows are found that are why."""
        body = chunk.body(rows)
        try:
            answer = self.client.bulk(index=self.alias, operations=body, require_alias=True, filter_path=_ANSWER)  # type: ignore[arg-type]  # bytes pass through
        except Exception as e:
            known = classify(e)
            if status_of(e) not in (_BAD_REQUEST, _TOO_LARGE) or not isinstance(known, PermanentError):
                raise
            if len(rows) == 1:
                return [{"status": _BAD_REQUEST, "error": {"type": "refused_request", "reason": str(known)}}]
            half = len(rows) // 2
            return [*self._answers(chunk, rows[:half]), *self._answers(chunk, rows[half:])]
        items = [next(iter(i.values())) for i in answer["items"]]
        self._performed.append(sum("_seq_no" in item for item in items))
        if len(items) != len(rows):
            raise TransientError(f"{self.what}: {len(rows)} documents were sent, {len(items)} were answered.")
        return items


def prove_accepted(what: str, accepted: int, refused: int, common_reason: str) -> None:
    """Few enough rows of a partition were refused to be dead letters. Raises PermanentError."""
    rows = accepted + refused
    if refused > REFUSED_SHARE_MAX * rows:
        raise PermanentError(
            f"{what}: {refused} of {rows} documents were refused, most often because {common_reason}. More than "
            f"{REFUSED_SHARE_MAX:.0%} is no fault of single rows: correct the table, or the server's index templates "
            "and ingest pipelines, then materialize again."
        )


def _reason(error: Mapping[str, Any]) -> str:
    cause = error.get("caused_by", {}).get("reason")
    text = str(error.get("reason"))
    return f"{text} ({cause})" if cause and cause not in text else text
