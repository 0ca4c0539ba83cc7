"""How the pages of an API follow each other: which address comes first, and which after a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Protocol

from etl_resources.errors import PermanentError
from etl_resources.extract.http_client import HttpClient
from etl_resources.json_path import JsonPath, is_whole, text_of
from etl_resources.manifest_http import CursorPages, DateRangePages, HttpApiSource, LinkPages, NumberedPages


@dataclass(frozen=True)
class SeenPage:
    """A page that was received."""

    number: int
    """From 1."""
    url: str
    document: Any
    next_link: str | None
    rows: int
    rows_so_far: int
    """With this page's."""


class Paging(Protocol):
    """Addresses, without credentials."""

    def first(self) -> str:
        """Of the first page. Raises PermanentError when there is none to ask for."""

    def after(self, page: SeenPage) -> str | None:
        """Of the page after this one; None when it was the last. Raises PermanentError."""


def paging_of(source: HttpApiSource, client: HttpClient, calendar_end: date, today: date) -> Paging:
    """By the manifest. `calendar_end`: last day of date ranges whose end isn't given."""
    pages = source.pages
    if isinstance(pages, DateRangePages):
        end = date.fromisoformat(pages.end) if pages.end else calendar_end
        return _ByRange(source, client, list(_ranges(date.fromisoformat(pages.start), end, pages.every, today)))
    return _ByAnswer(source, client)


def total_of(source: HttpApiSource, document: Any) -> int | None:
    """The number of rows in all that a page tells; None when the manifest names no place for it."""
    path = getattr(source.pages, "total", None)
    if path is None:
        return None
    told = _value(path, document)
    if not (told or "").isdigit():
        raise PermanentError(f"total {path!r} is no number of rows there")
    return int(str(told))


@dataclass(frozen=True)
class _ByRange:
    """A page per range of days."""

    source: HttpApiSource
    client: HttpClient
    ranges: list[tuple[date, date]]

    def first(self) -> str:
        if not self.ranges:
            raise PermanentError(
                f"{self.source.system}: no range of days to ask for. Check start and end of its pages."
            )
        return self._url(0)

    def after(self, page: SeenPage) -> str | None:
        return self._url(page.number) if page.number < len(self.ranges) else None

    def _url(self, index: int) -> str:
        start, end = self.ranges[index]
        return _url(self.source, self.client, {"{start}": start.isoformat(), "{end}": end.isoformat()})


@dataclass(frozen=True)
class _ByAnswer:
    """Each page decides whether there is another one."""

    source: HttpApiSource
    client: HttpClient

    def first(self) -> str:
        pages = self.source.pages
        if isinstance(pages, NumberedPages):
            return self._url({pages.parameter: str(pages.first)})
        return self._url({})

    def after(self, page: SeenPage) -> str | None:
        pages = self.source.pages
        if pages is None:
            return None
        if isinstance(pages, LinkPages):
            target = _value(pages.next, page.document) if pages.next else page.next_link
            return self.client.linked(page.url, target) if target else None
        if isinstance(pages, CursorPages):
            cursor = _value(pages.next, page.document)
            return self._url({pages.parameter: cursor}) if cursor else None
        assert not isinstance(pages, DateRangePages)  # noqa: S101  (_ByRange)
        total = total_of(self.source, page.document)
        if page.rows == 0 or (total is not None and page.rows_so_far >= total):
            return None
        if isinstance(pages, NumberedPages):
            return self._url({pages.parameter: str(pages.first + page.number)})
        return self._url({pages.parameter: str(page.rows_so_far)})

    def _url(self, more: Mapping[str, str]) -> str:
        return _url(self.source, self.client, {}, more)


def _url(
    source: HttpApiSource, client: HttpClient, placeholders: Mapping[str, str], more: Mapping[str, str] | None = None
) -> str:
    def filled(text: str) -> str:
        for placeholder, value in placeholders.items():
            text = text.replace(placeholder, value)
        return text

    return client.url(filled(source.path), {**{k: filled(v) for k, v in source.query.items()}, **(more or {})})


def _value(path: str, document: Any) -> str | None:
    try:
        value = text_of(JsonPath(path).value(document))
    except KeyError:
        return None
    if value is not None and not is_whole(value):
        raise PermanentError(f"{path!r} has half of a character there: no address can have it")
    return value


def _ranges(start: date, end: date, every: str, today: date) -> Iterator[tuple[date, date]]:
    """(first day, last day), cut at months or years; those that begin after today are left out."""
    while start <= min(end, today):
        last = {
            "day": start,
            "month": (start.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1),
            "year": start.replace(month=12, day=31),
        }[every]
        yield start, min(last, end)
        start = last + timedelta(days=1)
