"""Columns of landed files: the header of CSV, the schema of Parquet, the keys of JSON Lines.

Of JSON only the first rows of each file are looked at; whether a declared key is missing, in all of them.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from etl_resources.engines.transform import engine_error
from etl_resources.extract.file_rows import LINE, beginning, lines_of, parquet_names, prove_once
from etl_resources.extract.raw_zone import RawObject, RawZone
from etl_resources.identifiers import literal
from etl_resources.manifest_columns import DECIMAL
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.retries import retry_transient
from etl_resources.schema_drift import TEXT, SourceColumn, SourceSchema
from etl_resources.sensitive import captured_columns, is_sensitive, without_values

if TYPE_CHECKING:
    import duckdb

_TYPES = {
    "BIGINT": "bigint",
    "INTEGER": "int",
    "SMALLINT": "int",
    "TINYINT": "int",
    "VARCHAR": "string",
    "UUID": "string",
    "DATE": "date",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "BOOLEAN": "boolean",
}
TWICE = " (more than once)"
"""After the name of what no manifest declares and a header repeats: no column here can bear it."""


def schema_of(
    source: S3FilesSource, engine: "duckdb.DuckDBPyConnection", zone: RawZone, landed: Sequence[RawObject]
) -> SourceSchema | None:
    """As Delivery.schema says."""
    if source.format == "parquet":
        return _parquet(source, engine, landed)
    if source.format == "csv":
        return _csv(source, zone, landed)
    return _json_lines(source, engine, zone, landed)


def _csv(source: S3FilesSource, zone: RawZone, landed: Sequence[RawObject]) -> SourceSchema | None:
    found: dict[str, Sequence[str]] = {}
    for raw in landed:
        names = beginning(source, zone, raw, header=True)
        if names is not None:
            prove_once(source, raw.name, names)
            found[raw.name] = names
    if not found:
        return None
    repeated = {name for names in found.values() for name, n in Counter(names).items() if n > 1}
    columns = {f"{name}{TWICE if name in repeated else ''}": SourceColumn(TEXT) for name in chain(*found.values())}
    return SourceSchema(columns, typed=False, lacking=_lacking(source, found))


def _parquet(source: S3FilesSource, engine: "duckdb.DuckDBPyConnection", landed: Sequence[RawObject]) -> SourceSchema:
    paths = "[" + ", ".join(literal(o.path) for o in landed) + "]"
    files = parquet_names(source, engine, landed)
    describe = f"describe select * from read_parquet({paths}, union_by_name = true, hive_partitioning = false)"
    try:
        rows = retry_transient(lambda: engine.execute(describe).fetchall(), source.prefix)
    except Exception as e:
        what = f"The Parquet files of {source.prefix}"
        if is_sensitive(source):
            raise without_values(what, e) from None
        raise engine_error(what, e) from e
    columns = {name: _source_column(kind) for name, kind, *_ in rows}
    return SourceSchema(columns, typed=True, lacking=_lacking(source, files))


def _source_column(engine_type: str) -> SourceColumn:
    kind = _TYPES.get(engine_type)
    if kind is None and DECIMAL.match(engine_type.lower()):
        kind = engine_type.lower()
    return SourceColumn(kind or engine_type, kind)


def _json_lines(
    source: S3FilesSource, engine: "duckdb.DuckDBPyConnection", zone: RawZone, landed: Sequence[RawObject]
) -> SourceSchema | None:
    keys: dict[str, None] = {}
    rows = 0
    for raw in landed:
        for line in beginning(source, zone, raw, header=False) or ():
            row = _row(line)
            if row is not None:
                rows += 1
                keys.update(dict.fromkeys(row))
    if not rows:
        return None
    if rare := [c for c in captured_columns(source) if c not in keys]:
        keys.update(dict.fromkeys(_anywhere(source, engine, zone, landed, rare)))
    return SourceSchema(dict.fromkeys(keys, SourceColumn(TEXT)), typed=False, optional=True)


def _row(line: str | None) -> dict[str, Any] | None:
    try:
        row = json.loads(line or "null")
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _anywhere(
    source: S3FilesSource,
    engine: "duckdb.DuckDBPyConnection",
    zone: RawZone,
    landed: Sequence[RawObject],
    columns: Sequence[str],
) -> list[str]:
    """Those of the columns that a line of the files has."""
    lines = lines_of(source, engine, zone, landed)
    counts = ", ".join(f"bool_or({_has(c)})" for c in columns)
    try:
        row = engine.execute(f"select {counts} from {lines.scan()}").fetchone()
    except Exception as e:
        if is_sensitive(source):
            raise without_values(source.prefix, lines.failure or e) from None
        raise lines.error_of(e, source.prefix) from e
    return [c for c, found in zip(columns, row or (), strict=True) if found]


def _has(column: str) -> str:
    return f"case when json_valid({LINE}) then json_exists({LINE}, {literal(f'$.{column}')}) end"


def _lacking(source: S3FilesSource, files: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Declared column → files without it, where others have it."""
    found = {c: [name for name, names in files.items() if c not in names] for c in captured_columns(source)}
    return {c: names for c, names in found.items() if 0 < len(names) < len(files)}
