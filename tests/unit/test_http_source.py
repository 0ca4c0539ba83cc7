"""The HTTP API source without a server: addresses, ranges, secrets in texts, and what its manifest may say."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl_resources.errors import ManifestErrors, PermanentError, SettingsError
from etl_resources.extract.http_client import Credentials, HttpClient
from etl_resources.extract.http_landing import page_name
from etl_resources.extract.http_pages import SeenPage, paging_of
from etl_resources.manifest_file import parse_manifest
from etl_resources.manifest_http import Auth, HttpApiSource, Limits

ADDRESS = "https://api.example.com/base"
KEY = "s3cr3t/k+y"
RATES: dict[str, Any] = {
    "kind": "http_api",
    "system": "ecb",
    "path": "/v1/{start}..{end}",
    "query": {"base": "EUR"},
    "pages": {"by": "date_range", "start": "2024-01-15"},
    "rows": "rates.{rate_date}.{currency}",
    "value": "rate",
    "key": ("rate_date", "currency"),
    "columns": {"rate_date": "date", "currency": "string", "rate": "decimal(18,6)"},
}
ORDERS: dict[str, Any] = {
    "kind": "http_api",
    "system": "shop",
    "path": "/orders",
    "rows": "data[]",
    "key": ("id",),
    "columns": {"id": "bigint"},
}


def source(base: dict[str, Any], **changes: Any) -> HttpApiSource:
    return HttpApiSource.model_validate({**base, **changes}, strict=True)


def client(**auth: Any) -> HttpClient:
    given = Auth.model_validate(auth) if auth else None
    credentials = Credentials.of(given, {"env:KEY": KEY, "env:USER": "ann", "env:BAD": "a\nb"}.__getitem__)
    return HttpClient(ADDRESS, "env:API_URL", credentials, Limits(), None)


def ranges(today: date, **pages: str) -> list[str]:
    paging = paging_of(source(RATES, pages={**RATES["pages"], **pages}), client(), date(2024, 4, 10), today)
    found: list[str] = [paging.first()]
    while (url := paging.after(SeenPage(len(found), found[-1], {}, None, 1, 1))) is not None:
        found.append(url)
    return [url.removeprefix(f"{ADDRESS}/v1/").removesuffix("?base=EUR") for url in found]


def test_ranges_follow_the_calendar_without_gap() -> None:
    """A day between two ranges would be lost for ever; a day in the future has no rates."""
    months = ["2024-01-15..2024-01-31", "2024-02-01..2024-02-29", "2024-03-01..2024-03-31", "2024-04-01..2024-04-10"]
    assert ranges(date(2026, 1, 1)) == months
    assert ranges(date(2024, 2, 1)) == months[:2]
    assert ranges(date(2026, 1, 1), every="year", end="2025-02-01") == [
        "2024-01-15..2024-12-31",
        "2025-01-01..2025-02-01",
    ]
    assert ranges(date(2026, 1, 1), every="day", end="2024-01-16") == [
        "2024-01-15..2024-01-15",
        "2024-01-16..2024-01-16",
    ]


def test_no_range_is_an_error() -> None:
    """A start after the end must not look like a source without rows."""
    with pytest.raises(PermanentError, match="no range of days"):
        ranges(date(2023, 1, 1))


@pytest.mark.parametrize(
    "target", ["https://evil.example.com/x", "http://api.example.com/x", "//evil/x", "https://api.example.com:8443/"]
)
def test_another_address_is_never_followed(target: str) -> None:
    """A redirect or a link to another host would hand it the credentials; the same host without TLS, everybody."""
    with pytest.raises(PermanentError, match="leads to another address"):
        client(bearer={"secret": "env:KEY"}).linked(f"{ADDRESS}/orders", target)


def test_links_on_the_same_host_are_followed_without_their_key() -> None:
    """Services echo the query in their links: the key must not get into markers and errors."""
    api = client(api_key={"query": "token", "secret": "env:KEY"})
    assert api.linked(f"{ADDRESS}/orders", "/base/orders?token=s3cr3t%2Fk%2By&page=2") == f"{ADDRESS}/orders?page=2"
    assert api.shown(f"{ADDRESS}/orders?token=x&page=2") == f"{ADDRESS}/orders?page=2"


@pytest.mark.parametrize(
    "auth",
    [
        {"bearer": {"secret": "env:KEY"}},
        {"basic": {"user": "env:USER", "password": "env:KEY"}},
        {"api_key": {"header": "X-Key", "secret": "env:KEY"}},
        {"api_key": {"query": "key", "secret": "env:KEY"}},
    ],
)
def test_a_body_that_echoes_the_secret_is_shown_without_it(auth: dict[str, Any]) -> None:
    """Error pages like to repeat the request."""
    api = client(**auth)
    credentials = Credentials.of(Auth.model_validate(auth), {"env:KEY": KEY, "env:USER": "ann"}.__getitem__)
    sent = " ".join([*credentials.headers.values(), *credentials.query.values(), KEY, "s3cr3t%2Fk%2By", "s3cr3t/k%2By"])
    shown = api.beginning(f"denied for {sent}".encode())
    assert "denied for" in shown
    assert "s3cr3t" not in shown
    assert "s3cr3t" not in repr(credentials)
    if "basic" in auth:
        assert credentials.headers["Authorization"].partition(" ")[2] not in shown


def test_a_secret_that_no_header_may_carry_is_named_not_shown() -> None:
    """The library's own error quotes it."""
    with pytest.raises(SettingsError, match="env:BAD") as raised:
        client(bearer={"secret": "env:BAD"})
    assert "a\nb" not in str(raised.value)


