"""Rows of landed files. Text is unpacked and split by Arrow: it notices a compressed file that is cut or damaged,
where the engine's own reader ends without a word.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError
from etl_resources.extract.batch_stream import LACKING, ORIGIN, SOURCE_ROW, UNREADABLE, BatchStream, DeliveredRows
from etl_resources.extract.delivery import DECLARED, Reading
from etl_resources.extract.exact_json import exact_lines, risky_lines
from etl_resources.extract.raw_zone import RawObject, RawZone
from etl_resources.extract.read_ahead import ReadAhead
from etl_resources.extract.split_rows import BLOCK_BYTES, EndMark, WrongRows, told
from etl_resources.identifiers import literal, quote
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.retries import retry_transient
from etl_resources.sensitive import captured_columns, is_sensitive, without_values

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyarrow import csv

LOOKED_AT_ROWS = 1_000
"""Rows of a JSON file in which new keys are looked for."""
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
    source: S3FilesSource,
    engine: "duckdb.DuckDBPyConnection",
    zone: RawZone,
    landed: Sequence[RawObject],
    reading: Reading = DECLARED,
    delivery: Sequence[RawObject] = (),
) -> DeliveredRows:
    """All rows of the files, as Delivery.rows says. delivery: all of its files, where these are some of them: a column
    of Parquet has the type that holds the values of all."""
    if source.format == "parquet":
        return _parquet(source, engine, landed, reading, delivery or landed)
    lines = lines_of(source, engine, zone, landed, reading)
    if source.format == "csv":
        return lines
    return DeliveredRows(_json_rows(reading.columns or tuple(captured_columns(source)), lines.table), lines.streams)


def lines_of(
    source: S3FilesSource,
    engine: "duckdb.DuckDBPyConnection",
    zone: RawZone,
    landed: Sequence[RawObject],
    reading: Reading = DECLARED,
) -> DeliveredRows:
    """Rows of CSV; lines of JSON, in the column LINE."""
    schema = _schema(source, reading)
    streams = tuple(
        BatchStream(
            engine,
            f"etl_{zone.dataset}_{i}",
            schema,
            partial(_batches, source, schema, reading, zone, landed[i::READERS]),
        )
        for i in range(READERS)
    )
    return DeliveredRows("(" + " union all ".join(f"select * from {quote(s.name)}" for s in streams) + ")", streams)


def beginning(source: S3FilesSource, zone: RawZone, raw: RawObject, *, header: bool) -> list[Any] | None:
    """The names in a CSV file's header, or the first lines of a JSON file; None where nothing can be read."""
    import pyarrow as pa

    with zone.open(raw) as stream:
        ahead = ReadAhead(_unpacked(stream, compression_of(source, raw.name)), 2)
        try:
            reader = _reader(source, ahead, () if header else (LINE,), WrongRows())
            if header:
                return list(reader.schema.names)
            batch = ahead.next_of(reader)
            return None if batch is None else list(batch.column(0).slice(0, LOOKED_AT_ROWS).to_pylist())
        except (pa.ArrowException, OSError, KeyError, ValueError) as e:
            if stream.failure is not None:
                raise stream.failure from e
            return None
        finally:
            ahead.give_up()


def compression_of(source: S3FilesSource, key: str) -> str | None:
    """gzip, zstd or None: what the manifest says, else by the key's ending."""
    if source.compression is not None:
        return None if source.compression == "none" else source.compression
    return next((name for ending, name in _ENDINGS.items() if key.lower().endswith(ending)), None)


def _json_rows(columns: Sequence[str], lines: str) -> str:
    """Table expression: each column's value as text, null where a line doesn't have it."""
    good = f"case when json_valid({LINE}) then json_type({LINE}) = 'OBJECT' else false end"
    shape = literal(json.dumps(dict.fromkeys(columns, "VARCHAR")))
    return (
        f"(select unnest(from_json(case when good then {LINE} else '{{}}' end, {shape})), {ORIGIN}, {SOURCE_ROW}, "
        f"case when not good then coalesce({LINE}, {UNREADABLE}) end as {UNREADABLE} "
        f"from (select *, coalesce({good}, false) as good from {lines}))"
    )


