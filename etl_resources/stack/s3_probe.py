"""Health of an S3 service, embedded or external, with its real credentials and bounded waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from uuid import uuid4

from etl_resources.errors import SettingsError, TransientError

PROBE_PREFIX = ".data-pipeline-probe/"
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "Forbidden", "401"}
_MISSING = {"NoSuchBucket", "404"}


@lru_cache(maxsize=4)
def client(endpoint: str, access_key: str, secret_key: str, region: str = "us-east-1") -> Any:
    """A client that tries once and doesn't use a proxy for loopback."""
    import boto3
    from botocore.config import Config

    local = "//127.0.0.1" in endpoint or "//localhost" in endpoint
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=10,
            s3={"addressing_style": "path"},
            **({"proxies": {}} if local else {}),
        ),
    )


@contextmanager
def s3_errors(setting: str, endpoint: str, bucket: str | None = None) -> Iterator[None]:
    """Turn boto3's errors into ours, naming the setting and the endpoint, never a key."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as e:
        code = str(e.response.get("Error", {}).get("Code"))
        if code in _REFUSED:
            raise SettingsError(
                f"{setting}: {endpoint} refused the keys ({code}). Check access key, secret key and rights"
                + (f" on bucket {bucket}." if bucket else ".")
            ) from None
        if code in _MISSING:
            raise SettingsError(
                f"{setting}: {endpoint} has no bucket {bucket}. Create it, or name another in ETL_S3_BUCKET."
            ) from None
        raise TransientError(f"{setting}: {endpoint} answered {code}. Is the service healthy?") from None
    except (BotoCoreError, ValueError) as e:
        raise TransientError(f"{setting}: no connection to {endpoint} ({type(e).__name__}). Is it running?") from None


def check_bucket(service: Any, bucket: str, setting: str, endpoint: str) -> None:
    """The keys are accepted and the bucket is there. Raises SettingsError or TransientError."""
    with s3_errors(setting, endpoint, bucket):
        service.head_bucket(Bucket=bucket)
        service.list_objects_v2(Bucket=bucket, MaxKeys=1)  # HEAD has no body, so it can't say why it refused


def probe_object(service: Any, bucket: str, setting: str, endpoint: str) -> None:
    """Write, read and delete one small object. Raises SettingsError or TransientError."""
    key = f"{PROBE_PREFIX}{uuid4().hex}"
    with s3_errors(setting, endpoint, bucket):
        service.put_object(Bucket=bucket, Key=key, Body=key.encode())
        read = service.get_object(Bucket=bucket, Key=key)["Body"].read()
        service.delete_object(Bucket=bucket, Key=key)
    if read != key.encode():
        raise TransientError(f"{setting}: {endpoint} returned something else than was written. Is it healthy?")
