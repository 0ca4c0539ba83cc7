"""Everything that the system wrote, wherever: to look for values that must not be there."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import psycopg

from etl_resources.object_store import s3_client
from tests.lake import Lake

if TYPE_CHECKING:
    import duckdb

DAY_ZERO, DAYS_MAX = date(1970, 1, 1).toordinal(), date.max.toordinal()
RAW = "raw/"
"""The one prefix that holds originals (docs/sensitive-columns.md)."""


@dataclass(frozen=True)
class Trace:
    """Something that was written: where, and its content as bytes in which text is UTF-8."""

    store: str
    place: str
    content: bytes


def traces(lake: Lake, *folders: Path) -> Iterator[Trace]:
    """All of a lake's bucket but the raw zone, its database, its indexes, and the files in its home and `folders`."""
    yield from _objects(lake)
    yield from _tables(lake)
    yield from _indexes(lake)
    for folder in (lake.home, *folders):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            yield Trace("files", str(path), path.read_bytes())


def places(found: Sequence[Trace], needle: str) -> Mapping[str, list[str]]:
    """Store → places in which a text is, in any case of its letters."""
    at: dict[str, list[str]] = {}
    pattern = re.compile(re.escape(needle.encode()), re.IGNORECASE)
    for trace in found:
        if pattern.search(trace.content) or pattern.search(trace.place.encode()):
            at.setdefault(trace.store, []).append(trace.place)
    return at


def _objects(lake: Lake) -> Iterator[Trace]:
    from etl_resources.engines.embedded import connect

    endpoint, key, secret = lake.settings.require_s3()
    s3 = s3_client(endpoint, (key, secret), region="us-east-1", timeout_s=20)
    bucket = lake.settings.s3_bucket
    with connect(lake.settings) as engine:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", []):
                if found["Key"].startswith(RAW):
                    continue
                body = s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
                yield Trace("objects", found["Key"], body + _unpacked(engine, f"s3://{bucket}/{found['Key']}", body))


def _unpacked(engine: "duckdb.DuckDBPyConnection", path: str, body: bytes) -> bytes:
    """What a compressed or binary object says as text: rows and statistics of Parquet, records of Avro."""
    if body[:4] == b"PAR1":
        rows = engine.execute(f"select to_json(t)::varchar from read_parquet('{path}') t").fetchall()
        kept = engine.execute(f"select to_json(t)::varchar from parquet_metadata('{path}') t").fetchall()
        return "\n".join(text for (text,) in (*rows, *kept)).encode()
    if body[:3] == b"Obj":
        return b"\n".join(_avro(body))
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else b""


def _avro(body: bytes) -> Iterator[bytes]:
    """Values of the records of an Iceberg manifest. Bounds are bytes: numbers and dates in them are decoded too."""
    from pyiceberg.avro.file import AvroFile
    from pyiceberg.io.pyarrow import PyArrowFileIO

    with NamedTemporaryFile(suffix=".avro") as file:
        file.write(body)
        file.flush()
        with AvroFile[Any](PyArrowFileIO().new_input(file.name)) as records:
            for record in records:
                yield from _values(record)


def _values(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
        if len(value) in (4, 8):
            number = int.from_bytes(value, "little", signed=True)
            yield str(number).encode()
            if len(value) == 4 and 0 < number + DAY_ZERO < DAYS_MAX:
                yield date.fromordinal(number + DAY_ZERO).isoformat().encode()
    elif isinstance(value, dict):
        for part in value.items():
            yield from _values(part)
    elif isinstance(value, list | tuple) or hasattr(value, "_data"):
        for part in value if isinstance(value, list | tuple) else value._data:
            yield from _values(part)
    else:
        yield str(value).encode()


def _tables(lake: Lake) -> Iterator[Trace]:
    """Every table and materialized view of every schema of the platform's database."""
    with psycopg.connect(lake.platform_dsn) as connection:
        found = connection.execute(
            "select format('%I.%I', n.nspname, c.relname) "
            "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
            "where c.relkind in ('r', 'm', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
        ).fetchall()
        for (table,) in found:
            with connection.cursor().copy(f"copy (select * from {table}) to stdout".encode()) as rows:
                yield Trace("tables", table, b"".join(bytes(part) for part in rows))


def _indexes(lake: Lake) -> Iterator[Trace]:
    from etl_resources.sinks.elasticsearch_client import connect

    if lake.settings.elasticsearch_url is None:
        return
    with connect(lake.settings) as search:
        for index in search.indices.get(index="*", expand_wildcards="all"):
            search.indices.refresh(index=index)
            hits = search.search(index=index, size=10_000)["hits"]["hits"]
            about = search.indices.get(index=index)[index]
            yield Trace("indexes", index, json.dumps([about, *hits], ensure_ascii=False, default=str).encode())
