"""The demo's CRM: customers dropped as gzip'd JSON Lines objects into a bucket of S3, one object per region.

The objects' bytes depend on the scale alone, so a drop that is made again has the same content. A marker object is
written last: a drop without it is not complete and is made again.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from etl_assets.demo import tpch
from etl_resources.errors import PermanentError, SettingsError
from etl_resources.stack.s3_probe import client, s3_errors

CRM_URL = "CRM_S3_URL"
PREFIX = "customers/"
"""What the pipeline reads. The marker lies outside."""
MARKER = "demo.json"
VALID_FROM = "2023-01-01"
"""Day from which a customer is as first dropped: before the first partition."""
ENGINE_MEMORY_MB = 200
_COLUMNS = f"""
    c_custkey AS customer_id, c_name AS name, c_mktsegment AS segment, n_name AS nation, r_name AS region,
    c_address AS address, c_phone AS phone, DATE '{VALID_FROM}' AS valid_from
"""


@dataclass(frozen=True)
class CrmSummary:
    """What create_crm made or found: `rows` and `objects` of its own drop, not of files that were added since."""

    scale: float
    created: bool
    objects: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class Drop:
    """The bucket behind CRM_S3_URL: s3+http(s)://KEY:SECRET@HOST:PORT/BUCKET."""

    endpoint: str
    bucket: str
    service: Any

    @classmethod
    def at(cls, url: str) -> "Drop":
        """Connects nowhere. Raises SettingsError for an address of another form, without quoting it."""
        parts = urlsplit(url)
        scheme, bucket = parts.scheme.removeprefix("s3+"), parts.path.strip("/")
        if scheme not in {"http", "https"} or not (parts.hostname and parts.username and parts.password and bucket):
            raise SettingsError(f"{CRM_URL} is not of the form s3+http://KEY:SECRET@HOST:PORT/BUCKET.")
        endpoint = f"{scheme}://{parts.netloc.rpartition('@')[2]}"
        return cls(endpoint, bucket, client(endpoint, unquote(parts.username), unquote(parts.password)))

    def marker(self) -> Mapping[str, Any] | None:
        """{scale, objects, rows} of the complete drop; None when there is none. Makes the bucket when it is missing."""
        from botocore.exceptions import ClientError

        with s3_errors(CRM_URL, self.endpoint, self.bucket):
            if self.bucket not in {b["Name"] for b in self.service.list_buckets().get("Buckets", [])}:
                self.service.create_bucket(Bucket=self.bucket)
            try:
                body = self.service.get_object(Bucket=self.bucket, Key=MARKER)["Body"].read()
            except ClientError as e:
                if e.response["Error"]["Code"] != "NoSuchKey":
                    raise
                return None
        found: Mapping[str, Any] = json.loads(body)
        return found

    def keys(self) -> set[str]:
        """All objects that the pipeline would read."""
        with s3_errors(CRM_URL, self.endpoint, self.bucket):
            pages = self.service.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=PREFIX)
            return {found["Key"] for page in pages for found in page.get("Contents", [])}

    def remove(self, keys: set[str]) -> None:
        """The marker first: what is half removed is not complete."""
        with s3_errors(CRM_URL, self.endpoint, self.bucket):
            for key in (MARKER, *sorted(keys)):
                self.service.delete_object(Bucket=self.bucket, Key=key)

    def upload(self, file: Path, key: str) -> None:
        """Streamed; beyond 8 MiB in parts."""
        with s3_errors(CRM_URL, self.endpoint, self.bucket):
            self.service.upload_file(str(file), self.bucket, key)

    def complete(self, scale: float, objects: int, rows: int) -> None:
        """Write the marker."""
        body = json.dumps({"scale": str(scale), "objects": objects, "rows": rows})
        with s3_errors(CRM_URL, self.endpoint, self.bucket):
            self.service.put_object(Bucket=self.bucket, Key=MARKER, Body=body.encode())


def create_crm(
    url: str, *, scale: float, work_dir: Path, progress: Callable[[str], None], recreate: bool = False
) -> CrmSummary:
    """Drop the customers of TPC-H at `scale` (1 is 150,000) below customers/ of the bucket of `url`.

    A complete drop of the same scale is left as it is, with the files that were added to it; `recreate` removes all of
    them first. `work_dir` holds the files until they are uploaded (25 MB at scale 1).

    Raises SettingsError when the service refuses the keys, TransientError when it can't be reached, PermanentError when
    the drop has another scale or the bucket holds files of somebody else.
    """
    started = time.monotonic()
    drop = Drop.at(url)
    marker = drop.marker()
    if marker and not recreate:
        if Decimal(marker["scale"]) != Decimal(str(scale)):
            raise PermanentError(
                f"The CRM's files in {drop.bucket} have scale {marker['scale']}, not {scale:g}. "
                f"Use scale {marker['scale']}, or --recreate-source to replace them by scale {scale:g}."
            )
        return CrmSummary(scale, False, marker["objects"], marker["rows"], time.monotonic() - started)
    if marker:
        drop.remove(drop.keys())
    objects, rows = _make(drop, scale, work_dir / "crm-source")
    progress(f"dropped {rows:,} customers in {objects} files into {drop.bucket} in {time.monotonic() - started:.1f} s")
    return CrmSummary(scale, True, objects, rows, time.monotonic() - started)


def _make(drop: Drop, scale: float, folder: Path) -> tuple[int, int]:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        tpch.generate(scale, folder, ("region", "nation", "customer"))
        made = list(_files(folder))
        wanted = {PREFIX + file.name for file, _ in made}
        if strangers := sorted(drop.keys() - wanted):
            raise PermanentError(
                f"Bucket {drop.bucket} has {strangers[0]}, which was not made by data-pipeline: it is left alone. "
                f"Name an empty bucket in {CRM_URL} for the demo."
            )
        for file, _ in made:
            drop.upload(file, PREFIX + file.name)
        rows = sum(count for _, count in made)
        drop.complete(scale, len(made), rows)
        return len(made), rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """(file, rows) of each region that has customers, in bounded memory, with the same bytes each time."""
    import duckdb

    engine = duckdb.connect(
        config={"memory_limit": f"{ENGINE_MEMORY_MB}MB", "threads": 1, "temp_directory": str(folder / "spill")}
    )
    with closing(engine):
        for table in ("region", "nation", "customer"):
            engine.execute(f"CREATE VIEW {table} AS FROM read_parquet('{_quoted(folder / table)}.parquet')")
        engine.execute(
            f"CREATE VIEW customers AS SELECT {_COLUMNS} FROM customer "
            "JOIN nation ON n_nationkey = c_nationkey JOIN region ON r_regionkey = n_regionkey"
        )
        regions = engine.execute("SELECT region, count(*) FROM customers GROUP BY region ORDER BY region").fetchall()
        for region, rows in regions:
            file = folder / f"{region.lower().replace(' ', '-')}.jsonl.gz"
            engine.execute(
                f"COPY (FROM customers WHERE region = '{region}' ORDER BY customer_id) "
                f"TO '{_quoted(file)}' (FORMAT json, COMPRESSION gzip)"
            )
            yield file, rows


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
