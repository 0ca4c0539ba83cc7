"""An API that breaks while it is read: a clear error or the complete data, and what is published stays untouched."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dagster._core.utils import make_new_run_id

from tests.fault.proxy import proxy_to
from tests.integration.api_server import Answer, Api, Request, page, serving
from tests.lake import Lake, Run, new_lake
from tests.projects import RATES

BRONZE, SILVER = "bronze/currency_rates", "silver/currency_rates"
MONTHS = {"2024-01": "31", "2024-02": "29", "2024-03": "31"}
TARGETS = [f"/v1/{m}-01..{m}-{last}?base=EUR" for m, last in MONTHS.items()]
USD = {"2024-01": "1.0953", "2024-02": "1.0844", "2024-03": "1.0800"}


@dataclass
class Rates:
    """A lake that reads exchange rates from a scripted API."""

    lake: Lake
    api: Api

    def serve(self, usd: dict[str, Any]) -> None:
        """A rate a month; digits as given."""
        days = {m: f'{{"rates": {{"{m}-04": {{"USD": {rate}, "JPY": 160.50}}}}}}' for m, rate in usd.items()}
        self.api.answers = {target: page(days[m]) for target, m in zip(TARGETS, MONTHS, strict=True)}
        self.api.requests.clear()

    def run(self, **changed: str) -> Run:
        return self.lake.materialize("2024-01", **changed)

    def published(self) -> dict[str, str]:
        """Month → dollars for a euro, in silver."""
        rows = self.lake.rows(SILVER, "strftime(rate_date, '%Y-%m'), rate::varchar", "currency = 'USD'")
        return dict(rows)


def six_digits(usd: dict[str, str]) -> dict[str, str]:
    return {month: f"{rate:0<8}" for month, rate in usd.items()}


@pytest.fixture(scope="module")
def rates(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rates]:
    """Published once; the tests change and break the API."""
    with serving() as api, new_lake(tmp_path_factory.mktemp("rates"), scale=None, project=RATES) as lake:
        lake.env["RATES_URL"] = api.url
        yield Rates(lake, api)


@pytest.fixture
def published(rates: Rates) -> Rates:
    """With January to March published as in USD."""
    rates.serve(USD)
    run = rates.run()
    assert run.success, run.error
    assert rates.published() == six_digits(USD)
    return rates


def test_rates_are_published_exactly_and_pruned(rates: Rates) -> None:
    """Digits as sent, once; a second run proves that nothing changed; a restated rate is the only change."""
    rates.serve(USD)
    assert rates.run().success
    assert rates.lake.rows(BRONZE, "count(*), count(distinct (rate_date, currency))") == [(6, 6)]
    assert rates.published() == six_digits(USD)
    assert rates.run().success
    restated = {**USD, "2024-02": "1.0845"}
    rates.serve(restated)
    assert rates.run().success
    assert rates.published() == six_digits(restated)


FAULTS: dict[str, tuple[Callable[[Answer], Any], str]] = {
    "dies in the middle of a page": (lambda good: Answer(good.body, sent_bytes=20), "RemoteProtocolError"),
    "repeats a page": (lambda _: "2024-01", "repeats page 1"),
    "answers HTML": (
        lambda _: Answer(b"<p>closed</p>", headers={"Content-Type": "text/html"}),
        "instead of JSON.*closed",
    ),
    "answers half of a page": (lambda good: Answer(good.body[:20]), "isn't JSON"),
    "asks to come back later": (lambda _: Answer(b"", 429, {"Retry-After": "1"}), "HTTP 429"),
    "is slow": (lambda good: Answer(good.body, pause_s=0.3), "took more than 2 s"),
    "is silent": (lambda good: Answer(good.body, pause_s=30), "ReadTimeout"),
    "refuses the credentials": (lambda _: Answer(b"who are you?", 401), "HTTP 401.*who are you"),
    "doesn't know the path": (lambda _: Answer(b"not found", 404), "HTTP 404.*not found"),
    "has another form now": (lambda _: page({"error": "quota exceeded"}), "has no 'rates'.*quota exceeded"),
}


COMMON = ("dies in the middle of a page", "repeats a page", "answers HTML", "asks to come back later")
"""The others run with --long: the source's own tests (test_http_api_faults) have them all."""


@pytest.mark.parametrize("fault", [f if f in COMMON else pytest.param(f, marks=pytest.mark.long) for f in FAULTS])
def test_a_broken_page_changes_nothing(published: Rates, fault: str) -> None:
    """The first page is new and the second one broken: half of a delivery must never be published."""
    breaks, told = FAULTS[fault]
    restated = dict.fromkeys(USD, "2.5")
    published.serve(restated)
    good = dict(published.api.answers)
    broken = breaks(good[TARGETS[1]])
    published.api.answers[TARGETS[1]] = good[TARGETS[0]] if broken == "2024-01" else broken

    run = published.run(ETL_RETRY_STEPS="0")

    assert not run.success
    assert any(re.search(told, error) for error in run.errors), run.error
    assert published.published() == six_digits(USD)
    published.api.answers = good
    run = published.run()
    assert run.success, run.error
    assert published.published() == six_digits(restated)


