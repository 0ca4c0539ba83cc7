"""What is transient, permanent or a settings mistake, for errors of the libraries that we use (A4).

Told by the module of the exception's class, so that no library is imported to look at an error.
"""

import errno

from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError

_CONNECTION_ERRORS = {"OperationalError", "InterfaceError", "ConnectionDoesNotExist", "TimeoutError"}
_REFUSED = ("403", "Forbidden", "ACCESS_DENIED", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_NO_SPACE = ("No space left", "disk is full", "could not extend file", "no free volumes", "Disk full")
_S3_SETTINGS = "ETL_S3_ENDPOINT, ETL_S3_ACCESS_KEY, ETL_S3_SECRET_KEY"


def classify(error: BaseException) -> DataPipelineError | None:
    """The error as one of ours; None for a crash that nobody foresaw."""
    if isinstance(error, DataPipelineError):
        return error
    library = type(error).__module__.partition(".")[0].lstrip("_")
    text = _first_line(error)
    if any(mark in str(error) for mark in _NO_SPACE) or getattr(error, "errno", None) == errno.ENOSPC:
        return PermanentError(f"No space left: {text}. Free space and run again; what was published is untouched.")
    if library in ("psycopg", "psycopg2", "sqlalchemy") and type(error).__name__ in _CONNECTION_ERRORS:
        return TransientError(f"Postgres: {text}")
    if library == "duckdb":
        return _of_duckdb(error, text)
    if isinstance(error, OSError) or library in ("botocore", "boto3", "urllib3"):
        return _of_storage(error, text)
    return None


def _of_duckdb(error: BaseException, text: str) -> DataPipelineError:
    if type(error).__name__ in ("HTTPException", "IOException"):
        return _of_storage(error, text)
    if type(error).__name__ == "OutOfMemoryException":
        return PermanentError(f"{text}. Choose a larger size in the manifest's runner.")
    return PermanentError(text)


def _of_storage(error: BaseException, text: str) -> DataPipelineError:
    if any(mark in str(error) for mark in _REFUSED):
        return SettingsError(f"S3 refused the request: {text}. Check {_S3_SETTINGS}.")
    return TransientError(f"S3: {text}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
