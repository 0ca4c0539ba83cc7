"""An HTTP API as a source that is delivered whole: its pages are fetched once, kept as received, and read from there.

Every page is in the raw zone before the next one is asked for. A retry of the same run takes the pages that are there
and asks for the others only; another run asks for all of them again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError, TransientError
from etl_resources.extract.batch_stream import BatchStream, DeliveredRows
from etl_resources.extract.delivery import DECLARED, Reading
from etl_resources.extract.http_client import Credentials, HttpClient
from etl_resources.extract.http_landing import LandedPage, PageLanding, PageMarker
from etl_resources.extract.http_pages import SeenPage, paging_of, total_of
from etl_resources.extract.http_rows import PageRows
from etl_resources.extract.raw_zone import RawObject, RawZone, marker_of
from etl_resources.json_path import parse_json
from etl_resources.manifest_http import DateRangePages, HttpApiSource
from etl_resources.progress import report
from etl_resources.retries import retry_transient
from etl_resources.schema_drift import TEXT, SourceColumn, SourceSchema
from etl_resources.sensitive import is_sensitive

if TYPE_CHECKING:
    import duckdb

PAGES_TOLD = 100
"""A progress line for so many."""


@dataclass(frozen=True)
class ApiDelivery:
    """The pages of an API, as they were received in one observation."""

    source: HttpApiSource
    zone: RawZone
    pages: tuple[tuple[RawObject, PageMarker], ...]
    columns: frozenset[str] = frozenset()
    """That rows of the pages have."""

    @property
    def fingerprint(self) -> str:
        """Hash of the requests and of the bytes that answered them, in their order."""
        return marker_of(*(f"{m.name} {m.sha256}" for _, m in self.pages))

    def land(self, zone: RawZone) -> Sequence[RawObject]:  # noqa: ARG002  (landed when they were received)
        """The pages, which are there already."""
        return [page for page, _ in self.pages]

    def schema(
        self,
        engine: "duckdb.DuckDBPyConnection",  # noqa: ARG002  (the pages were looked at when they were received)
        landed: Sequence[RawObject],  # noqa: ARG002
    ) -> SourceSchema | None:
        """Keys that a row has, which may leave each out if the manifest says so."""
        if not self.columns:
            return None
        found = {name: SourceColumn(TEXT) for name in sorted(self.columns)}
        return SourceSchema(found, typed=False, optional=self.source.missing == "null")

    def rows(
        self, engine: "duckdb.DuckDBPyConnection", landed: Sequence[RawObject], reading: Reading = DECLARED
    ) -> DeliveredRows:
        """Rows of the raw copies, page by page; each is read again at each reading."""
        requests = {page.path: marker.request for page, marker in self.pages}
        rows = PageRows(self.source, reading)

        def documents() -> Iterator[tuple[str, Any]]:
            for number, page in enumerate(landed, start=1):
                address = requests.get(page.path, page.name)
                yield f"page {number}" if is_sensitive(self.source) else address, self._parsed(page)

        stream = BatchStream(engine, f"delivered_{self.zone.dataset}", rows.schema, lambda: rows.batches(documents()))
        return DeliveredRows(stream.name, (stream,))

    def _parsed(self, page: RawObject) -> Any:
        body = retry_transient(lambda: self.zone.store.read(page.path), f"bronze.{self.zone.dataset}")
        try:
            return parse_json(body)
        except (ValueError, RecursionError) as e:  # it was parsed when it was received, at another depth of calls
            raise PermanentError(f"{page.path} isn't the page that was received, or nested too deeply: {e}.") from None


class HttpApi:
    """One dataset's API, ready to be observed."""

    def __init__(self, source: HttpApiSource, client: HttpClient, calendar_end: date) -> None:
        """calendar_end: last day of date ranges whose end isn't given."""
        self._source, self._client, self._calendar_end = source, client, calendar_end

    @classmethod
    def of(cls, source: HttpApiSource, address: str, calendar_end: date, resolve: Callable[[str], str]) -> "HttpApi":
        """With its secrets; `address` is the reference to the API's. Raises SettingsError naming the reference."""
        credentials = Credentials.of(source.auth, resolve)
        client = HttpClient(resolve(address), address, credentials, source.limits, source.rate_limit_per_s,
                            discreet=is_sensitive(source))  # fmt: skip
        return cls(source, client, calendar_end)

    def observe(self, zone: RawZone) -> ApiDelivery:
        """Fetch and land every page. Raises PermanentError, or TransientError when the API changed meanwhile."""
        paging = paging_of(self._source, self._client, self._calendar_end, datetime.now(UTC).date())
        page_rows = PageRows(self._source)
        landing = PageLanding(zone, self._client, page_rows)
        guard = _LoopGuard(self._source, self._client)
        pages: list[tuple[RawObject, PageMarker]] = []
        rows, columns = 0, set[str]()
        url: str | None = paging.first()
        with self._client.connected() as connected:
            while url is not None:
                guard.prove_new_address(self._client.shown(url))
                page = landing.page(connected, url)
                guard.prove_new_content(page)
                pages.append((page.raw, page.marker))
                rows += page.rows
                columns |= page_rows.found(page.document)
                if len(pages) % PAGES_TOLD == 0:
                    report(f"bronze.{zone.dataset}", "fetching", pages=len(pages), rows=rows)
                url = paging.after(SeenPage(len(pages), url, page.document, page.marker.next_link, page.rows, rows))
        report(f"bronze.{zone.dataset}", "fetched", pages=len(pages), rows=rows)
        self._prove_complete(landing, page, rows)
        return ApiDelivery(self._source, zone, tuple(pages), frozenset(columns))

    def _prove_complete(self, landing: PageLanding, last: LandedPage, rows: int) -> None:
        if rows == 0:
            raise PermanentError(
                f"{self._source.system} delivers no row from {self._client.told(last.marker.request)}. What is "
                "published stays. Check path, query and `rows` of the source."
            )
        total = total_of(self._source, last.document)
        if total is not None and total != rows:
            landing.forget()
            raise TransientError(
                f"{self._client.told(last.marker.request)} tells {total} rows in all, its pages had {rows}: the "
                "source changed while it was read. Run again."
            )


class _LoopGuard:
    """A page that leads back would be asked for ever; one that repeats another would count its rows twice."""

    def __init__(self, source: HttpApiSource, client: HttpClient) -> None:
        self._source, self._client = source, client
        self._addresses: dict[str, int] = {}
        self._contents: dict[str, int] = {}

    def prove_new_address(self, shown: str) -> None:
        number = len(self._addresses) + 1
        if shown in self._addresses:
            raise PermanentError(
                f"Page {number - 1} leads back to page {self._addresses[shown]}, {self._client.told(shown)}. The API's "
                "cursor or link goes round in a circle; nothing is published."
            )
        if number > self._source.limits.pages:
            raise PermanentError(
                f"{self._client.told(shown)} would be page {number}. limits.pages of the source allows "
                f"{self._source.limits.pages}: raise it, or ask for larger pages."
            )
        self._addresses[shown] = number

    def prove_new_content(self, page: LandedPage) -> None:
        """Single days may rightly repeat each other: a Saturday and a Sunday are answered with Friday's rates."""
        number = len(self._addresses)
        first = self._contents.setdefault(page.marker.sha256, number)
        pages = self._source.pages
        may_repeat = isinstance(pages, DateRangePages) and pages.every == "day"
        if first != number and page.rows and not may_repeat:
            raise PermanentError(
                f"Page {number}, {self._client.told(page.marker.request)}, repeats page {first}. Does the API know the "
                "parameter that names a page? Nothing is published."
            )
