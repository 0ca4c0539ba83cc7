"""Rows to one file per bucket, by the embedded engine: Iceberg's hash of each value is found once, outside of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl_resources.conventions import PARQUET
from etl_resources.engines.embedded import stream
from etl_resources.identifiers import literal, quote
from etl_resources.tables.partitioning import Bucketing
from etl_resources.tables.schema import duckdb_type

if TYPE_CHECKING:
    import duckdb

HASHED_ROWS = 122_880
"""Values that are hashed at once."""
OPEN_FILES = 32
"""Files that are written at once, each with a buffer of its upload. Rows come by bucket: the next one opens later."""
_BUCKETS = "_bucket_of_value"


def write_buckets(
    engine: "duckdb.DuckDBPyConnection",
    rows: str,
    columns: Sequence[str],
    buckets: Bucketing,
    kind: str,
    folder: str,
    name: str,
    *,
    field_ids: str,
    order: Sequence[str],
) -> tuple[str, ...]:
    """Paths of the files with the rows of a query, below a folder per bucket; none without rows.

    kind: manifest type of the column that is hashed. name: of the files. order: columns by which each is sorted.
    """
    writer = engine.cursor()
    try:
        _find_buckets(engine, writer, rows, buckets, kind)
        engine.execute(f"set partitioned_write_max_open_files = {OPEN_FILES}")
        bucket = f"coalesce(_b._bucket::varchar, 'null') as {quote(buckets.field)}"
        query = (
            f"select {', '.join(f'_r.{quote(c)}' for c in columns)}, {bucket} from ({rows}) as _r "
            f"left join {_BUCKETS} as _b on _b._value = _r.{quote(buckets.column)} "
            f"order by {', '.join(('_b._bucket', *(f'_r.{quote(c)}' for c in order)))}"
        )
        written = engine.execute(
            f"copy ({query}) to {literal(folder)} ({PARQUET}, field_ids {field_ids}, "
            f"partition_by ({quote(buckets.field)}), overwrite_or_ignore, filename_pattern {literal(name + '-{i}')}, "
            "return_files)"
        ).fetchone()
        return tuple(sorted(written[1])) if written else ()
    finally:
        writer.execute(f"drop table if exists {_BUCKETS}")
        writer.close()


def _find_buckets(
    engine: "duckdb.DuckDBPyConnection", writer: "duckdb.DuckDBPyConnection", rows: str, buckets: Bucketing, kind: str
) -> None:
    """Table of each value and its bucket. A function that DuckDB calls for its 2,048 rows at a time is 10 times slower.

    writer: another connection of the engine, which reads while it is written.
    """
    import pyarrow as pa

    writer.execute(f"create or replace table {_BUCKETS} (_value {duckdb_type(kind)}, _bucket integer)")
    column = quote(buckets.column)
    values = f"select distinct {column} as _value from ({rows}) where {column} is not null"
    for batch in stream(engine, values, HASHED_ROWS):
        found = pa.table({"_value": batch.column(0), "_bucket": buckets.bucket_of(batch.column(0))})
        writer.register("_found", found)
        writer.execute(f"insert into {_BUCKETS} from _found")
        writer.unregister("_found")
