"""Rows from DuckDB into Postgres by COPY: Arrow batches, each rendered as CSV in one call, never as Python rows.

CSV keeps what matters apart: strings are quoted and nulls are not, decimals have all their digits, times are in UTC.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote

if TYPE_CHECKING:
    import duckdb
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


@contextmanager
def naming_nul(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, key: Sequence[str], scan: str, what: str
) -> Iterator[None]:
    """Postgres keeps no NUL in a text, and says only that there is one: the error tells the row and what to do."""
    import psycopg

    try:
        yield
    except psycopg.errors.CharacterNotInRepertoire as e:
        texts = [c.name for c in contract.columns if c.type == "string"]
        found = " ".join(f"when contains({quote(t)}, chr(0)) then '{t}'" for t in texts)
        keys = ", ".join(f"{quote(k)} := {quote(k)}" for k in key)
        row = engine.cursor().execute(
            f"select nul, to_json(struct_pack({keys}))::varchar from (select *, case {found} end as nul from {scan}) "
            "where nul is not null limit 1"
        ).fetchone()  # fmt: skip
        place = f"column {row[0]} of the row with key {row[1]}" if row else "a text"
        raise PermanentError(
            f"{what}: {place} has a NUL character, which Postgres can't keep. Reject such rows by a rule "
            "(`matches: '[^\\x00]*'`), or take it out in the SQL: replace(…, chr(0), '')."
        ) from e
