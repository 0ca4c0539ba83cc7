"""One object of many GB → bronze, in a process whose memory is measured: it mustn't grow with the object.

Plain JSON Lines with a key per row in another service than the platform's (as far as the product knows), so that every
byte is streamed: into the raw zone by multipart, from there through typing and judging into Parquet, and back for the
audit. The engine has the memory of the size `medium`. Needs about 2.5 times the object on the disk, and removes
everything at its end.

    python -m benchmarks.one_file [--gb 20]
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.files import CONTRACT, FIELD_IDS, PREFIX, TYPES, client_of_stack
from benchmarks.harness import Result, peak_rss_mb, save, tell
from etl_resources import stack
from etl_resources.conventions import raw_location
from etl_resources.engines.embedded import connect
from etl_resources.extract.delivered_rows import write_delivered
from etl_resources.extract.raw_zone import RawZone
from etl_resources.extract.s3_files import S3Files
from etl_resources.extract.source_bucket import SourceBucket
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.object_store import ObjectStore
from etl_resources.quality.audit import read_back
from etl_resources.settings import load_settings
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import duckdb_type

BUCKET, SOURCE = "bench-one-file", "bench-one-file-crm"
KEY = f"{PREFIX}all.jsonl"
PART_ROWS = 250_000
"""About 50 MB of JSON: a part of the upload."""
ENGINE_THREADS, ENGINE_MB = 2, 600
SCHEMA = (
    "MAP {"
    + ", ".join(
        f"{i}: {{name: '{n}', type: '{duckdb_type(t)}', default_value: NULL}}"
        for i, (n, t) in enumerate(TYPES.items(), 1)
    )
    + "}"
)
"""Columns of bronze by field id."""
LINES = """
select '{"customer_id":' || i || ',"name":"Customer#' || lpad(i::text, 9, '0') || '","segment":"'
    || ['AUTOMOBILE', 'BUILDING', 'FURNITURE', 'HOUSEHOLD', 'MACHINERY'][i % 5 + 1] || '","since":"'
    || (date '2000-01-01' + (i % 9000)::int) || '","balance":' || (i * 7919 % 1000000 / 100)::decimal(18, 2)
    || ',"comment":"' || md5(i::text) || ' requests sleep blithely ' || md5((i * 7)::text) || '"}' || chr(10)
from range($1, $2) as r(i)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gb", type=float, default=20, help="size of the object")
    arguments.add_argument("--measure", type=int, help=argparse.SUPPRESS)  # the measured process, for so many rows
    options = arguments.parse_args()
    if options.measure is not None:
        print(json.dumps(bronze(options.measure)))
        return
    stack.up(load_settings(), bucket=BUCKET, project_dir=Path.cwd(), ui=False, search=False, progress=tell)
    client = client_of_stack()
    client.create_bucket(Bucket=SOURCE)
    try:
        rows, size_bytes = upload(client, int(options.gb * 1e9))
        tell(f"{rows} rows in one object of {size_bytes / 1e9:.1f} GB")
        command = [sys.executable, "-m", "benchmarks.one_file", "--measure", str(rows)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        measured: dict[str, Any] = json.loads(run.stdout)
        seconds = measured["landed s"] + measured["typed s"] + measured["read back s"]
        figures = {"object GB": round(size_bytes / 1e9, 1), "rows": rows, **measured}
        save(Result("one_file", {**figures, "MB/s of JSON": round(size_bytes / 1e6 / seconds, 1)}))
    finally:
        remove(client)


def upload(client: Any, size_bytes: int) -> tuple[int, int]:
    """(rows, bytes) of one object of at least this size."""
    place = {"Bucket": SOURCE, "Key": KEY}
    upload_id = client.create_multipart_upload(**place)["UploadId"]
    parts, written = list[dict[str, Any]](), 0
    for number, body in enumerate(bodies(), start=1):
        part = client.upload_part(**place, UploadId=upload_id, PartNumber=number, Body=body)
        parts.append({"ETag": part["ETag"], "PartNumber": number})
        written += len(body)
        if written >= size_bytes:
            break
    client.complete_multipart_upload(**place, UploadId=upload_id, MultipartUpload={"Parts": parts})
    return len(parts) * PART_ROWS, written


def bodies() -> Iterator[bytes]:
    """The lines of one part after the other, without end."""
    import duckdb

    first = 0
    with duckdb.connect() as engine:
        while True:
            found = engine.execute(LINES, [first, first + PART_ROWS]).fetchall()
            yield "".join(line for (line,) in found).encode()
            first += PART_ROWS


def bronze(rows: int) -> dict[str, Any]:
    """Figures of one delivery of the object, from its listing to its audit."""
    settings, client = load_settings(), client_of_stack()
    source = S3FilesSource(
        kind="s3_files", system="crm", prefix=PREFIX, pattern="*.jsonl", format="json_lines", key=("customer_id",),
        columns={n: {"type": t} for n, t in TYPES.items()},  # type: ignore[dict-item]
    )  # fmt: skip
    zone = RawZone(ObjectStore(client, raw_location(BUCKET)), "customers", "one-file")
    moments = [time.monotonic()]
    with connect(settings, threads=ENGINE_THREADS, memory_mb=ENGINE_MB) as engine:
        delivery = S3Files(source, SourceBucket(client, SOURCE, of_platform=False)).observe(zone)
        landed = delivery.land(zone)
        moments.append(time.monotonic())
        written = write_delivered(
            engine, "bronze.customers", CONTRACT, delivery.rows(engine, landed), f"s3://{BUCKET}/bronze",
            run_id="one-file", field_ids=FIELD_IDS, keep_rejected=lambda _: {},
        )  # fmt: skip
        moments.append(time.monotonic())
        stored = read_back(engine, CONTRACT, parquet_scan(list(written.paths), SCHEMA))
        moments.append(time.monotonic())
    assert (written.read, written.written, stored.rows, stored.keys) == (rows, rows, rows, rows), (written, stored)
    seconds = [round(b - a, 1) for a, b in pairwise(moments)]
    return {**dict(zip(("landed s", "typed s", "read back s"), seconds, strict=True)), "peak RSS MB": peak_rss_mb()}


def remove(client: Any) -> None:
    for bucket in (SOURCE, BUCKET):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", ()):
                client.delete_object(Bucket=bucket, Key=found["Key"])
        client.delete_bucket(Bucket=bucket)


if __name__ == "__main__":
    main()
