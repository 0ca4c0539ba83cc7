"""A bucket of a source system: its address, and what lies in it, page by page."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from etl_resources.errors import SettingsError
from etl_resources.object_store import ObjectStore, s3_client
from etl_resources.settings import Settings

FORM = "s3+https://KEY:SECRET@HOST[:PORT]/BUCKET[?region=REGION], or s3://BUCKET for a bucket of the platform's own S3"

LISTED_AT_ONCE = 1_000
"""Objects of one page; S3 gives no more."""


@dataclass(frozen=True)
class ListedObject:
    """An object as its bucket lists it."""

    key: str
    etag: str
    size_bytes: int
    modified_at: datetime
    version_id: str | None
    """None in a bucket that keeps no versions."""


class SourceBucket:
    """The objects that a source system delivers."""

    def __init__(self, client: Any, bucket: str, *, of_platform: bool) -> None:
        self.client, self.bucket = client, bucket
        self.of_platform = of_platform
        """Whether the platform's own S3 holds it: objects are copied inside of the server."""

    @classmethod
    def of(cls, address: str, reference: str, settings: Settings, platform: ObjectStore) -> "SourceBucket":
        """From the value of a system's secret. Raises SettingsError naming the reference, never the value."""
        try:
            parts = urlsplit(address)
            bucket, port = (parts.path.strip("/") if "+" in parts.scheme else parts.netloc), parts.port
        except ValueError:  # its text would show the secret
            raise SettingsError(f"Secret {reference} is no address of a bucket: {FORM}.") from None
        if parts.scheme == "s3" and bucket and not parts.path.strip("/"):
            return cls(platform.client, bucket, of_platform=True)
        credentials = (unquote(parts.username or ""), unquote(parts.password or ""))
        if parts.scheme not in ("s3+http", "s3+https") or not (bucket and parts.hostname and all(credentials)):
            raise SettingsError(f"Secret {reference} is no address of a bucket: {FORM}. Special characters as %XX.")
        endpoint = f"{parts.scheme[3:]}://{parts.hostname}" + (f":{port}" if port else "")
        own_endpoint, *own_keys = settings.require_s3()
        if (endpoint, credentials) == (own_endpoint.rstrip("/"), tuple(own_keys)):
            return cls(platform.client, bucket, of_platform=True)
        region = parse_qs(parts.query).get("region", [settings.s3_region])[0]
        client = s3_client(endpoint, credentials, region=region, timeout_s=settings.s3_timeout_s)
        return cls(client, bucket, of_platform=False)

    def path(self, key: str) -> str:
        """As errors name it."""
        return f"s3://{self.bucket}/{key}"

    def now(self) -> datetime:
        """The service's own clock."""
        from email.utils import parsedate_to_datetime

        answer = self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        header = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(header) if header else datetime.now(UTC)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Objects whose key begins so, page by page; of a bucket with versions the newest of each."""
        if not self._keeps_versions():
            for page in self._pages("list_objects_v2", prefix):
                yield from (_listed(found, None) for found in page.get("Contents", ()))
            return
        for page in self._pages("list_object_versions", prefix):
            yield from (_listed(v, v["VersionId"]) for v in page.get("Versions", ()) if v["IsLatest"])

    def _pages(self, operation: str, prefix: str) -> Iterator[dict[str, Any]]:
        size = {"PageSize": LISTED_AT_ONCE}
        pages = self.client.get_paginator(operation).paginate(Bucket=self.bucket, Prefix=prefix, PaginationConfig=size)
        yield from pages

    def _keeps_versions(self) -> bool:
        from botocore.exceptions import ClientError

        try:
            return bool(self.client.get_bucket_versioning(Bucket=self.bucket).get("Status") == "Enabled")
        except ClientError as e:
            if e.response.get("Error", {}).get("Code") in ("AccessDenied", "NotImplemented", "MethodNotAllowed"):
                return False  # ETag and size tell contents apart then
            raise


def _listed(found: dict[str, Any], version_id: str | None) -> ListedObject:
    return ListedObject(found["Key"], found["ETag"], found["Size"], found["LastModified"], version_id)
