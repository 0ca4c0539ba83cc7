"""Requests to an HTTP API: bounded, paced, with credentials that go to its own address only and into no text.

An error tells the address without secrets, the status and the first characters of the body. What may be tried again is
transient; who calls tries again (retries).
"""

import base64
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from etl_resources.classify import is_about_certificates
from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError
from etl_resources.http_errors import of_http, of_status
from etl_resources.manifest_http import Auth, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

REDIRECTS_MAX = 5
SHOWN_CHARACTERS = 120
USER_AGENT = "data-pipeline"
HIDDEN = "***"
_REDIRECTS = (301, 302, 303, 307, 308)
_JSON = re.compile(r"^(application|text)/([\w.+-]+\+)?json\b", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """A page as it was received, unpacked."""

    shown: str
    """Its address without secrets."""
    body: bytes
    etag: str | None
    next_link: str | None
    """Target of the header `Link: <…>; rel="next"`."""
    is_delimited: bool
    """Whether the server told the length: without, a lost connection looks like the end."""


@dataclass(frozen=True)
class Credentials:
    """What is added to a request: headers and query parameters. `secrets` is what no text may show."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, auth: Auth | None, resolve: Callable[[str], str]) -> "Credentials":
        """With the values behind the references. Raises SettingsError naming the reference."""
        if auth is None:
            return cls()
        if auth.bearer:
            token = _sendable(auth.bearer.secret, resolve)
            return cls({"Authorization": f"Bearer {token}"}, secrets=(token,))
        if auth.basic:
            user, password = (_sendable(r, resolve) for r in (auth.basic.user, auth.basic.password))
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            return cls({"Authorization": f"Basic {pair}"}, secrets=(pair, password))
        assert auth.api_key is not None  # noqa: S101  (the manifest names one)
        key = _sendable(auth.api_key.secret, resolve)
        if auth.api_key.header:
            return cls({auth.api_key.header: key}, secrets=(key,))
        return cls(query={str(auth.api_key.query): key}, secrets=(key,))

    def hidden_in(self, text: str) -> str:
        """The text without the secrets, as they are or as an address carries them."""
        for secret in self.secrets:
            for form in (secret, quote(secret), quote(secret, safe=""), urlencode({"": secret})[1:]):
                text = text.replace(form, HIDDEN)
        return text


def _sendable(reference: str, resolve: Callable[[str], str]) -> str:
    value = resolve(reference).strip()
    if not value or not value.isascii() or not value.isprintable():
        raise SettingsError(
            f"Secret {reference} is empty or has characters that no request may carry. Check its value."
        )
    return value


class ThrottledError(TransientError):
    """The server can't serve now, and may say when it can (`headers`, as retries read them)."""

    def __init__(self, message: str, retry_after: str | None) -> None:
        self.headers = {"retry-after": retry_after} if retry_after else {}
        super().__init__(message)


NOT_SHOWN = "not shown: the source has sensitive columns"


class HttpClient:
    """Connections to one API, used by one thread."""

    def __init__(
        self,
        address: str,
        setting: str,
        credentials: Credentials,
        limits: Limits,
        rate_limit_per_s: int | None,
        *,
        discreet: bool = False,
    ) -> None:
        """`address`: scheme and host, maybe a path that all paths begin with. discreet: no error quotes what came.

        Raises SettingsError.
        """
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(
                f"{setting} is no address with scheme and host. Write https://host or http://host:port."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise SettingsError(
                f"{setting} has more than scheme, host and path. Name credentials in the source's `auth`."
            )
        self._base, self._setting = address.rstrip("/"), setting
        self._origin = _origin(address)
        self._credentials, self._limits, self._discreet = credentials, limits, discreet
        self._pause_s = 1 / rate_limit_per_s if rate_limit_per_s else 0.0
        self._not_before = 0.0

    @contextmanager
    def connected(self) -> "Iterator[httpx.Client]":
        """A pool of connections for the pages of one delivery."""
        import httpx

        logging.getLogger("httpx").addFilter(_without_addresses)
        timeout = httpx.Timeout(self._limits.read_s, connect=self._limits.connect_s)
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
        with httpx.Client(timeout=timeout, headers=headers, follow_redirects=False, trust_env=self._trusts) as client:
            yield client

    @property
    def _trusts(self) -> bool:
        """Proxies of the environment hold for other machines only."""
        return urlsplit(self._base).hostname not in ("127.0.0.1", "localhost", "::1")

    def url(self, path: str, query: Mapping[str, str]) -> str:
        """Address of a path below the API's, without credentials."""
        return f"{self._base}{quote(path, safe='/.,:;=@!$&()*+~-%')}" + (f"?{urlencode(query)}" if query else "")

    def linked(self, here: str, target: str) -> str:
        """The address that a page links to. Raises PermanentError when it is another host's."""
        found = urljoin(here, target)
        if _origin(found) != self._origin:
            raise PermanentError(
                f"{self.told(here)} leads to another address, {_origin(found)}. Credentials go to {self._origin} "
                f"only, and so do requests: check {self._setting}."
            )
        return self._without_credentials(found)

    def shown(self, url: str) -> str:
        """An address fit for people and files: without credentials."""
        parts = urlsplit(self._without_credentials(url))
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))

    def told(self, url: str) -> str:
        """An address as errors tell it: what a page said of the next one, such as a cursor, may be a value."""
        shown = self.shown(url)
        return f"{shown.partition('?')[0]}?{NOT_SHOWN}" if self._discreet and "?" in shown else shown

    def get(self, client: "httpx.Client", url: str) -> Answer:
        """The page at an address, after redirects on the same host. Raises TransientError or PermanentError."""
        for _ in range(REDIRECTS_MAX + 1):
            self._wait()
            with (
                self._errors(url),
                client.stream("GET", self._signed(url), headers=self._credentials.headers) as answer,
            ):
                if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                    return self._page(url, answer)
                target = answer.headers["location"]
            url = self.linked(url, target)
        raise PermanentError(f"{self.told(url)} redirects more than {REDIRECTS_MAX} times. Check {self._setting}.")

    def _wait(self) -> None:
        """Keep the rate limit."""
        now = time.monotonic()
        time.sleep(max(0.0, self._not_before - now))
        self._not_before = max(now, self._not_before) + self._pause_s

    def _signed(self, url: str) -> str:
        if not self._credentials.query:
            return url
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(self._credentials.query)}"

    def _without_credentials(self, url: str) -> str:
        """A link may repeat the key that it was asked with."""
        parts = urlsplit(url)
        if not self._credentials.query or not parts.query:
            return url
        kept = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k not in self._credentials.query]
        return urlunsplit(parts._replace(query=urlencode(kept)))

    def _page(self, url: str, answer: "httpx.Response") -> Answer:
        body = self._body(url, answer)
        shown = self.told(url)
        if answer.status_code != 200:
            raise self._refused(shown, answer, body)
        kind = answer.headers.get("content-type", "")
        if kind and not _JSON.match(kind):
            raise PermanentError(
                f"{shown} answered 200 with {kind} instead of JSON: {self.beginning(body)}. Is the address right, and "
                "does it need credentials?"
            )
        link = answer.links.get("next", {}).get("url")
        is_delimited = "content-length" in answer.headers or "transfer-encoding" in answer.headers
        return Answer(shown, body, answer.headers.get("etag"), link, is_delimited)

    def _body(self, url: str, answer: "httpx.Response") -> bytes:
        deadline, size_max = time.monotonic() + self._limits.page_s, self._limits.page_mb * 1_000_000
        body = bytearray()
        for part in answer.iter_bytes():
            body += part
            if len(body) > size_max:
                raise PermanentError(
                    f"{self.told(url)} has more than {self._limits.page_mb} MB. Ask for smaller pages, or raise "
                    "limits.page_mb of the source."
                )
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{self.told(url)} took more than {self._limits.page_s} s after {len(body)} bytes. "
                    "limits.page_s of the source allows more."
                )
        return bytes(body)

    def _refused(self, shown: str, answer: "httpx.Response", body: bytes) -> DataPipelineError:
        error = of_status(answer.status_code, f"{shown} answered {self.beginning(body)}")
        if isinstance(error, TransientError):
            return ThrottledError(str(error), answer.headers.get("retry-after"))
        return error

    def beginning(self, body: bytes) -> str:
        """The first characters of a body on one line, without our secrets, should a server echo them."""
        if self._discreet and body:
            return f"{len(body)} bytes ({NOT_SHOWN})"
        text = self._credentials.hidden_in(" ".join(body[: 8 * SHOWN_CHARACTERS].decode(errors="replace").split()))
        return repr(text[:SHOWN_CHARACTERS]) if text else "nothing"

    @contextmanager
    def _errors(self, url: str) -> "Iterator[None]":
        """httpx's errors as ours, without the request that they carry: its address and headers hold secrets."""
        import httpx

        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            known = of_http(e)
            reason = self._credentials.hidden_in(f"{self.told(url)}: {type(e).__name__}, {str(e) or 'no answer'}")
            kind = type(known) if known else PermanentError
            advice = " Check the certificate and its authority." if is_about_certificates(str(e)) else ""
            raise kind(f"{reason}.{advice}") from None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _without_addresses(record: logging.LogRecord) -> bool:
    """httpx logs every address, with the key that may be in its query."""
    return record.levelno >= logging.WARNING
