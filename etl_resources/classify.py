"""What is transient, permanent or a settings mistake, for errors of the libraries that we use (A4).

Told by the module of the exception's class, so that no library is imported to look at an error. The table for users,
each line of it tested: docs/operations/retries.md.
"""

import errno
import re

from etl_resources import elasticsearch_errors
from etl_resources.errors import (
    DataPipelineError,
    PermanentError,
    RestartError,
    SettingsError,
    TransientError,
    UnknownCommitError,
)
from etl_resources.http_errors import of_http, status_of
from etl_resources.postgres_errors import is_about_postgres, of_postgres, of_postgres_text, sqlstate_of

_NO_SPACE = ("No space left", "disk is full", "could not extend file", "no free volumes", "Disk full")
_S3_SETTINGS = "ETL_S3_ENDPOINT, ETL_S3_ACCESS_KEY, ETL_S3_SECRET_KEY"
_REFUSED = (
    *("Forbidden", "ACCESS_DENIED", "AccessDenied", "InvalidAccessKeyId", "INVALID_ACCESS_KEY_ID"),
    *("SignatureDoesNotMatch", "SIGNATURE_DOES_NOT_MATCH", "RequestTimeTooSkewed", "InvalidClientTokenId"),
)
_NO_BUCKET = ("NoSuchBucket", "NO_SUCH_BUCKET", "InvalidBucketName")
_MISSING = ("NoSuchKey", "NO_SUCH_KEY", "Path does not exist", "No files found that match")
_S3_TRANSIENT = (
    *("SlowDown", "SLOW_DOWN", "Throttl", "THROTTLING", "TooManyRequests", "RequestLimitExceeded"),
    *("InternalError", "INTERNAL_FAILURE", "ServiceUnavailable", "SERVICE_UNAVAILABLE", "RequestTimeout"),
    *("REQUEST_TIMEOUT", "NETWORK_CONNECTION", "OperationAborted", "ConditionalRequestConflict"),
)
_NOT_CONNECTED = {"EndpointConnectionError", "ConnectTimeoutError", "ConnectTimeout", "ConnectError"}
_NOT_CONNECTED_TEXTS = (
    *("Could not connect", "Could not resolve", "Connection refused", "curlCode: 7,", "connection failed"),
    *("connection to server at", "Failed to establish a new connection"),
)
_HTTP_LIBRARIES = {"requests", "httpx", "urllib", "http", "ssl"}
_S3_LIBRARIES = {"botocore", "boto3", "urllib3", "pyarrow"}
_DATABASE_LIBRARIES = {"psycopg", "psycopg2", "sqlalchemy", "dagster_postgres"}


def classify(error: BaseException) -> DataPipelineError | None:
    """The error as one of ours; None for a crash that nobody foresaw."""
    if isinstance(error, DataPipelineError):
        return error
    library = type(error).__module__.partition(".")[0].lstrip("_")
    text = _first_line(error)
    if getattr(error, "errno", None) == errno.ENOSPC or any(mark in str(error) for mark in _NO_SPACE):
        return PermanentError(f"No space left: {text}. Free space and run again; what was published is untouched.")
    if library in _DATABASE_LIBRARIES:
        return of_postgres(error)
    if library in elasticsearch_errors.LIBRARIES:
        return elasticsearch_errors.of_elasticsearch(error)
    if library == "duckdb":
        return _of_duckdb(error, text)
    if library in _HTTP_LIBRARIES:
        return of_http(error)
    if library in _S3_LIBRARIES or isinstance(error, OSError):
        return _of_storage(error, text)
    return None


def answer_lost(error: BaseException) -> bool:
    """Whether what was sent may have been carried out although its answer didn't come: settle it by reading back.

    A server that answers with an error, or that could not be connected to, has done nothing.
    """
    if isinstance(error, DataPipelineError):
        return isinstance(error, UnknownCommitError)
    known = classify(error)
    if isinstance(known, UnknownCommitError):
        return True
    if not isinstance(known, TransientError) or type(error).__name__ in _NOT_CONNECTED:
        return False
    if any(mark in str(error) for mark in _NOT_CONNECTED_TEXTS):
        return False
    if type(error).__module__.partition(".")[0] in _DATABASE_LIBRARIES:
        return (sqlstate_of(error) or "08006") in ("08000", "08003", "08006", "57P01", "57P02")
    if type(error).__module__.partition(".")[0] in elasticsearch_errors.LIBRARIES:
        return elasticsearch_errors.may_have_written(error)
    return status_of(error) in (None, 408, 500, 502, 504)


def _of_duckdb(error: BaseException, text: str) -> DataPipelineError:
    name = type(error).__name__
    if name != "HTTPException" and is_about_postgres(str(error)):
        return restart(of_postgres_text(str(error)))  # it read in a transaction, whose snapshot is gone
    if name in ("HTTPException", "IOException"):
        return _of_storage(error, text)
    if name == "OutOfMemoryException":
        return PermanentError(f"{text}. Choose a larger size in the manifest's runner.")
    return PermanentError(text)


def _of_storage(error: BaseException, text: str) -> DataPipelineError:
    """S3 through botocore, PyArrow (PyIceberg's files) or DuckDB. What says nothing of itself is transient."""
    status, whole = status_of(error), str(error)
    told = re.sub(r"s3://\S+|https?://\S+|key '[^']*'", "", whole)  # a path may contain any of the marks
    if any(mark in told for mark in _NO_BUCKET):
        return SettingsError(f"S3 has no such bucket: {text}. Check ETL_S3_BUCKET and ETL_ACCOUNT.")
    if status in (401, 403) or any(mark in told for mark in _REFUSED):
        return SettingsError(f"S3 refused the request: {text}. Check {_S3_SETTINGS}.")
    if is_about_certificates(told):
        return SettingsError(f"S3: {text}. The certificate is not trusted: check ETL_S3_ENDPOINT and the CA bundle.")
    if isinstance(error, FileNotFoundError) and error.filename is not None:  # of this machine: S3's errors have none
        return PermanentError(f"There is no file {error.filename}.")
    if isinstance(error, FileNotFoundError) or status in (404, 410) or any(mark in told for mark in _MISSING):
        return PermanentError(f"S3 has no such object: {text}. `data-pipeline verify` tells what is missing.")
    if any(mark in told for mark in _S3_TRANSIENT) or status in (408, 409, 429) or (status or 0) >= 500:
        return TransientError(f"S3: {text}")
    if status is not None:
        return PermanentError(f"S3: {text}")
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return PermanentError(text)
    return TransientError(f"S3: {text}")


def is_about_certificates(text: str) -> bool:
    """Whether a text says that a server's certificate isn't trusted: no retry helps."""
    marks = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "SSL peer certificate", "curlCode: 60")
    return any(mark in text for mark in marks)


def restart(error: DataPipelineError) -> DataPipelineError:
    """A transient error of a session that is lost: its locks are gone with it, so the step starts again."""
    return RestartError(str(error)) if type(error) is TransientError else error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
