"""The demo's exchange rates: the bank's digits, in the public service's form, with what a person adds."""

import json
from datetime import date
from pathlib import Path

import pytest

from etl_assets.demo.rates import make_additions_file, published_rates
from etl_assets.demo.rates_server import NotFoundError, answer
from etl_resources.errors import PermanentError

TODAY = date(2026, 11, 21)


def text_of(target: str, additions: Path = Path("none.csv"), today: date = TODAY) -> str:
    return answer(target, published_rates(additions), today)


def test_digits_are_those_that_the_bank_published() -> None:
    """A float in between would change some: 20275.17 or 0.58231 have no exact binary form."""
    (usd,) = json.loads(text_of("/v1/2024-05-31?symbols=USD"), parse_float=str)["rates"].values()
    assert usd == "1.0852"
    assert '"CYP":0.58231' in text_of("/v1/1999-01-04")


def test_a_range_begins_with_the_last_day_that_has_rates() -> None:
    """The public service does so: a month that begins on a Saturday repeats a day of the month before."""
    found = json.loads(text_of("/v1/2024-06-01..2024-06-05?base=EUR&symbols=USD"))
    assert (found["amount"], found["base"]) == (1.0, "EUR")
    assert (found["start_date"], found["end_date"]) == ("2024-05-31", "2024-06-05")
    assert list(found["rates"]) == ["2024-05-31", "2024-06-03", "2024-06-04", "2024-06-05"]


def test_latest_and_currencies_are_answered() -> None:
    """What people try first."""
    assert json.loads(text_of("/v1/latest"))["date"] == "2026-10-30"
    assert {"EUR", "USD"} <= set(json.loads(text_of("/v1/currencies")))


@pytest.mark.parametrize("target", ["/v1/2027-01-01..2027-01-31", "/v1/1998-01-01", "/v1/latest?symbols=RUB", "/v2"])
def test_no_rates_are_not_found(target: str) -> None:
    """The future, the time before the euro, a suspended currency."""
    with pytest.raises(NotFoundError):
        text_of(target)


def test_a_person_adds_and_restates_rates(tmp_path: Path) -> None:
    """This is how a demo shows late data: a rouble rate that there never was, a dollar that is corrected."""
    file = tmp_path / "demo" / "rates.csv"
    make_additions_file(file)
    file.write_text(file.read_text() + "2024-05-31,RUB,98.750\n2024-05-31, USD, 1.1\n")
    make_additions_file(file)  # a second demo keeps it
    rates = json.loads(text_of("/v1/2024-05-31", file), parse_float=str)["rates"]
    assert (rates["RUB"], rates["USD"]) == ("98.750", "1.1")
    assert list(rates) == sorted(rates)


@pytest.mark.parametrize("line", ["2024-05-31,RUB", "2024-13-01,RUB,1", "2024-05-31,rub,1", "2024-05-31,RUB,1e3"])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    """A rate that silently isn't there costs an hour."""
    file = tmp_path / "rates.csv"
    file.write_text(f"date,currency,rate\n{line}\n")
    with pytest.raises(PermanentError, match=r"rates\.csv line 2 is"):
        published_rates(file)
