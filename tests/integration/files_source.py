"""A system that delivers files: its own bucket, filled as a CRM would, and the source that reads it."""

import gzip
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest

from etl_resources.engines.embedded import connect
from etl_resources.extract.batch_stream import DeliveredRows
from etl_resources.extract.raw_zone import RawZone
from etl_resources.extract.s3_files import S3Files
from etl_resources.extract.source_bucket import SourceBucket
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.object_store import ObjectStore, s3_client
from etl_resources.settings import load_settings
from tests.conftest import BUCKET


class Crm:
    """A bucket of its own for each test."""

    def __init__(self) -> None:
        self.connect(f"crm-{uuid4().hex[:12]}")
        self.client.create_bucket(Bucket=self.bucket)

    def connect(self, bucket: str) -> None:
        """To a bucket that is there already."""
        settings = load_settings()
        self.endpoint, *keys = settings.require_s3()
        self.keys = (keys[0], keys[1])
        self.client: Any = s3_client(self.endpoint, self.keys, region="us-east-1", timeout_s=20)
        self.bucket = bucket
        self.store = ObjectStore(self.client, f"s3://{BUCKET}/raw")

    def put(self, key: str, content: bytes | str) -> None:
        """An object; text is compressed where the key says so."""
        body = content.encode() if isinstance(content, str) else content
        if isinstance(content, str) and key.endswith(".gz"):
            body = gzip.compress(body)
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def remove(self) -> None:
        """The bucket and what is in it: each takes volumes of the server."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for found in page.get("Contents", []):
                self.delete(found["Key"])
        self.client.delete_bucket(Bucket=self.bucket)

    def zone(self, run_id: str = "", dataset: str = "") -> RawZone:
        """The raw zone as a run sees it; a dataset's name is this bucket's unless given."""
        return RawZone(self.store, dataset or self.bucket.replace("-", "_"), run_id or uuid4().hex)

    def files(self, *, endpoint: str = "", **fields: Any) -> S3Files:
        """The source; an endpoint makes it another service than the platform's."""
        address = f"s3://{self.bucket}"
        if endpoint:
            address = f"s3+{endpoint.replace('://', f'://{self.keys[0]}:{self.keys[1]}@')}/{self.bucket}"
        bucket = SourceBucket.of(address, "env:CRM", load_settings(), self.store)
        return S3Files(files_source(**fields), bucket)


@pytest.fixture
def crm(stack: object) -> Iterator[Crm]:
    """An empty bucket of a source system."""
    made = Crm()
    yield made
    made.remove()


def files_source(**fields: Any) -> S3FilesSource:
    """JSON Lines of customers, unless said otherwise."""
    given: Mapping[str, Any] = {
        "kind": "s3_files",
        "system": "crm",
        "prefix": "customers/",
        "pattern": "*.jsonl.gz",
        "format": "json_lines",
        "key": ("customer_id",),
        "columns": {"customer_id": "bigint", "name": "string", "balance": "decimal(18,2)"},
    }
    return S3FilesSource(**{**given, **fields})


def read(source: S3Files, zone: RawZone, columns: str = "*") -> tuple[list[tuple[Any, ...]], DeliveredRows]:
    """All rows of what is observed now, landed and read through the engine, sorted; and the reading."""
    delivery = source.observe(zone)
    landed = delivery.land(zone)
    with connect(load_settings()) as engine:
        rows = delivery.rows(engine, landed)
        try:
            found = engine.execute(f"select {columns} from {rows.scan()} order by all").fetchall()
        except Exception as e:
            raise rows.error_of(e, "reading") from e
        return found, rows
