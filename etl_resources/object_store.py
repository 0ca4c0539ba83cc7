"""Objects under a table's folder as S3 itself shows them: what recovery and maintenance list and delete.

Tables read and write through PyIceberg's FileIO; it can't list, and it knows no unfinished uploads.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from etl_resources.errors import TransientError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

DELETED_AT_ONCE = 1_000
"""Objects of one delete request; S3 takes no more."""
MAX_TRIES = 4
CONNECT_TIMEOUT_S = 10
CONNECTIONS = 16


@dataclass(frozen=True)
class StoredObject:
    """One object: s3://bucket/key, its size and its age by the clock of the store."""

    path: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class OpenUpload:
    """A multipart upload that was never completed: it is invisible and costs space."""

    path: str
    upload_id: str
    started_at: datetime


class ObjectStore:
    """The bucket of a table location."""

    def __init__(self, client: Any, location: str) -> None:
        self.client = client
        self.bucket, self._folder = bucket_and_key(location)

    @classmethod
    def of(cls, catalog: "Catalog", location: str) -> "ObjectStore":
        """With the endpoint, keys and time-outs of the catalog's files."""
        return cls(_client(catalog.properties), location)

    def now(self) -> datetime:
        """The store's own clock: ages are compared with it, never with this machine's."""
        from email.utils import parsedate_to_datetime

        answer = self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        header = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(header) if header else datetime.now(UTC)

    def list(self, folder: str) -> Iterator[StoredObject]:
        """Objects below {location}/{folder}/, page by page."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self._folder}/{folder}/"
        )
        for page in pages:
            for found in page.get("Contents", ()):
                yield StoredObject(f"s3://{self.bucket}/{found['Key']}", found["Size"], found["LastModified"])

    def read(self, path: str) -> bytes:
        """The whole of a small object."""
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=bucket_and_key(path)[1])["Body"].read()
        return content

    def write(self, path: str, content: bytes) -> None:
        """A small object, whole; one that is there is replaced."""
        self.client.put_object(Bucket=self.bucket, Key=bucket_and_key(path)[1], Body=content)

    def delete(self, paths: Iterable[str]) -> int:
        """How many were deleted; one that is gone already counts. Raises TransientError naming what is left."""
        deleted, left = 0, iter(paths)
        while batch := list(islice(left, DELETED_AT_ONCE)):
            keys = [{"Key": bucket_and_key(path)[1]} for path in batch]
            answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})
            errors = answer.get("Errors", ())
            if errors:
                first = errors[0]
                raise TransientError(
                    f"S3 didn't delete {len(errors)} objects, first s3://{self.bucket}/{first.get('Key')} "
                    f"({first.get('Code')}). Run again."
                )
            deleted += len(batch)
        return deleted

    def open_uploads(self, folder: str = "") -> Iterator[OpenUpload]:
        """Unfinished multipart uploads below {location}/, or {location}/{folder}/."""
        prefix = f"{self._folder}/{folder}/" if folder else f"{self._folder}/"
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for found in page.get("Uploads", ()):
                if found["Key"].startswith(prefix):  # not every store applies the prefix
                    yield OpenUpload(f"s3://{self.bucket}/{found['Key']}", found["UploadId"], found["Initiated"])

    def abort(self, upload: OpenUpload) -> None:
        """Give up an unfinished upload. One that is gone already counts."""
        from botocore.exceptions import ClientError

        key = bucket_and_key(upload.path)[1]
        try:
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload.upload_id)
        except ClientError as e:
            if e.response.get("Error", {}).get("Code") != "NoSuchUpload":
                raise


def _client(properties: Mapping[str, Any]) -> Any:
    return s3_client(
        properties["s3.endpoint"],
        (properties["s3.access-key-id"], properties["s3.secret-access-key"]),
        region=properties["s3.region"],
        connect_timeout_s=int(properties["s3.connect-timeout"]),
        timeout_s=int(properties["s3.request-timeout"]),
    )


def s3_client(
    endpoint: str, keys: tuple[str, str], *, region: str, timeout_s: int, connect_timeout_s: int = CONNECT_TIMEOUT_S
) -> Any:
    """A boto3 client with bounded waits; it doesn't use a proxy for loopback. keys: (access key, secret key)."""
    import boto3
    from botocore.config import Config

    local = urlsplit(endpoint).hostname in ("127.0.0.1", "localhost")
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name=region,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": MAX_TRIES},
            connect_timeout=connect_timeout_s,
            read_timeout=timeout_s,
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path"},
            **({"proxies": {}} if local else {}),
        ),
    )


def glue_client(region: str) -> Any:
    """boto3's client of AWS Glue, with the credentials that AWS' own tools find. It sends everything once: a run that
    was asked for twice would be two."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=CONNECT_TIMEOUT_S, read_timeout=60
    )
    return boto3.client("glue", region_name=region, config=config)


def bucket_and_key(path: str) -> tuple[str, str]:
    """(bucket, key) of s3://bucket/key."""
    parts = urlsplit(path)
    return parts.netloc, path.removeprefix(f"{parts.scheme}://{parts.netloc}/")
