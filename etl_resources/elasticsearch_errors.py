"""Elasticsearch's errors by status and reason: of its client, and of its items in a bulk answer."""

from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError
from etl_resources.http_errors import is_about_names, status_of, with_causes

LIBRARIES = {"elasticsearch", "elastic_transport"}
_SETTINGS = "ETL_ELASTICSEARCH_URL, ETL_ELASTICSEARCH_API_KEY"
_TRANSIENT_STATUSES = {408, 423, 429, 500, 502, 503, 504}
_NO_SPACE = ("flood-stage watermark", "disk usage exceeded")
"""An index that was made read-only because the disk is almost full answers 429, as an overloaded node does."""

_NOT_CONNECTED = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError", "Connection refused")
_HUNG_UP = "Remote end closed connection without response"
_PLAIN_HTTP = " (a server that wants https:// hangs up like this on http://: check ETL_ELASTICSEARCH_URL)"


def of_elasticsearch(error: BaseException) -> DataPipelineError | None:
    """An error of the client as one of ours; None for a wrong call."""
    name, status = type(error).__name__, status_of(error)
    text = ": ".join(str(e).strip().partition("\n")[0] for e in (error, error.__cause__) if e is not None)
    if name == "UnsupportedProductError":
        return SettingsError("ETL_ELASTICSEARCH_URL: what answers there is not Elasticsearch 8. Check the address.")
    if status is not None:
        return of_status(status, text)
    if name == "TlsError":
        return SettingsError(f"Elasticsearch: {text}. {_tls_advice(text)}")
    if is_about_names(with_causes(error)):
        return SettingsError(f"Elasticsearch: {text}. No such host: check ETL_ELASTICSEARCH_URL.")
    if name in ("ConnectionError", "ConnectionTimeout"):
        return TransientError(f"Elasticsearch: {text}{_PLAIN_HTTP if _HUNG_UP in text else ''}")
    if name == "SerializationError":  # an answer that was cut, or a page of a proxy
        return TransientError(f"Elasticsearch: its answer can't be read: {text}")
    return None


def _tls_advice(text: str) -> str:
    """What to change, by OpenSSL's reason."""
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return "No TLS is spoken there: write http:// in ETL_ELASTICSEARCH_URL, or name the port that speaks it."
    if any(mark in text for mark in ("ostname mismatch", "address mismatch", "doesn't match")):
        return "The certificate is for another name: write one of its names in ETL_ELASTICSEARCH_URL."
    if "has expired" in text or "not yet valid" in text:
        return "Renew the certificate of the server in ETL_ELASTICSEARCH_URL, or mend a clock."
    return (
        "Its certificate isn't signed by whom we trust: name a file with its authority's certificate (PEM) in "
        "ETL_ELASTICSEARCH_CA_FILE, and check ETL_ELASTICSEARCH_URL."
    )


def of_status(status: int, reason: str) -> DataPipelineError:
    """The status of an answer, or of one item of a bulk answer, with its reason."""
    text = f"Elasticsearch: {reason} (HTTP {status})"
    if any(mark in reason for mark in _NO_SPACE):
        return no_space(f"{reason} (HTTP {status})")
    if status in (401, 403):
        return SettingsError(f"{text}. Check {_SETTINGS} and the rights of the key.")
    return TransientError(text) if status in _TRANSIENT_STATUSES else PermanentError(text)


def no_space(reason: str) -> PermanentError:
    """Its disk is almost full, by its own watermarks."""
    return PermanentError(
        f"No space left in Elasticsearch: {reason}. Free space and run again; what was published is untouched."
    )


def may_have_written(error: BaseException) -> bool:
    """Whether a write may have been carried out although it ended with this transient error.

    503 counts: a cluster state may have been committed by a master that was lost while it told so.
    """
    not_connected = any(mark in with_causes(error) for mark in _NOT_CONNECTED)
    return not not_connected and status_of(error) in (None, 408, 500, 502, 503, 504)