def _parquet(
    source: S3FilesSource,
    engine: "duckdb.DuckDBPyConnection",
    landed: Sequence[RawObject],
    reading: Reading,
    delivery: Sequence[RawObject],
) -> DeliveredRows:
    paths, of_all = (", ".join(literal(o.path) for o in objects) for objects in (landed, delivery))
    names = parquet_names(source, engine, delivery)
    given = {name for found in names.values() for name in found}
    for name, found in names.items():
        missing = [c for c in captured_columns(source) if c not in found and c not in reading.nulls]
        if missing and name not in reading.lacking:
            raise PermanentError(f"{name} has no column {', '.join(missing)}. It has {', '.join(found)}.")

    def value(column: str) -> str:
        if column not in given:
            return f"null::varchar as {quote(column)}"
        return f"{quote(column)}::varchar as {quote(column)}" if column in reading.as_text else quote(column)

    columns = ", ".join(map(value, reading.columns or captured_columns(source)))
    origin = "url_decode(regexp_extract(_path, '/run_id=[^/]+/[0-9a-f]{16}/(.*)$', 1))"
    lacks = "".join(f" when {literal(name)} then {literal(column)}" for name, column in reading.lacking.items())
    lacking = f", case {origin}{lacks} end as {LACKING}" if lacks else ""
    counting = f"select sum(num_rows) from parquet_file_metadata([{paths}])"
    some = f" where _path in ({paths})" if len(landed) < len(delivery) else ""
    counted = _looked(source, engine, counting)[0][0]
    return DeliveredRows(
        f"(select {columns}, {origin} as {ORIGIN}, null::varchar as {UNREADABLE}{lacking} "
        f"from read_parquet([{of_all}], union_by_name = true, filename = '_path', hive_partitioning = false){some})",
        counted=int(counted or 0),
    )


def parquet_names(
    source: S3FilesSource, engine: "duckdb.DuckDBPyConnection", landed: Sequence[RawObject]
) -> dict[str, list[str]]:
    """Object → names of its columns. Raises PermanentError where a declared one is there twice."""
    paths, names = ", ".join(literal(o.path) for o in landed), {o.path: o.name for o in landed}
    query = f"select file_name, name, num_children from parquet_schema([{paths}]) order by file_name, column_id"
    found: dict[str, list[str]] = {}
    for path, elements in groupby(_looked(source, engine, query), itemgetter(0)):
        name = names.get(path, path)
        found[name] = list(_columns_of((element, children or 0) for _, element, children in elements))
        prove_once(source, name, found[name], str.casefold)  # the engine takes `Amount` for `amount`
    return found


def _columns_of(elements: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Names of the columns, of a schema's elements (name, children) in its order: the root first, each before its own;
    a field inside of a column is none.
    """
    left: list[int] = []
    for name, children in elements:
        while left and left[-1] == 0:
            left.pop()
        if len(left) == 1:
            yield name
        if left:
            left[-1] -= 1
        left.append(children)


def prove_once(
    source: S3FilesSource, file: str, names: Sequence[str], alike: Callable[[str], str] = lambda name: name
) -> None:
    """Each declared column is at most once among the names of a file. Raises PermanentError: one would be chosen."""
    counted = Counter(map(alike, names))
    if twice := [c for c in source.columns if counted[alike(c)] > 1]:
        raise PermanentError(
            f"{file} has more than one column {', '.join(twice)}; which one is meant? Nothing of this delivery is "
            f"published; deliver the file again. It has {', '.join(names)}."
        )


def _looked(source: S3FilesSource, engine: "duckdb.DuckDBPyConnection", query: str) -> list[Any]:
    try:
        return retry_transient(lambda: engine.execute(query).fetchall(), source.prefix)
    except Exception as e:
        what = f"The Parquet files of {source.prefix}"
        if is_sensitive(source):
            raise without_values(what, e) from None
        raise engine_error(what, e) from e


def _schema(source: S3FilesSource, reading: Reading) -> "pa.Schema":
    import pyarrow as pa

    values = (reading.columns or tuple(captured_columns(source))) if source.format == "csv" else (LINE,)
    names = (*values, ORIGIN, UNREADABLE, *([LACKING] if reading.lacking else []))
    return pa.schema([*((name, pa.string()) for name in names), (SOURCE_ROW, pa.int64())])


def _batches(
    source: S3FilesSource, schema: "pa.Schema", reading: Reading, zone: RawZone, objects: Sequence[RawObject]
) -> "Iterator[pa.RecordBatch]":
    """The files one after the other; what isn't a row is an UNREADABLE one. Raises PermanentError naming the file."""
    import pyarrow as pa

    for raw in objects:
        with zone.open(raw) as stream:
            text = _unpacked(stream, compression_of(source, raw.name))
            mark = EndMark(text, source.csv.quote) if source.format == "csv" else None
            ahead = ReadAhead(mark or text, BLOCKS_AHEAD)
            try:
                yield from _file(source, schema, reading, raw.name, ahead, mark)
            except (pa.ArrowException, OSError, KeyError, ValueError) as e:
                if stream.failure is not None:
                    raise stream.failure from e
                if _NO_ROWS in str(e) and source.format != "csv":
                    continue
                reason = told(e, quoting=not is_sensitive(source))
                raise PermanentError(
                    f"{raw.name} can't be read as {source.format}: {reason}. Nothing of this delivery is published; "
                    f"deliver the file again. Its bytes: {raw.path}"
                ) from None  # what Arrow says quotes a row
            finally:
                ahead.give_up()


def _unpacked(stream: Any, compression: str | None) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), compression) if compression else stream