@pytest.mark.parametrize("address", ["api.example.com", "ftp://a", "https://user:pw@a", "https://a/?key=1"])
def test_an_unusable_address_is_named_not_shown(address: str) -> None:
    """It may hold credentials."""
    with pytest.raises(SettingsError, match="env:API_URL") as raised:
        HttpClient(address, "env:API_URL", Credentials(), Limits(), None)
    assert "pw" not in str(raised.value)


def test_long_names_are_cut_and_stay_different() -> None:
    """A cursor may be longer than a key of S3 may be."""
    one, other = (page_name(f"{ADDRESS}/orders?cursor={'x' * 2000}{end}") for end in "ab")
    assert one != other
    assert len(one) < 300


@pytest.mark.parametrize(
    ("base", "changes", "told"),
    [
        (ORDERS, {"rows": "data"}, "rows leads to one value"),
        (ORDERS, {"rows": "data["}, "is not a path"),
        (ORDERS, {"value": "amount"}, "'amount' is not one of the columns: id"),
        (ORDERS, {"fields": {"id": "a[].b"}}, "leads to several values"),
        (ORDERS, {"path": "/v1/{start}"}, "belong to pages by date_range"),
        (ORDERS, {"extract": "window"}, "extract window belongs to"),
        (ORDERS, {"auth": {"bearer": {"secret": "abc"}}}, "a reference, env:NAME or file:PATH"),
        (ORDERS, {"auth": {}}, "exactly one of bearer, basic, api_key"),
        (ORDERS, {"auth": {"api_key": {"secret": "env:A"}}}, "exactly one of header, query"),
        (ORDERS, {"pages": {"by": "pages"}}, "pages.by: 'pages' is not valid"),
        (ORDERS, {"pages": {"by": "page", "next": "x"}}, "unknown key 'next'"),
        (RATES, {"path": "/v1"}, "need {start} in path or query"),
        (RATES, {"pages": {"by": "date_range", "start": "2024-02-30"}}, "start"),
        (RATES, {"columns": {**RATES["columns"], "source": "string"}}, "column 'source' has no value"),
    ],
)
def test_what_can_not_work_is_told_with_its_line(base: dict[str, Any], changes: dict[str, Any], told: str) -> None:
    """`validate` finds it without the network."""
    import json

    text = json.dumps({**base, **changes}, indent=1)  # JSON is YAML
    with pytest.raises(ManifestErrors) as raised:
        parse_manifest(text, Path("manifest.yaml"), HttpApiSource)
    (error, *_) = raised.value.errors
    assert told in str(error)
    assert error.line is not None
