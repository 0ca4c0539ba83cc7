"""Files in S3 → bronze on the same S3, against a bare DuckDB COPY of the same objects to Parquet.

Gzip'd JSON Lines of customers in several objects. The limit reads them where they lie, types them by its own reader and
writes Parquet: it neither keeps the original bytes nor notices a damaged file, a bad value or a lost digit. The product
lists and lands them, unpacks, types and judges every row, and writes the same Parquet. They take turns.

    python -m benchmarks.files [--mb 200] [--objects 8] [--rounds 5]
"""

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.harness import Result, peak_rss_mb, save, tell
from etl_resources import stack
from etl_resources.contract import Contract, ContractColumn
from etl_resources.conventions import raw_location
from etl_resources.engines.embedded import connect
from etl_resources.extract.delivered_rows import write_delivered
from etl_resources.extract.raw_zone import RawZone
from etl_resources.extract.s3_files import S3Files
from etl_resources.extract.source_bucket import SourceBucket
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.object_store import ObjectStore, s3_client
from etl_resources.settings import load_settings
from etl_resources.tables.schema import duckdb_type

BUCKET, PREFIX = "bench-files", "customers/"
TYPES = {
    "customer_id": "bigint",
    "name": "string",
    "segment": "string",
    "since": "date",
    "balance": "decimal(18,2)",
    "comment": "string",
}
CONTRACT = Contract(tuple(ContractColumn(n, t) for n, t in TYPES.items()), ("customer_id",), None)
FIELD_IDS = "{" + ", ".join(f"{n}: {i}" for i, n in enumerate([*TYPES, "meta_run_id"], start=1)) + "}"
LINE_BYTES = 190


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--mb", type=int, default=200, help="MB of JSON, before it is compressed")
    arguments.add_argument("--objects", type=int, default=8)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    stack.up(load_settings(), bucket=BUCKET, project_dir=Path.cwd(), ui=False, search=False, progress=tell)
    client = client_of_stack()
    text_bytes, packed_bytes = upload(client, options.mb, options.objects)
    limits, products = [], []
    for n in range(options.rounds + 1):  # the first round warms up and is not counted
        limit_s, product_s = bare_copy(options.objects), product(client)
        if n:
            limits.append(limit_s)
            products.append(product_s)
    ratios = [a / b for a, b in zip(limits, products, strict=True)]
    figures = {
        "objects": options.objects,
        "rounds": options.rounds,
        "JSON MB": round(text_bytes / 1e6, 1),
        "gzip MB": round(packed_bytes / 1e6, 1),
        "bare COPY MB/s of JSON": round(text_bytes / 1e6 / statistics.median(limits), 1),
        "product MB/s of JSON": round(text_bytes / 1e6 / statistics.median(products), 1),
        "ratio to the limit": round(statistics.median(ratios), 2),
        "ratios": [round(r, 2) for r in ratios],
        "peak RSS MB": peak_rss_mb(),
    }
    save(Result("files", figures))


def client_of_stack() -> Any:
    settings = load_settings()
    endpoint, *keys = settings.require_s3()
    return s3_client(endpoint, (keys[0], keys[1]), region=settings.s3_region, timeout_s=settings.s3_timeout_s)


def upload(client: Any, mb: int, objects: int) -> tuple[int, int]:
    """(bytes of JSON, bytes of gzip) in so many objects."""
    rows = mb * 1_000_000 // LINE_BYTES // objects
    text_bytes = packed_bytes = 0
    for number in range(objects):
        text = "".join(lines(number * rows, rows)).encode()
        packed = gzip.compress(text, compresslevel=6)
        client.put_object(Bucket=BUCKET, Key=f"{PREFIX}{number:04}.jsonl.gz", Body=packed)
        text_bytes, packed_bytes = text_bytes + len(text), packed_bytes + len(packed)
    return text_bytes, packed_bytes


def lines(first: int, count: int) -> Iterator[str]:
    for i in range(first, first + count):
        row = {
            "customer_id": i,
            "name": f"Customer#{i:09}",
            "segment": ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")[i % 5],
            "since": f"20{i % 24:02}-{i % 12 + 1:02}-{i % 28 + 1:02}",
            "balance": (i * 7919 % 1_000_000) / 100,
            "comment": f"{i * 2654435761 % 2**32:08x} requests {i * 40503 % 2**32:08x} sleep blithely",
        }
        yield json.dumps(row) + "\n"


def bare_copy(objects: int) -> float:
    """Seconds of DuckDB's own COPY, in one statement."""
    columns = ", ".join(f"{n}: '{duckdb_type(t)}'" for n, t in TYPES.items())
    files = ", ".join(f"'s3://{BUCKET}/{PREFIX}{n:04}.jsonl.gz'" for n in range(objects))
    with connect(load_settings()) as engine:
        started = time.monotonic()
        engine.execute(
            f"copy (select * from read_json([{files}], format = 'newline_delimited', columns = {{{columns}}})) "
            f"to 's3://{BUCKET}/bare/{uuid4().hex}.parquet' (format parquet, compression zstd)"
        )
        return time.monotonic() - started


def product(client: Any) -> float:
    """Seconds from the listing to the files of bronze, nothing landed before."""
    settings, run_id = load_settings(), uuid4().hex
    source = S3FilesSource(
        kind="s3_files",
        system="crm",
        prefix=PREFIX,
        pattern="*.jsonl.gz",
        format="json_lines",
        key=("customer_id",),
        columns={n: {"type": t} for n, t in TYPES.items()},  # type: ignore[dict-item]
    )
    store = ObjectStore(client, raw_location(BUCKET))
    zone = RawZone(store, f"bench_{run_id}", run_id)
    with connect(settings) as engine:
        started = time.monotonic()
        delivery = S3Files(source, SourceBucket(client, BUCKET, of_platform=True)).observe(zone)
        rows = delivery.rows(engine, delivery.land(zone))
        written = write_delivered(
            engine,
            "bronze.customers",
            CONTRACT,
            rows,
            f"s3://{BUCKET}/product/{run_id}",
            run_id=run_id,
            field_ids=FIELD_IDS,
            keep_rejected=lambda _: {},
        )
        seconds = time.monotonic() - started
    assert written.read == written.written
    return seconds


if __name__ == "__main__":
    main()
