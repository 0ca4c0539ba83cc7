"""What a step gets when it loads a published table: a handle, never the rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_resources.calendar import WHOLE
from etl_resources.engines.embedded import stream

if TYPE_CHECKING:
    import dagster as dg
    import duckdb
    import pyarrow as pa

BATCH_ROWS = 50_000


@dataclass(frozen=True)
class PublishedRows:
    """Partitions of one asset, pinned when the handle was made. Example: `for batch in handle.batches(): …`."""

    asset: str
    partitions: tuple[str, ...]
    scan: str
    """DuckDB table expression of exactly these partitions."""
    connect: Callable[[], "duckdb.DuckDBPyConnection"]

    @contextmanager
    def relation(self) -> Iterator["duckdb.DuckDBPyRelation"]:
        """The rows as a lazy DuckDB relation."""
        with self.connect() as engine:
            yield engine.sql(f"select * from {self.scan}")

    def batches(self, columns: Sequence[str] = ("*",), batch_rows: int = BATCH_ROWS) -> Iterator["pa.RecordBatch"]:
        """Arrow batches of at most batch_rows rows; memory is bounded by one batch."""
        with self.connect() as engine:
            yield from stream(engine, f"select {', '.join(columns)} from {self.scan}", batch_rows)


def asked_for(context: "dg.InputContext") -> tuple[str, list[str]]:
    """(asset name, partitions) of an input: its one partition where the asset has no partitions."""
    partitions = list(context.asset_partition_keys) if context.has_asset_partitions else [WHOLE]
    return ".".join(context.asset_key.path), partitions
