"""How a Spark task reaches the bucket, with the platform's own settings."""

from typing import Any
from urllib.parse import urlsplit

from etl_resources.settings import Settings

CONNECT_TIMEOUT_S_MAX = 10


def store_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of pyarrow's S3FileSystem; secrets among them."""
    endpoint, key, secret = settings.require_s3()
    address = urlsplit(endpoint)
    return {
        "access_key": key,
        "secret_key": secret,
        "endpoint_override": address.netloc,
        "scheme": address.scheme,
        "region": settings.s3_region,
        "connect_timeout": min(CONNECT_TIMEOUT_S_MAX, settings.s3_timeout_s),
        "request_timeout": settings.s3_timeout_s,
    }
