"""The HTTP API source when the API is wrong, slow, away or hostile: an error that tells it, or the complete data."""

import json
import logging
import re
from typing import Any

import pytest

from etl_resources.errors import DataPipelineError, PermanentError, RestartError, SettingsError
from etl_resources.extract.raw_zone import RawZone
from tests.integration.api_server import Answer, Api, Request, page, serving
from tests.integration.api_source import KEY, data, failure, ids, observe

pytest_plugins = ["tests.integration.api_source"]

AUTHS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "bearer": ({"bearer": {"secret": "env:KEY"}}, {"Authorization": f"Bearer {KEY}"}),
    "basic": ({"basic": {"user": "env:USER", "password": "env:KEY"}}, {"Authorization": "Basic YW5uOnMzY3IzdC1rM3k="}),
    "header": ({"api_key": {"header": "X-Api-Key", "secret": "env:KEY"}}, {"X-Api-Key": KEY}),
    "query": ({"api_key": {"query": "key", "secret": "env:KEY"}}, {}),
}


@pytest.mark.parametrize("name", AUTHS)
def test_credentials_are_sent_and_never_shown(
    api: Api, zone: RawZone, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a log, not in an error although the service repeats the request in its refusal."""
    auth, headers = AUTHS[name]
    caplog.set_level(logging.DEBUG)

    def answer(request: Request) -> Answer:
        knows = headers.items() <= request.headers.items() if headers else f"key={KEY}" in request.path
        return page({"data": data(1)}) if knows else Answer(b"who?", 401)

    api.answers = {"*": answer}
    assert ids(observe(api, zone, auth=auth)) == [1]
    sent = " ".join(headers.values()) or KEY
    api.answers = {"*": Answer(f"denied: {sent}, {KEY}".encode(), 403)}
    told = failure(api, zone, SettingsError, auth=auth, path="/other")
    assert "HTTP 403" in told
    assert "denied" in told
    assert sent not in told
    assert KEY not in caplog.text


@pytest.mark.parametrize("by", ["redirect", "link"])
def test_credentials_are_never_sent_to_another_host(api: Api, zone: RawZone, by: str) -> None:
    """A redirect or a link decides where a request goes; it must not decide who gets the key."""
    with serving() as other:
        other.answers = {"*": page({"data": data(2)})}
        target = f"{other.url}/orders"
        link = page({"data": data(1)}, Link=f'<{target}>; rel="next"')
        api.answers = {"/orders": link if by == "link" else Answer(status=302, headers={"Location": target})}
        auth = {"bearer": {"secret": "env:KEY"}}
        told = failure(api, zone, PermanentError, pages={"by": "link"}, auth=auth)
        assert "leads to another address" in told
        assert other.requests == []


def test_a_redirect_on_the_same_host_is_followed(api: Api, zone: RawZone) -> None:
    """With its credentials; round in a circle it ends."""
    api.answers = {
        "/orders": Answer(status=301, headers={"Location": "/v2/orders"}),
        "/v2/orders": lambda r: page({"data": data(1)}) if r.headers.get("Authorization") else Answer(status=401),
        "/circle": Answer(status=302, headers={"Location": "/circle"}),
    }
    auth = {"bearer": {"secret": "env:KEY"}}
    assert ids(observe(api, zone, auth=auth)) == [1]
    assert "redirects more than 5 times" in failure(api, zone, PermanentError, path="/circle")


PERMANENT: dict[str, tuple[Answer, str]] = {
    "html": (Answer(b"<html>Please log in</html>", headers={"Content-Type": "text/html"}), "Please log in"),
    "html that is called JSON": (page("<html>Please log in</html>"), "isn't JSON.*Please log in"),
    "half of a document": (page('{"data": [{"id": 1'), "isn't JSON"),
    "another document": (page({"error": "quota"}), "has no 'data'.*quota"),
    "not found": (Answer(b"no such thing", 404), "HTTP 404.*no such thing"),
    "unknown status": (Answer(b"gone", 410), "HTTP 410"),
    "no row": (page({"data": []}), "delivers no row"),
    "not text": (Answer(b"\xff\xfe"), "isn't JSON"),
}


@pytest.mark.parametrize("name", PERMANENT)
def test_an_answer_that_is_no_page_ends_the_run_at_once(api: Api, zone: RawZone, name: str) -> None:
    """Asked again it would be the same; and it must never become an empty table."""
    answer, told = PERMANENT[name]
    api.answers = {"*": answer}
    message = failure(api, zone, PermanentError)
    assert re.search(told, message), message
    assert f"{api.url}/orders" in message
    assert len(api.asked) == 1


TRANSIENT: dict[str, tuple[Answer, str]] = {
    "unavailable": (Answer(b"down for maintenance", 503), "HTTP 503.*down for maintenance"),
    "throttled": (Answer(b"slow down", 429), "HTTP 429"),
    "cut in the middle": (Answer(json.dumps({"data": data(1)}).encode(), sent_bytes=5), "RemoteProtocolError"),
    "cut where no length was told": (
        Answer(json.dumps({"data": data(1)}).encode(), sent_bytes=5, tells_length=False),
        "told no length",
    ),
    "silent": (Answer(b"{}", pause_s=30), "ReadTimeout"),
    "slow": (Answer(b" " * 1000, pause_s=0.2), "took more than 1 s"),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_an_answer_that_may_be_better_in_a_moment_is_asked_for_again(api: Api, zone: RawZone, name: str) -> None:
    """Three times here, then told; once it is better, the rows are whole."""
    answer, told = TRANSIENT[name]
    limits = {"read_s": 1, "page_s": 1}
    api.answers = {"*": answer}
    message = failure(api, zone, RestartError, limits=limits)
    assert re.search(told, message), message
    assert "Gave up after 3 tries" in message
    assert len(api.asked) == 3
    api.answers = {"*": [answer, page({"data": data(1, 2)})]}
    assert ids(observe(api, zone, limits=limits)) == [1, 2]


def test_a_server_that_is_away_is_transient(api: Api, zone: RawZone) -> None:
    """Nothing listens there; it may in a moment."""
    api.url = "http://127.0.0.1:1"
    assert "ConnectError" in failure(api, zone, RestartError)


def test_retry_after_is_kept(api: Api, zone: RawZone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes back earlier is thrown out for longer."""
    monkeypatch.setenv("ETL_RETRY_WAIT_S_MAX", "5")
    throttled = Answer(b"", 429, {"Retry-After": "1"})
    api.answers = {"*": [throttled, page({"data": data(1)})]}
    assert ids(observe(api, zone)) == [1]
    assert api.times[1] - api.times[0] >= 1


def test_the_rate_limit_is_kept(api: Api, zone: RawZone) -> None:
    """10 in a second: eleven requests take a second."""
    api.answers = {f"/orders?page={n}": page({"data": data(n) if n < 11 else []}) for n in range(1, 12)}
    assert len(ids(observe(api, zone, pages={"by": "page"}, rate_limit_per_s=10))) == 10
    assert api.times[-1] - api.times[0] >= 0.95


def test_bounds_are_kept(api: Api, zone: RawZone) -> None:
    """A page of a terabyte, or pages without end, must not fill this machine."""
    api.answers = {"*": page({"data": data(1), "fill": "x" * 1_100_000})}
    assert "more than 1 MB" in failure(api, zone, PermanentError, limits={"page_mb": 1})
    api.answers = {"*": lambda r: page({"data": data(len(api.asked))})}
    told = failure(api, zone, PermanentError, path="/more", pages={"by": "page"}, limits={"pages": 5})
    assert "would be page 6" in told
    assert len([p for p in api.asked if p.startswith("/more")]) == 5


LOOPS: dict[str, tuple[dict[str, str], dict[str, Answer], str]] = {
    "cursor": (
        {"by": "cursor", "next": "next"},
        {
            "/orders": page({"data": data(1), "next": "a"}),
            "/orders?cursor=a": page({"data": data(2), "next": "b"}),
            "/orders?cursor=b": page({"data": data(3), "next": "a"}),
        },
        "Page 3 leads back to page 2",
    ),
    "link": (
        {"by": "link"},
        {"/orders": page({"data": data(1)}, Link='</orders>; rel="next"')},
        "leads back to page 1",
    ),
    "page": ({"by": "page"}, {"*": page({"data": data(1)})}, "Page 2, .*repeats page 1"),
    "offset": ({"by": "offset"}, {"*": page({"data": data(1)})}, "Page 2, .*repeats page 1"),
    "date range": (
        {"by": "date_range", "start": "2024-02-01"},
        {"*": page({"data": data(1)})},
        "Page 2, .*2024-03-01.*repeats page 1",
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_page_that_comes_again_ends_the_run(api: Api, zone: RawZone, name: str) -> None:
    """Services that ignore an unknown parameter, or link in a circle, would be read for ever or counted twice."""
    pages, api.answers, told = LOOPS[name]
    path = "/{start}/{end}" if pages["by"] == "date_range" else "/orders"
    message = failure(api, zone, PermanentError, pages=pages, path=path)
    assert re.search(told, message), message


def test_a_null_in_place_of_the_rows_is_no_last_page(api: Api, zone: RawZone) -> None:
    """A throttled service answers 200 and null at page 2 of 20: the other 18 would be missing without a word."""
    api.answers = {"/orders?page=1": page({"data": data(1, 2)}), "/orders?page=2": page({"data": None})}
    assert "page=2: data is null" in failure(api, zone, PermanentError, pages={"by": "page"})


def test_pages_that_do_not_belong_together_are_asked_for_again_by_the_same_run(api: Api, zone: RawZone) -> None:
    """A retry that took them from the raw zone would find the same difference each time."""
    pages = {"by": "page", "total": "total"}
    first, second = "/orders?page=1", "/orders?page=2"
    api.answers = {first: page({"data": data(1, 2), "total": 3}), second: page({"data": data(4), "total": 4})}
    api.answers["/orders?page=3"] = page({"data": [], "total": 4})
    with pytest.raises(DataPipelineError, match="tells 4 rows in all, its pages had 3"):
        observe(api, zone, pages=pages)
    api.answers[second] = page({"data": data(3, 4), "total": 4})

    assert ids(observe(api, zone, pages=pages)) == [1, 2, 3, 4]


def test_a_total_that_is_not_reached_is_told(api: Api, zone: RawZone) -> None:
    """Rows that were deleted or added between two pages shift all others."""
    pages = {"by": "offset", "total": "total"}
    api.answers = {
        "/orders": page({"data": data(1, 2), "total": 4}),
        "/orders?offset=2": page({"data": data(4), "total": 4}),
        "/orders?offset=3": page({"data": [], "total": 4}),
    }
    with pytest.raises(DataPipelineError, match="tells 4 rows in all, its pages had 3"):
        observe(api, zone, pages=pages)
