"""The HTTP API source against a real server: every pagination, what is kept, and what becomes of rows."""

import gzip
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from etl_resources.extract.raw_zone import RawZone
from etl_resources.stack import StackStatus
from tests.integration.api_server import Answer, Api, Request, page
from tests.integration.api_source import KEY, data, ids, observe, rows, zone_of

pytest_plugins = ["tests.integration.api_source"]


def paged(pages: dict[str, str], content: dict[str, Any]) -> dict[str, Any]:
    return {"pages": pages, "answers": {path: page(c) for path, c in content.items()}}


PAGINATIONS = {
    "one page": {"pages": None, "answers": {"/orders": page({"data": data(1, 2, 3, 4, 5)})}},
    "page": paged(
        {"by": "page"},
        {f"/orders?page={n}": {"data": data(*i)} for n, i in enumerate([(1, 2), (3, 4), (5,), ()], start=1)},
    ),
    "page, first 0": paged(
        {"by": "page", "parameter": "p", "first": 0},
        {f"/orders?p={n}": {"data": data(*i)} for n, i in enumerate([(1, 2, 3), (4, 5), ()])},
    ),
    "page with a total": paged(
        {"by": "page", "total": "meta.total"},
        {f"/orders?page={n}": {"data": data(*i), "meta": {"total": 5}} for n, i in ((1, (1, 2, 3)), (2, (4, 5)))},
    ),
    "offset": paged(
        {"by": "offset"},
        {f"/orders{q}": {"data": data(*i)} for q, i in {"": (1, 2), "?offset=2": (3, 4, 5), "?offset=5": ()}.items()},
    ),
    "cursor": paged(
        {"by": "cursor", "next": "meta.next"},
        {
            "/orders": {"data": data(1, 2), "meta": {"next": "a/b="}},
            "/orders?cursor=a%2Fb%3D": {"data": data(3, 4), "meta": {"next": 17}},
            "/orders?cursor=17": {"data": data(5), "meta": {"next": None}},
        },
    ),
    "link in the header": {
        "pages": {"by": "link"},
        "answers": {
            "/orders": page({"data": data(1, 2)}, Link='</orders?after=2>; rel="next", </x>; rel="last"'),
            "/orders?after=2": page({"data": data(3, 4, 5)}, Link='</orders>; rel="first"'),
        },
    },
    "link in the page": paged(
        {"by": "link", "next": "links.next"},
        {
            "/orders": {"data": data(1, 2), "links": {"next": "orders?after=2"}},
            "/orders?after=2": {"data": data(3, 4, 5), "links": {}},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGINATIONS)
def test_every_page_is_read_once(api: Api, zone: RawZone, name: str) -> None:
    """Nothing is left out at the end, nothing is asked for twice, and a retry of the run asks for nothing at all."""
    case: dict[str, Any] = PAGINATIONS[name]
    api.answers = dict(case["answers"])
    delivery = observe(api, zone, pages=case["pages"])
    assert ids(delivery) == [1, 2, 3, 4, 5]
    assert api.asked == list(case["answers"])
    again = observe(api, zone, pages=case["pages"])
    assert api.asked == list(case["answers"])
    assert (ids(again), again.fingerprint) == ([1, 2, 3, 4, 5], delivery.fingerprint)


def test_another_run_asks_for_everything_again(api: Api, zone: RawZone, stack: StackStatus) -> None:
    """Pages of an earlier run may be old; equal ones are kept once, and the fingerprint says that nothing changed."""
    api.answers = {"/orders": page({"data": data(1, 2)})}
    first = observe(api, zone)
    same = observe(api, zone_of(stack, zone.dataset, "run-2"))
    assert len(api.asked) == 2
    assert same.fingerprint == first.fingerprint
    assert [p.path for p, _ in same.pages] == [p.path for p, _ in first.pages]
    api.answers = {"/orders": page({"data": data(1, 3)})}
    changed = observe(api, zone_of(stack, zone.dataset, "run-3"))
    assert changed.fingerprint != first.fingerprint
    assert (ids(first), ids(changed)) == ([1, 2], [1, 3])


def test_pages_are_kept_as_received_with_a_marker_each(api: Api, zone: RawZone) -> None:
    """An auditor asks: what did the service answer, to which request? Without the key that it was asked with."""
    text = '{ "data":[{"id" : 1, "amount":0.10, "more": "ä"}]}\n'
    api.answers = {f"/orders?a=1&key={KEY}": page(text, ETag='"v1"')}
    delivery = observe(api, zone, query={"a": "1"}, auth={"api_key": {"query": "key", "secret": "env:KEY"}})
    ((raw, _),) = delivery.pages
    assert zone.store.read(raw.path) == text.encode()
    stored = {o.path: zone.store.read(o.path) for o in zone.store.list(f"{zone.dataset}/run_id=run-1")}
    assert all(KEY.encode() not in content and KEY not in path for path, content in stored.items())
    (written,) = (json.loads(c) for path, c in stored.items() if "/page-" in path)
    assert written["request"] == f"{api.url}/orders?a=1"
    assert (written["status"], written["etag"], written["size_bytes"]) == (200, '"v1"', len(text.encode()))
    assert len(written["sha256"]) == 64
    assert rows(delivery, "id, amount, _origin") == [("1", "0.10", f"{api.url}/orders?a=1")]


def test_packed_pages_are_kept_unpacked(api: Api, zone: RawZone) -> None:
    """Most services pack when they are asked; the page is what they packed."""
    body = json.dumps({"data": data(1, 2)}).encode()
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    api.answers = {"/orders": Answer(gzip.compress(body), headers=headers)}
    delivery = observe(api, zone)
    assert ids(delivery) == [1, 2]
    assert zone.store.read(delivery.pages[0][0].path) == body


def test_date_ranges_that_overlap_deliver_a_row_once(api: Api, zone: RawZone) -> None:
    """The public rates service begins a month with the last day before it that has rates."""
    api.answers = {
        "/v1/2024-02-01..2024-02-29?base=EUR": page('{"rates": {"2024-02-29": {"USD": 1.0813, "JPY": 162.50}}}'),
        "/v1/2024-03-01..2024-03-31?base=EUR": page(
            '{"rates": {"2024-02-29": {"USD": 1.0813, "JPY": 162.50}, "2024-03-01": {"USD": 1.0800}}}'
        ),
    }
    delivery = observe(
        api, zone, path="/v1/{start}..{end}", query={"base": "EUR"}, pages={"by": "date_range", "start": "2024-02-01"},
        rows="rates.{rate_date}.{currency}", value="rate", key=("rate_date", "currency"),
        columns={"rate_date": "date", "currency": "string", "rate": "decimal(18,6)"},
    )  # fmt: skip
    assert rows(delivery, "rate_date, currency, rate") == [
        ("2024-02-29", "USD", "1.0813"),
        ("2024-02-29", "JPY", "162.50"),
        ("2024-03-01", "USD", "1.0800"),
    ]


def test_what_is_no_row_is_kept_with_its_page(api: Api, zone: RawZone) -> None:
    """A missing field, an element of another form: dead letters later on, never nothing."""
    api.answers = {"/orders": page('{"data": [{"id": 1, "amount": "x"}, {"id": 2}, 7, {"id": 3, "amount": null}]}')}
    delivery = observe(api, zone)
    origin = f"{api.url}/orders"
    assert rows(delivery, "id, amount, _unreadable, _origin") == [
        ("1", "x", None, origin),
        (None, None, 'amount is missing: {"id": 2}', origin),
        (None, None, "no mapping: 7", origin),
        ("3", None, None, origin),
    ]
    assert rows(observe(api, zone, missing="null"))[1] == ("2", None)


def test_odd_json_is_kept_as_what_is_no_row(api: Api, zone: RawZone) -> None:
    """Half a character, or an object nested deeper than can be written: legal JSON, that no column holds."""
    deep = "[" * 600 + "]" * 600
    api.answers = {
        "/orders": page(
            f'{{"data": [{{"id": 1, "amount": "\\ud83d"}}, {{"id": 2, "amount": {deep}}}, {{"id": "\\ud83d\\ude00"}}, '
            '{"id": 4, "amount": "\\ud83d\\ude00"}]}'
        )
    }
    assert rows(observe(api, zone), "id, amount, _unreadable") == [
        (None, None, 'amount has half of a character: {"id": 1, "amount": "\\ud83d"}'),
        (None, None, "amount is nested too deeply: see the page"),
        (None, None, 'amount is missing: {"id": "\U0001f600"}'),
        ("4", "\U0001f600", None),
    ]


def test_a_null_in_place_of_the_rows_ends_the_pages_where_that_is_said(api: Api, zone: RawZone) -> None:
    """Services written in Go send null for an empty list."""
    api.answers = {"/orders?page=1": page({"data": data(1, 2)}), "/orders?page=2": page({"data": None})}
    assert ids(observe(api, zone, pages={"by": "page"}, null_rows="empty")) == [1, 2]


def test_nested_rows_take_values_from_around_them(api: Api, zone: RawZone) -> None:
    """Lines inside of orders, amounts inside of objects: the usual form of a shop's API."""
    api.answers = {"/orders": page('{"data": [{"id": 7, "lines": [{"amount": {"value": 12345678901234567.89}}]}]}')}
    fields = {"id": "$.data[].id", "amount": "amount.value"}
    assert rows(observe(api, zone, rows="data[].lines[]", fields=fields)) == [("7", "12345678901234567.89")]


KILLED = """
import os, sys
from tests.integration.api_source import observe, zone_of
from tests.integration.api_server import Api
from etl_resources.stack import StackStatus
stack = StackStatus.model_validate_json(sys.argv[1])
observe(Api(url=sys.argv[2]), zone_of(stack, sys.argv[3], "run-1"), pages={"by": "page"})
"""


def test_a_killed_run_goes_on_where_it_was(api: Api, zone: RawZone, stack: StackStatus) -> None:
    """kill -9 while the third page is asked for: its retry takes the first two from the raw zone."""
    answers = {f"/orders?page={n}": page({"data": data(n) if n < 5 else []}) for n in range(1, 6)}
    child: list[subprocess.Popen[bytes]] = []

    def kill(_: Request) -> Answer:
        child[0].kill()
        return Answer(sent_bytes=0)

    api.answers = {**answers, "/orders?page=3": kill}
    arguments = [stack.model_dump_json(), api.url, zone.dataset]
    child.append(subprocess.Popen([sys.executable, "-c", KILLED, *arguments], env={**os.environ, "PYTHONPATH": "."}))
    assert child[0].wait(60) == -9
    api.answers = dict(answers)
    api.requests.clear()
    assert ids(observe(api, zone, pages={"by": "page"})) == [1, 2, 3, 4]
    assert api.asked == [f"/orders?page={n}" for n in (3, 4, 5)]