def test_throttling_for_a_moment_is_ridden_out(published: Rates) -> None:
    """The usual thing: nobody shall be woken for it."""
    restated = {**USD, "2024-03": "2.5"}
    published.serve(restated)
    good = published.api.answers[TARGETS[1]]
    throttled, cut = Answer(b"", 429, {"Retry-After": "0.2"}), Answer(good.body, sent_bytes=9)
    published.api.answers[TARGETS[1]] = [throttled, cut, good]
    run = published.run()
    assert run.success, run.error
    assert published.published() == six_digits(restated)


def test_a_cut_connection_changes_nothing(published: Rates) -> None:
    """The API's machine goes away while the second page is on its way, and stays away."""
    published.serve(dict.fromkeys(USD, "2.5"))
    host, port = published.api.url.removeprefix("http://").split(":")
    with proxy_to(host, int(port)) as proxy:
        proxy.lose_answer_to(b"2024-02-01")
        run = published.run(RATES_URL=f"http://127.0.0.1:{proxy.port}", ETL_RETRY_STEPS="0")
    assert not run.success
    assert "Gave up after" in run.error
    assert published.published() == six_digits(USD)


def killed_between_pages(rates: Rates) -> str:
    """A run dies by kill -9 while it asks for the third page. Its id; what is served stays as it was."""
    good, run_id = dict(rates.api.answers), make_new_run_id()
    child = rates.lake.spawn("2024-01", run_id=run_id)

    def kill(_: Request) -> Answer:
        child.process.kill()
        return Answer(sent_bytes=0)

    rates.api.answers[TARGETS[2]] = kill
    assert child.wait() is None
    rates.api.answers = good
    return run_id


def test_a_run_that_is_killed_between_pages_goes_on(published: Rates) -> None:
    """kill -9 while the third page is asked for: the same run, started again, asks for the third page only."""
    restated = dict.fromkeys(USD, "2.5")
    published.serve(restated)
    run_id = killed_between_pages(published)
    assert published.published() == six_digits(USD)
    published.api.requests.clear()

    again = published.lake.spawn("2024-01", run_id=run_id).wait()

    assert again is not None
    assert again.success, again.error
    assert published.api.asked == [TARGETS[2]]
    assert published.published() == six_digits(restated)


def test_a_run_that_goes_on_after_another_has_captured_asks_for_everything_again(published: Rates) -> None:
    """Its pages are older than what is published: under its new, higher epoch they would be published over it."""
    published.serve(dict.fromkeys(USD, "2.5"))
    run_id = killed_between_pages(published)
    newer = dict.fromkeys(USD, "3.5")
    published.serve(newer)
    assert published.run().success
    published.api.requests.clear()

    again = published.lake.spawn("2024-01", run_id=run_id).wait()

    assert again is not None
    assert again.success, again.error
    assert published.api.asked == TARGETS
    assert published.published() == six_digits(newer)


def test_rows_that_are_no_rows_are_dead_letters_with_their_page(published: Rates) -> None:
    """No number, an object instead of one: these are kept. A number that is sent as text is one, and published."""
    published.serve({"2024-01": '"1.0953"', "2024-02": '"n/a\\u0000"', "2024-03": '{"bid": 1}'})
    run = published.run()
    assert run.success, run.error
    assert published.published() == six_digits({"2024-01": USD["2024-01"]})
    letters = published.lake.dead_letters("source, value", "asset = 'bronze.currency_rates'")
    assert len(letters) == 2
    assert {value for _, value in letters} >= {"n/a\0"}, "as it came, also what Postgres can't keep"
    assert {source for source, _ in letters} == {f"{published.api.url}{target}" for target in TARGETS[1:]}


def test_the_pages_that_were_published_are_in_the_raw_zone(published: Rates) -> None:
    """Bronze can be made again from them, and an auditor sees what the service said."""
    import boto3

    settings = published.lake.settings
    endpoint, key, secret = settings.require_s3()
    s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
                      region_name=settings.s3_region)  # fmt: skip
    bucket = str(settings.s3_bucket)
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="raw/currency_rates/")["Contents"]]
    pages = [s3.get_object(Bucket=bucket, Key=k)["Body"].read() for k in keys if not k.endswith(".json")]
    assert {published.api.answers[target].body for target in TARGETS} <= set(pages)
    assert all(Path(k).parts[2].startswith("run_id=") for k in keys)
