"""Rows from DuckDB into Postgres by COPY: Arrow batches, each rendered as CSV in one call, never as Python rows.

CSV keeps what matters apart: strings are quoted and nulls are not, decimals have all their digits, times are in UTC.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

BATCH_ROWS = 20_000
"""Rows rendered at once: a few megabytes."""


def copy_rows(
    connection: "psycopg.Connection[Any]", table: str, columns: str, batches: "Iterable[pa.RecordBatch]"
) -> int:
    """Append batches to a table that this transaction created; bytes sent.

    `table` and `columns` are quoted. Raises psycopg.Error and duckdb.Error; the server then keeps none of the rows.
    """
    import pyarrow as pa
    from pyarrow import csv

    options, sent_bytes = csv.WriteOptions(include_header=False), 0
    statement = f"copy {table} ({columns}) from stdin (format csv, freeze)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for batch in batches:
            block = pa.BufferOutputStream()
            csv.write_csv(batch, block, options)
            text = block.getvalue()
            copy.write(memoryview(text))
            sent_bytes += text.size
    return sent_bytes
