"""A row's partition as SQL: the key of a row and the condition that keeps a partition's rows agree."""

from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_resources.calendar import EVERY, Grain
from etl_resources.partition_sql import PartitionBy

DAY, STAMP = PartitionBy('"day"'), PartitionBy('"day"', stamp=True)
MONTHS = st.sets(st.sampled_from(["2023-12", "2024-01", "2024-02", "2024-04", "2024-12"]), min_size=1)


@cache
def engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


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


@settings(deadline=None)
@given(
    day=st.dates(date(2019, 12, 1), date(2025, 1, 31)),
    grain=st.builds(Grain, st.sampled_from(EVERY), st.integers(1, 7), st.integers(1, 12)),
    stamp=st.booleans(),
)
def test_a_key_is_the_calendars_whatever_the_grain(day: date, grain: Grain, stamp: bool) -> None:
    """The key of a row comes from SQL, the bounds from Python: they must agree."""
    by = PartitionBy('"day"', stamp, grain)
    value = f"timestamptz '{day} 23:30:00+00'" if stamp else f"date '{day}'"
    expected = grain.containing(day)
    row = engine().execute(f"select {by.key()}, {by.keep([expected])} from (select {value} as day)").fetchone()
    assert row == (expected, True)
