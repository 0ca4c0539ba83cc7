"""Rows made in Python as an Arrow stream that the engine reads as often as it likes, batch by batch."""

from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.classify import classify
from etl_resources.errors import PermanentError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

ORIGIN, UNREADABLE = "_origin", "_unreadable"
"""Columns that a delivery's rows have beside the source's."""


class BatchStream:
    """A source of record batches. The engine asks for a new stream at each reading.

    It counts what it hands over, and keeps what ended a reading: the engine passes on no more than an error's text.
    """

    def __init__(self, schema: "pa.Schema", batches: "Callable[[], Iterable[pa.RecordBatch]]") -> None:
        self._schema, self._batches = schema, batches
        self._context = copy_context()  # the engine's threads know nothing of the run's retry budget
        self.rows = 0
        """Rows of the last reading."""
        self.failure: Exception | None = None
        """What ended the last reading; None when it came to its end."""

    def register(self, engine: "duckdb.DuckDBPyConnection", name: str) -> str:
        """Make it a view of the engine; its name."""
        engine.register(name, self)
        return name

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """Arrow's PyCapsule interface."""
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(self._schema, self._reading())
        return reader.__arrow_c_stream__(requested_schema)

    def _reading(self) -> "Iterator[pa.RecordBatch]":
        self.rows, self.failure = 0, None
        context = self._context.copy()
        try:
            batches = context.run(lambda: iter(self._batches()))
            while (batch := context.run(next, batches, None)) is not None:
                self.rows += batch.num_rows
                yield batch
        except Exception as e:
            self.failure = classify(e) or e
            raise


@dataclass(frozen=True)
class DeliveredRows:
    """The rows of a delivery as the engine reads them."""

    expression: str
    """DuckDB table expression; it may be read several times."""
    streams: tuple[BatchStream, ...] = ()
    """What it reads, where that passes through Python."""
    counted: int | None = None
    """Rows of it, where the source itself says so (Parquet)."""

    @property
    def read(self) -> int:
        """Rows that the last reading handed over, counted outside of the engine."""
        if self.counted is not None:
            return self.counted
        return sum(s.rows for s in self.streams)

    def error_of(self, error: Exception, what: str) -> Exception:
        """The error that ended a reading: the stream's own if there is one, else the engine's."""
        for stream in self.streams:
            if stream.failure is not None:
                return stream.failure
        known = classify(error) or PermanentError(str(error))
        return type(known)(f"{what}: {known}")