def _file(
    source: S3FilesSource,
    schema: "pa.Schema",
    reading: Reading,
    name: str,
    ahead: ReadAhead,
    mark: EndMark | None,
) -> "Iterator[pa.RecordBatch]":
    """mark: that of CSV."""
    import pyarrow as pa

    wrong = WrongRows()
    columns = list(reading.columns or captured_columns(source)) if mark else [LINE]
    reader = _reader(source, ahead, columns, wrong, missing=bool(reading.nulls or reading.lacking))
    lacks = reading.lacking.get(name)
    declared = {c: column.type for c, column in source.columns.items()}
    risky = risky_lines([c for c in reading.columns or declared if declared.get(c, "string") == "string"])

    def batch_of(values: "Sequence[pa.Array]", unreadable: "pa.Array", numbers: "pa.Array") -> "pa.RecordBatch":
        n = len(unreadable)
        lacking = [pa.array([lacks] * n, pa.string())] if reading.lacking else []
        return pa.record_batch([*values, pa.repeat(name, n), unreadable, *lacking, numbers], schema=schema)

    before: int | None = 0
    while True:
        batch = ahead.next_of(reader)
        rejected = [text for text in wrong.taken() if not (mark and mark.is_in(text))]
        if rejected:  # somewhere among the others: no row is counted for certain from here on
            before, n = None, len(rejected)
            nulls = [pa.nulls(n, pa.string())] * len(columns)
            yield batch_of(nulls, pa.array(rejected, pa.string()), pa.nulls(n, pa.int64()))
        if batch is not None:
            values = mark.taken_from(batch).columns if mark else [exact_lines(batch.column(0), risky)]
            n = len(values[0])
            numbers = pa.nulls(n, pa.int64()) if before is None else pa.array(range(before + 1, before + n + 1))
            before = None if before is None else before + n
            yield batch_of(values, pa.nulls(n, pa.string()), numbers)
        if batch is None:
            break
    if mark and not mark.found:
        raise ValueError(f"it ends inside of a value: the last {source.csv.quote} that opens one is never closed")


def _reader(
    source: S3FilesSource, ahead: ReadAhead, columns: Sequence[str], wrong: WrongRows, *, missing: bool = False
) -> "csv.CSVStreamingReader":
    """Batches of text. columns: those that are read, (): all of the file's; missing: whether some may not be there."""
    import pyarrow as pa
    from pyarrow import csv

    dialect = source.csv
    is_csv = source.format == "csv"
    return csv.open_csv(
        pa.PythonFile(ahead, mode="r"),
        csv.ReadOptions(block_size=BLOCK_BYTES, column_names=None if is_csv else columns),
        csv.ParseOptions(
            delimiter=dialect.delimiter if is_csv else _NEVER_INSIDE,
            quote_char=dialect.quote if is_csv else False,
            newlines_in_values=is_csv,
            invalid_row_handler=wrong.keep,
        ),
        csv.ConvertOptions(
            column_types={c: pa.string() for c in columns},
            include_columns=columns,
            include_missing_columns=missing,
            null_values=list(dialect.null_values) if is_csv else [],
            strings_can_be_null=is_csv,
            quoted_strings_can_be_null=False,
        ),
    )
