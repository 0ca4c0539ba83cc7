"""A row's partition as SQL: the key of a row and the condition that keeps a partition's rows agree, in every form."""

from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_resources.calendar import WHOLE
from etl_resources.contract import Contract, ContractColumn
from etl_resources.partition_sql import PartitionBy

DAY, STAMP = PartitionBy('"day"'), PartitionBy('"day"', stamp=True)
MONTHS = st.sets(st.sampled_from(["2023-12", "2024-01", "2024-02", "2024-04", "2024-12"]), min_size=1)


@cache
def engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def contract(kind: str, by: str | None) -> Contract:
    return Contract((ContractColumn("id", "bigint"), ContractColumn("day", kind)), ("id",), by)


@pytest.mark.parametrize(
    ("kind", "by", "expected"),
    [("date", "day", DAY), ("timestamptz", "day", STAMP), ("date", None, PartitionBy(None))],
)
def test_a_contract_says_what_places_its_rows(kind: str, by: str | None, expected: PartitionBy) -> None:
    """Dates and stamps differ in time zone; without a column there is one partition."""
    assert PartitionBy.of(contract(kind, by)) == expected


@settings(deadline=None)
@given(day=st.dates(date(2023, 11, 1), date(2025, 1, 31)), months=MONTHS)
def test_a_row_is_kept_by_the_partition_of_its_key_and_by_no_other(day: date, months: set[str]) -> None:
    """A row that no partition keeps is lost; one that two keep is counted twice."""
    row = f"(select date '{day}' as day)"
    (found,) = engine().execute(f"select {DAY.key()}, {DAY.keep(months)} from {row}").fetchall()
    assert found == (f"{day:%Y-%m}", f"{day:%Y-%m}" in months)


@settings(deadline=None)
@given(
    minutes=st.integers(0, 33 * 24 * 60),
    offset=st.integers(-12, 12),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Auckland"]),
)
def test_a_stamps_month_is_that_of_utc_whatever_the_session_says(minutes: int, offset: int, zone: str) -> None:
    """A server in Auckland must not put a row of January into February."""
    moment = datetime(2023, 12, 31, tzinfo=UTC) + timedelta(minutes=minutes)
    stamp, month = moment.astimezone(timezone(timedelta(hours=offset))), f"{moment:%Y-%m}"
    engine().execute(f"set timezone = '{zone}'")
    row = f"(select timestamptz '{stamp.isoformat()}' as day)"
    (found,) = engine().execute(f"select {STAMP.key()}, {STAMP.keep(['2024-01'])} from {row}").fetchall()
    assert found == (month, month == "2024-01")


def test_a_table_without_partitions_keeps_every_row_in_its_one() -> None:
    """Also those whose date is null; asked for a month, it has none."""
    whole = PartitionBy(None)
    assert (whole.key(), whole.key("postgres")) == (f"'{WHOLE}'", f"'{WHOLE}'")
    assert (whole.keep([WHOLE]), whole.keep(["2024-01"]), whole.keep([])) == ("true", "false", "false")
    assert whole.between(*whole.bounds(WHOLE)) == "true"


def test_no_partition_keeps_no_row() -> None:
    """An empty list is a condition too, not a syntax error."""
    assert DAY.keep([]) == "false"


def test_partitions_side_by_side_are_one_range() -> None:
    """Thirty-six months are one condition, which an index serves."""
    assert DAY.keep(["2024-02", "2024-01"]) == "((\"day\" >= date '2024-01-01' and \"day\" < date '2024-03-01'))"
