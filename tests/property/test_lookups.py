"""What is looked up, against a naive model: as of a day, current, or exactly; and what of it is in the version."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from etl_resources.contract import Contract, ContractColumn
from etl_resources.lookups import LookupTable, lookup_table
from etl_resources.manifest_tables import Lookup

FIRST = date(2024, 1, 1)
ORDERS = Contract(
    (ContractColumn("order_id", "bigint"), ContractColumn("currency", "string"), ContractColumn("day", "date")),
    ("order_id",), "day",
)  # fmt: skip
RATES = Contract(
    (ContractColumn("code", "string"), ContractColumn("rate_date", "date"), ContractColumn("rate", "int"),
     ContractColumn("note", "string")),
    ("code", "rate_date"), None,
)  # fmt: skip

CODES = st.sampled_from(["EUR", "USD", "RUB"])
DAYS = st.integers(0, 12).map(lambda n: FIRST + timedelta(days=n))
ORDER = st.tuples(st.integers(1, 99), st.none() | CODES, st.none() | DAYS)
RATE = st.tuples(CODES, DAYS, st.none() | st.integers(1, 3), st.sampled_from(["", "corrected"]))
ORDER_ROWS = st.lists(ORDER, max_size=8, unique_by=lambda o: o[0])
RATE_ROWS = st.lists(RATE, max_size=8, unique_by=lambda r: r[:2])
DAYS_BACK = st.none() | st.integers(0, 12)
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("create table orders (order_id bigint, currency varchar, day date)")
        connection.execute("create table rates (code varchar, rate_date date, rate int, note varchar)")
        yield connection


def fill(engine: duckdb.DuckDBPyConnection, orders: Sequence[Any], rates: Sequence[Any]) -> None:
    for table, rows, width in (("orders", orders, 3), ("rates", rates, 4)):
        engine.execute(f"delete from {table}")
        if rows:
            engine.executemany(f"insert into {table} values ({', '.join('?' * width)})", rows)


def lookup(**how: Any) -> LookupTable:
    declared = {"from_": "silver.orders", "on": {"currency": "code"}, "columns": ("rate",), **how}
    return lookup_table("silver.rates", Lookup(**declared), ORDERS, RATES)


def relation(engine: duckdb.DuckDBPyConnection, table: LookupTable) -> list[tuple[Any, ...]]:
    rows = engine.execute(f"from {table.relation('orders', 'rates')}").fetchall()
    return sorted(rows, key=repr)


def as_of(orders: Sequence[Any], rates: Sequence[Any], days_back: int | None) -> list[tuple[Any, ...]]:
    """For each currency and day: rate and date of the newest row at or before that day, not older than allowed."""
    expected = set()
    for currency, day in {(c, d) for _, c, d in orders if c is not None and d is not None}:
        usable = [r for r in rates if r[0] == currency and r[1] <= day]
        newest = max(usable, key=lambda r: r[1], default=None)
        if newest is None or (days_back is not None and newest[1] < day - timedelta(days=days_back)):
            expected.add((currency, day, None, None))
        else:
            expected.add((currency, day, newest[2], newest[1]))
    return sorted(expected, key=repr)


@MANY
@given(orders=ORDER_ROWS, rates=RATE_ROWS, days_back=DAYS_BACK)
def test_as_of_is_the_newest_row_at_or_before(
    engine: duckdb.DuckDBPyConnection, orders: list[Any], rates: list[Any], days_back: int | None
) -> None:
    """Weekends and holidays have no rate: Friday's counts, but not one of last year. Each key has exactly one row."""
    fill(engine, orders, rates)
    found = relation(engine, lookup(as_of={"day": "rate_date"}, days_back=days_back))
    assert found == as_of(orders, rates, days_back)


@MANY
@given(orders=ORDER_ROWS, rates=RATE_ROWS)
def test_the_current_row_is_the_newest_of_all(
    engine: duckdb.DuckDBPyConnection, orders: list[Any], rates: list[Any]
) -> None:
    """A segment of today for an order of last year, if that is what is declared (U3)."""
    fill(engine, orders, rates)
    expected = []
    for currency in {c for _, c, _ in orders if c is not None}:
        newest = max((r for r in rates if r[0] == currency), key=lambda r: r[1], default=(None, None, None, None))
        expected.append((currency, newest[2], newest[1]))
    assert relation(engine, lookup(latest_by="rate_date")) == sorted(expected, key=repr)


@MANY
@given(orders=ORDER_ROWS, rates=RATE_ROWS, days_back=DAYS_BACK, change=RATE, remove=st.booleans())
def test_the_version_changes_exactly_when_the_relation_does(
    engine: duckdb.DuckDBPyConnection,
    orders: list[Any], rates: list[Any], days_back: int | None, change: Any, remove: bool,
) -> None:  # fmt: skip
    """A rate of a currency that nobody used, a corrected note, a rate between two orders: no change. A miss that is
    filled, a rate that was used: a change. Only so an unrelated customer recomputes nothing, and a late rate something.
    """
    table = lookup(as_of={"day": "rate_date"}, days_back=days_back)
    other = [r for r in rates if r[:2] != change[:2]] + ([] if remove else [change])
    fill(engine, orders, rates)
    before, before_version = relation(engine, table), table.version(engine, "orders", "rates")
    fill(engine, orders, other)
    after, after_version = relation(engine, table), table.version(engine, "orders", "rates")
    assert (before == after) == (before_version == after_version)


@MANY
@given(orders=ORDER_ROWS, rates=RATE_ROWS, data=st.data())
def test_a_missed_day_that_gets_its_rate_is_a_change(
    engine: duckdb.DuckDBPyConnection, orders: list[Any], rates: list[Any], data: st.DataObject
) -> None:
    """The orders that were rejected appear by themselves once a rate is there."""
    missed = [r[:2] for r in as_of(orders, rates, None) if r[3] is None]
    assume(missed)
    currency, day = data.draw(st.sampled_from(missed))
    table = lookup(as_of={"day": "rate_date"})
    fill(engine, orders, rates)
    before = table.version(engine, "orders", "rates")
    fill(engine, orders, [*rates, (currency, day, 2, "")])
    assert table.version(engine, "orders", "rates") != before
    assert (currency, day, 2, day) in relation(engine, table)


def test_another_definition_is_another_memory() -> None:
    """What was remembered for one lookup must not be taken for another over the same contents."""
    plain = lookup(as_of={"day": "rate_date"})
    others = [
        lookup(as_of={"day": "rate_date"}, days_back=10),
        lookup(as_of={"day": "rate_date"}, columns=("rate", "note")),
        lookup(latest_by="rate_date"),
        lookup_table(
            "silver.rates",
            Lookup(from_="silver.orders", on={"currency": "code"}, as_of={"day": "rate_date"}, columns=("rate",)),
            ORDERS,
            Contract((*RATES.columns[:2], ContractColumn("note", "string"), ContractColumn("rate", "int")),
                     RATES.key, None),
        ),
    ]  # fmt: skip
    assert len({plain.definition, *(o.definition for o in others)}) == 5
    assert lookup(as_of={"day": "rate_date"}).definition == plain.definition
