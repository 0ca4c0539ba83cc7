"""HTTP errors by status, and how long a server asks to wait: requests, httpx, urllib, botocore,
Elasticsearch and DuckDB's reader.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError

_TRANSIENT_STATUSES = {408, 423, 425, 429, 500, 502, 503, 504}
_STATUS_IN_TEXT = re.compile(r"\(HTTP (?:code |status )?(\d{3})|returned HTTP (\d{3})|HTTP code (\d{3})")
_TRANSIENT_NAMES = re.compile(
    r"Timeout|Connect|ReadError|WriteError|CloseError|RemoteProtocolError|RemoteDisconnected|IncompleteRead|"
    r"ChunkedEncoding|ProtocolError|PoolTimeout|URLError|SSLEOFError|SSLZeroReturnError|BadStatusLine"
)
_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed")
_WRONG_NAME = ("Name or service not known", "nodename nor servname")


def of_http(error: BaseException) -> DataPipelineError | None:
    """An error of an HTTP client as one of ours; None for a wrong call."""
    text, whole = str(error).strip().partition("\n")[0] or type(error).__name__, with_causes(error)
    status = status_of(error)
    if status is not None:
        return of_status(status, text)
    if any(mark in whole for mark in _CERTIFICATE):
        return SettingsError(f"HTTP: {text}. The server's certificate is not trusted: check the address and the CA.")
    if is_about_names(whole):
        return SettingsError(f"HTTP: {text}. No such host: check the address.")
    if any(_TRANSIENT_NAMES.search(kind.__name__) for kind in type(error).__mro__):
        return TransientError(f"HTTP: {text}")
    return None


def of_status(status: int, text: str) -> DataPipelineError:
    """An answer that isn't what was asked for, as one of ours."""
    if status in (401, 403, 407):
        return SettingsError(f"HTTP {status}: {text}. Check the credentials that the setting names.")
    kind = TransientError if status in _TRANSIENT_STATUSES else PermanentError
    return kind(f"HTTP {status}: {text}")


def is_about_names(text: str) -> bool:
    """Whether a text says that the host's name doesn't exist: no retry helps."""
    return any(mark in text for mark in _WRONG_NAME)


def status_of(error: BaseException) -> int | None:
    """The status that the server answered with; None when there was no answer."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        return _number(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    for holder in (response, error):
        for name in ("status_code", "code", "status"):
            if (found := _number(getattr(holder, name, None))) is not None:
                return found
    match = _STATUS_IN_TEXT.search(str(error))
    return int(next(filter(None, match.groups()))) if match else None


def retry_after_s(error: BaseException | None, now: datetime | None = None) -> float | None:
    """Seconds that the server asked to wait (Retry-After as seconds or as a date); None when it didn't ask."""
    seen = set[int]()
    while error is not None and id(error) not in seen:  # `raise e from e` makes an error its own cause
        value = _header(error, "retry-after")
        if value is not None:
            return _seconds(value.strip(), now or datetime.now(UTC))
        seen.add(id(error))
        error = error.__cause__
    return None


def _seconds(value: str, now: datetime) -> float | None:
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())


def _header(error: BaseException, name: str) -> str | None:
    answers = (getattr(error, "response", None), getattr(error, "meta", None))  # Elasticsearch's: meta
    response: Any = next((a for a in answers if a is not None), None)  # one of requests with an error's status is false
    if isinstance(response, Mapping):
        headers: Any = response.get("ResponseMetadata", {}).get("HTTPHeaders")
    else:
        headers = getattr(response, "headers", None) or getattr(error, "headers", None)
    items = headers.items() if hasattr(headers, "items") else ()
    return next((str(v) for k, v in items if str(k).lower() == name), None)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600 else None


def with_causes(error: BaseException) -> str:
    """The types and texts of an error and of what it was raised from, a line each."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(texts) < 8:
        texts.append(f"{type(seen).__name__}: {seen} {getattr(seen, 'reason', '')}")
        seen = seen.__cause__ or seen.__context__
    return "\n".join(texts)
