"""Elasticsearch's errors by status and reason: of its client, and of its items in a bulk answer."""

from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError
from etl_resources.http_errors import is_about_names, status_of, with_causes

LIBRARIES = {"elasticsearch", "elastic_transport"}
_SETTINGS = "ETL_ELASTICSEARCH_URL, ETL_ELASTICSEARCH_API_KEY"
_TRANSIENT_STATUSES = {408, 423, 429, 500, 502, 503, 504}
_NO_SPACE = ("flood-stage watermark", "disk usage exceeded")
"""An index that was made read-only because the disk is almost full answers 429, as an overloaded node does."""

_NOT_CONNECTED = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError", "Connection refused")


def of_elasticsearch(error: BaseException) -> DataPipelineError | None:
    """An error of the client as one of ours; None for a wrong call."""
    name, status = type(error).__name__, status_of(error)
    text = ": ".join(str(e).strip().partition("\n")[0] for e in (error, error.__cause__) if e is not None)
    if name == "UnsupportedProductError":
        return SettingsError("ETL_ELASTICSEARCH_URL: what answers there is not Elasticsearch 8. Check the address.")
    if status is not None:
        return of_status(status, text)
    if name == "TlsError":
        return SettingsError(f"Elasticsearch: {text}. Check ETL_ELASTICSEARCH_URL and ETL_ELASTICSEARCH_CA_FILE.")
    if is_about_names(with_causes(error)):
        return SettingsError(f"Elasticsearch: {text}. No such host: check ETL_ELASTICSEARCH_URL.")
    if name in ("ConnectionError", "ConnectionTimeout"):
        return TransientError(f"Elasticsearch: {text}")
    if name == "SerializationError":  # an answer that was cut, or a page of a proxy
        return TransientError(f"Elasticsearch: its answer can't be read: {text}")
    return None


def of_status(status: int, reason: str) -> DataPipelineError:
    """The status of an answer, or of one item of a bulk answer, with its reason."""
    text = f"Elasticsearch: {reason} (HTTP {status})"
    if any(mark in reason for mark in _NO_SPACE):
        return PermanentError(f"No space left in {text}. Free space and run again; what was published is untouched.")
    if status in (401, 403):
        return SettingsError(f"{text}. Check {_SETTINGS} and the rights of the key.")
    return TransientError(text) if status in _TRANSIENT_STATUSES else PermanentError(text)


def may_have_written(error: BaseException) -> bool:
    """Whether a write may have been carried out although it ended with this transient error.

    503 counts: a cluster state may have been committed by a master that was lost while it told so.
    """
    not_connected = any(mark in with_causes(error) for mark in _NOT_CONNECTED)
    return not not_connected and status_of(error) in (None, 408, 500, 502, 503, 504)
