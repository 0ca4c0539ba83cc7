"""Pages of an API in the raw zone: fetched, proved to be what was described, kept as received, marked.

A page that is marked in the folder of this run was landed by an earlier try of it: it is taken from there, unless
another run has captured the system since. A higher epoch must not belong to an older observation.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from etl_resources.conventions import raw_folder, raw_note, raw_note_kind
from etl_resources.errors import PermanentError, TransientError
from etl_resources.extract.http_client import Answer, HttpClient
from etl_resources.extract.http_rows import PageRows
from etl_resources.extract.raw_zone import RawObject, RawZone, marker_of
from etl_resources.json_path import PathError, parse_json
from etl_resources.manifest_http import LinkPages
from etl_resources.retries import retry_transient

if TYPE_CHECKING:
    import httpx

NAME_CHARACTERS_MAX = 250
"""S3's keys have 1024 bytes, and a character of an address may take three."""


@dataclass(frozen=True)
class PageMarker:
    """What is written beside a page when it is landed: how it was asked for, and what came."""

    request: str
    """Address without credentials."""
    name: str
    path: str
    """Of the page, in the raw zone; another run may have landed the same bytes before."""
    sha256: str
    size_bytes: int
    status: int
    etag: str | None
    next_link: str | None
    received_at: str
    newest_capture: int = 0
    """Epoch of the newest capture of the system by another run, when it was asked for."""


@dataclass(frozen=True)
class LandedPage:
    """A page in the raw zone, read."""

    raw: RawObject
    marker: PageMarker
    document: Any
    rows: int


class PageLanding:
    """The pages of one observation."""

    def __init__(self, zone: RawZone, client: HttpClient, rows: PageRows) -> None:
        self._zone, self._client, self._rows = zone, client, rows

    def page(self, connected: "httpx.Client", url: str) -> LandedPage:
        """The page at an address, from the raw zone or the API. Raises what the client raises, and PermanentError for
        a body that isn't the JSON that was described."""
        marker = self._marked.get(self._client.shown(url))
        if marker is None:
            return self._fetch(connected, url)
        body = retry_transient(lambda: self._zone.store.read(marker.path), self._what)
        if hashlib.sha256(body).hexdigest() != marker.sha256:
            raise PermanentError(f"{marker.path} isn't the page that was received. Start a new run: it asks again.")
        raw = RawObject(marker.name, marker_of(marker.name, marker.sha256), len(body), marker.path, self._zone.run_id)
        document = parse_json(body)
        return LandedPage(raw, marker, document, self._rows.count(document))

    def forget(self) -> None:
        """Its pages don't belong together: a later try of this run shall ask for all of them again."""
        retry_transient(lambda: self._zone.store.delete(self._notes()), self._what)

    def _fetch(self, connected: "httpx.Client", url: str) -> LandedPage:
        def fetch() -> tuple[Answer, Any, int]:
            answer = self._client.get(connected, url)
            return answer, *self._proved(answer)

        answer, document, rows = retry_transient(fetch, self._what)
        shown = self._client.shown(url)
        name = page_name(shown)
        raw = self._zone.put(name, answer.body)
        marker = PageMarker(
            request=shown,
            name=name,
            path=raw.path,
            sha256=hashlib.sha256(answer.body).hexdigest(),
            size_bytes=len(answer.body),
            status=200,
            etag=answer.etag,
            next_link=self._next(url, answer),
            received_at=datetime.now(UTC).isoformat(timespec="seconds"),
            newest_capture=self._zone.newest_capture,
        )
        text = json.dumps(asdict(marker), indent=1).encode()
        note = raw_note(self._zone.dataset, self._zone.run_id, "page", marker_of(marker.request))
        path = f"{self._zone.location}/{note}"
        retry_transient(lambda: self._zone.store.write(path, text), self._what)
        return LandedPage(raw, marker, document, rows)

    def _next(self, url: str, answer: Answer) -> str | None:
        """Only where pages are followed by links: another host's link in the header of others leads nobody there."""
        by_link = isinstance(self._rows.source.pages, LinkPages)
        return self._client.linked(url, answer.next_link) if by_link and answer.next_link else None

    def _proved(self, answer: Answer) -> tuple[Any, int]:
        """(document, rows) of a body; what can't be read is never landed."""
        try:
            document = parse_json(answer.body)
        except (ValueError, RecursionError) as e:
            told = f"{answer.shown} answered 200 with what isn't JSON ({e}): {self._client.beginning(answer.body)}"
            if not answer.is_delimited:
                raise TransientError(f"{told}. It may be cut off: the server told no length.") from None
            raise PermanentError(f"{told}. Is the address right, and does it need credentials?") from None
        try:
            return document, self._rows.count(document)
        except PathError as e:
            raise PermanentError(
                f"{answer.shown}: {e}, so there is no {self._rows.source.rows!r} in "
                f"{self._client.beginning(answer.body)}. Check `rows` of the source."
            ) from None

    @cached_property
    def _marked(self) -> dict[str, PageMarker]:
        """Address → marker of what an earlier try of this run has landed."""
        store = self._zone.store

        def read() -> list[bytes]:
            return [store.read(path) for path in self._notes()]

        found = [PageMarker(**json.loads(text)) for text in retry_transient(read, self._what)]
        return {m.request: m for m in found if m.newest_capture == self._zone.newest_capture}

    def _notes(self) -> list[str]:
        """Paths of the markers of this run's pages."""
        listed = self._zone.store.list(raw_folder(self._zone.dataset, self._zone.run_id))
        return [o.path for o in listed if raw_note_kind(o.path) == "page"]

    @property
    def _what(self) -> str:
        return f"bronze.{self._zone.dataset}"


def page_name(shown: str) -> str:
    """Name of a page in the raw zone: its address without the host, cut where a key would get too long."""
    parts = urlsplit(shown)
    name = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    return name if len(name) <= NAME_CHARACTERS_MAX else f"{name[:NAME_CHARACTERS_MAX]}~{marker_of(name)}"
