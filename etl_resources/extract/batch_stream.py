"""Rows made in Python as an Arrow stream that the engine reads batch by batch, as it needs them."""

from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_resources.classify import classify
from etl_resources.errors import PermanentError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

ORIGIN, UNREADABLE = "_origin", "_unreadable"
"""Columns that a delivery's rows have beside the source's."""
SOURCE_ROW = "_row"
"""In files of text: number of the row in its object, null where it isn't known."""
LACKING = "_lacking"
"""Where rows are rejected because their object lacks a column: its name, else null."""


class BatchStream:
    """A source of record batches, as a view of the engine.

    It counts what it hands over, and keeps what ended a reading: the engine passes on no more than an error's text.
    """

    def __init__(
        self,
        engine: "duckdb.DuckDBPyConnection",
        name: str,
        schema: "pa.Schema",
        batches: "Callable[[], Iterable[pa.RecordBatch]]",
    ) -> None:
        self._engine, self.name, self._schema, self._batches = engine, name, schema, batches
        self._context = copy_context()  # the engine's threads know nothing of the run's retry budget
        self.rows = 0
        """Rows of the last reading."""
        self.failure: Exception | None = None
        """What ended the last reading; None when it came to its end."""

    def rewind(self) -> None:
        """Let the engine's next statement read from the beginning.

        The engine is given the bare stream: an object that makes streams is read through Arrow's dataset scanner, which
        fetches up to 1 GB before it is asked for it.
        """
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(self._schema, self._reading())
        self._engine.register(self.name, reader.__arrow_c_stream__())

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

    table: str
    """DuckDB table expression, which names each stream once."""
    streams: tuple[BatchStream, ...] = ()
    """What it reads, where that passes through Python."""
    counted: int | None = None
    """Rows of it, where the source itself says so (Parquet)."""

    def scan(self) -> str:
        """The table expression for one statement that reads it, and any that describe it before."""
        for stream in self.streams:
            stream.rewind()
        return self.table

    @property
    def read(self) -> int:
        """Rows that the last reading handed over, counted outside of the engine."""
        if self.counted is not None:
            return self.counted
        return sum(s.rows for s in self.streams)

    @property
    def failure(self) -> Exception | None:
        """What ended the last reading in Python, if that did."""
        return next((s.failure for s in self.streams if s.failure is not None), None)

    def error_of(self, error: Exception, what: str) -> Exception:
        """The error that ended a reading: the stream's own if there is one, else the engine's."""
        if self.failure is not None:
            return self.failure
        known = classify(error) or PermanentError(str(error))
        return type(known)(f"{what}: {known}")
