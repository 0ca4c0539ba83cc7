"""Rows of landed files. Text is unpacked and split by Arrow: it notices a compressed file that is cut or damaged,
where the engine's own reader ends without a word.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError
from etl_resources.extract.batch_stream import ORIGIN, UNREADABLE, BatchStream, DeliveredRows
from etl_resources.extract.exact_json import exact_lines
from etl_resources.extract.raw_zone import RawObject, RawZone
from etl_resources.extract.read_ahead import ReadAhead
from etl_resources.identifiers import literal, quote
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.retries import retry_transient

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BLOCK_BYTES = 8 * 1024**2
"""Text is split block by block; a row can't be longer."""
BLOCKS_AHEAD = 3
"""Blocks of a file that are unpacked before the engine asks for them."""
READERS = 2
"""Files that are unpacked at once."""
LINE = "_line"
_NEVER_INSIDE = "\x1f"
"""A control character, which JSON holds only escaped: Arrow's splitter leaves lines whole."""
_ENDINGS = {".gz": "gzip", ".zst": "zstd"}
_NO_ROWS = "Empty CSV file"


def rows_of(
    source: S3FilesSource, engine: "duckdb.DuckDBPyConnection", zone: RawZone, landed: Sequence[RawObject]
) -> DeliveredRows:
    """All rows of the files, as Delivery.rows says."""
    if source.format == "parquet":
        return _parquet(source, engine, landed)
    schema = _schema(source)
    streams = tuple(
        BatchStream(
            engine, f"etl_{zone.dataset}_{i}", schema, partial(_batches, source, schema, zone, landed[i::READERS])
        )
        for i in range(READERS)
    )
    text = "(" + " union all ".join(f"select * from {quote(s.name)}" for s in streams) + ")"
    if source.format == "csv":
        return DeliveredRows(text, streams)
    return DeliveredRows(_json_rows(source, text), streams)


def compression_of(source: S3FilesSource, key: str) -> str | None:
    """gzip, zstd or None: what the manifest says, else by the key's ending."""
    if source.compression is not None:
        return None if source.compression == "none" else source.compression
    return next((name for ending, name in _ENDINGS.items() if key.lower().endswith(ending)), None)


def _json_rows(source: S3FilesSource, lines: str) -> str:
    """Table expression: each column's value as text, null where a line doesn't have it."""
    good = f"case when json_valid({LINE}) then json_type({LINE}) = 'OBJECT' else false end"
    shape = literal(json.dumps(dict.fromkeys(source.columns, "VARCHAR")))
    return (
        f"(select unnest(from_json(case when good then {LINE} else '{{}}' end, {shape})), {ORIGIN}, "
        f"case when not good then coalesce({LINE}, {UNREADABLE}) end as {UNREADABLE} "
        f"from (select *, coalesce({good}, false) as good from {lines}))"
    )


def _parquet(source: S3FilesSource, engine: "duckdb.DuckDBPyConnection", landed: Sequence[RawObject]) -> DeliveredRows:
    paths = "[" + ", ".join(literal(o.path) for o in landed) + "]"
    names = {o.path: o.name for o in landed}

    def look() -> tuple[list[Any], list[Any]]:
        columns = f"select file_name, list(name) from parquet_schema({paths}) group by 1 order by 1"
        rows = f"select sum(num_rows) from parquet_file_metadata({paths})"
        return engine.execute(columns).fetchall(), engine.execute(rows).fetchall()

    try:
        found, ((counted,),) = retry_transient(look, source.prefix)
    except Exception as e:
        raise engine_error(f"The Parquet files of {source.prefix}", e) from e
    for path, given in found:
        if missing := [c for c in source.columns if c not in given]:
            raise PermanentError(
                f"{names.get(path, path)} has no column {', '.join(missing)}. It has {', '.join(given)}."
            )
    columns = ", ".join(map(quote, source.columns))
    origin = "url_decode(regexp_extract(_path, '/run_id=[^/]+/[0-9a-f]{16}/(.*)$', 1))"
    return DeliveredRows(
        f"(select {columns}, {origin} as {ORIGIN}, null::varchar as {UNREADABLE} "
        f"from read_parquet({paths}, union_by_name = true, filename = '_path', hive_partitioning = false))",
        counted=int(counted or 0),
    )


def _schema(source: S3FilesSource) -> "pa.Schema":
    import pyarrow as pa

    values = list(source.columns) if source.format == "csv" else [LINE]
    return pa.schema([(name, pa.string()) for name in (*values, ORIGIN, UNREADABLE)])


def _batches(
    source: S3FilesSource, schema: "pa.Schema", zone: RawZone, objects: Sequence[RawObject]
) -> "Iterator[pa.RecordBatch]":
    """The files one after the other; what isn't a row is an UNREADABLE one. Raises PermanentError naming the file."""
    import pyarrow as pa

    for raw in objects:
        with zone.open(raw) as stream:
            ahead = ReadAhead(_unpacked(stream, compression_of(source, raw.name)), BLOCKS_AHEAD)
            try:
                yield from _file(source, schema, raw.name, ahead)
            except (pa.ArrowException, OSError, KeyError, ValueError) as e:
                if stream.failure is not None:
                    raise stream.failure from e
                if _NO_ROWS in str(e) and source.format != "csv":
                    continue
                raise PermanentError(
                    f"{raw.name} can't be read as {source.format}: {str(e).splitlines()[0]}. Nothing of this delivery "
                    f"is published; deliver the file again. Its bytes: {raw.path}"
                ) from e
            finally:
                ahead.give_up()


def _unpacked(stream: Any, compression: str | None) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), compression) if compression else stream


def _file(source: S3FilesSource, schema: "pa.Schema", name: str, ahead: ReadAhead) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa
    from pyarrow import csv

    wrong: list[str] = []

    def keep(row: csv.InvalidRow) -> str:
        wrong.append(row.text)
        return "skip"

    dialect = source.csv
    is_csv = source.format == "csv"
    columns = list(source.columns) if is_csv else [LINE]
    reader = csv.open_csv(
        pa.PythonFile(ahead, mode="r"),
        csv.ReadOptions(block_size=BLOCK_BYTES, column_names=None if is_csv else columns),
        csv.ParseOptions(
            delimiter=dialect.delimiter if is_csv else _NEVER_INSIDE,
            quote_char=dialect.quote if is_csv else False,
            newlines_in_values=is_csv,
            invalid_row_handler=keep,
        ),
        csv.ConvertOptions(
            column_types={c: pa.string() for c in columns},
            include_columns=columns,
            null_values=list(dialect.null_values) if is_csv else [],
            strings_can_be_null=is_csv,
            quoted_strings_can_be_null=False,
        ),
    )
    while True:
        batch = ahead.next_of(reader)
        if batch is not None:
            n = batch.num_rows
            values = batch.columns if is_csv else [exact_lines(batch.column(0))]
            yield pa.record_batch([*values, pa.repeat(name, n), pa.nulls(n, pa.string())], schema=schema)
        if wrong:
            rejected, wrong[:] = list(wrong), []
            n = len(rejected)
            values = [pa.nulls(n, pa.string())] * len(columns)
            yield pa.record_batch([*values, pa.repeat(name, n), pa.array(rejected, pa.string())], schema=schema)
        if batch is None:
            return
